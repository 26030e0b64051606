"""A run of ansible-playbook, which holds the lock of a host."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """One run.

    :param id: differs from the ids of all other runs
    :param who: its user, node and process, for messages
    """

    id: str
    who: str
