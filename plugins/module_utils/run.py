"""A run: one ansible-playbook at work on a host, as the lock knows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """``id`` tells a run from all others; ``who`` is for people."""

    id: str
    who: str
