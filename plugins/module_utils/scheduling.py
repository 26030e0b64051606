"""How the kernel shares out the processors to the services, and the words about it for the end of a deploy."""

from __future__ import annotations

from .host import Host
from .sandbox import SERVICES

BATCH = "batch"


def say(choice: str, host: Host) -> str:
    """Return the words about the services' scheduling for the end of a deploy, empty if it is the kernel's default.

    :param choice: ``websockets_cpu_scheduling``: ``other`` or ``batch``
    """
    if choice != BATCH:
        return ""
    if host.init != "systemd":
        return "other, because batch needs systemd and this host has another init"
    # A service that is idle is started by this run.
    late = [name for name in SERVICES if name not in {*host.batched, *host.idle_services}]
    there = [name for name in SERVICES if name not in late]
    words = {"": there, " after the next restart, which disconnects all clients": late}
    return "; ".join(f"{BATCH} for {' and '.join(names)}{when}" for when, names in words.items() if names)
