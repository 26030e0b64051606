"""Which of the host's services systemd keeps in a sandbox, and what a person is told about it."""

from __future__ import annotations

from collections.abc import Collection

from . import paths
from .host import Host

SERVICES = ("nginx", "supervisor")


def decide(choice: str, host: Host) -> dict[str, bool]:
    """Return {service: whether it is to be in a sandbox}, for an input ``websockets_sandbox``.

    ``auto`` leaves a service alone that has something of another program's: that may need what a sandbox takes away. A
    sandbox that is there stays: what has come since has come to a host with one.
    """
    if host.init != "systemd":
        return dict.fromkeys(SERVICES, False)
    if choice != "auto":
        return dict.fromkeys(SERVICES, choice == "always")
    found = host.sandboxes
    return {name: found[name].on or not found[name].neighbours for name in SERVICES}


def say(sandboxed: dict[str, bool], choice: str, host: Host, differing: Collection[str]) -> str:
    """Return the sentence for the end of a deploy.

    :param sandboxed: what :func:`decide` has returned
    :param differing: paths of the host's files that this run writes
    """
    if host.init != "systemd":
        return "none: sandboxes are systemd's, and this host has another init"
    found = host.sandboxes
    words = [" and ".join(name for name in SERVICES if sandboxed[name]) or "none"]
    if choice == "never":
        words.append("websockets_sandbox is never")
    for name in SERVICES:
        if not sandboxed[name] and choice == "auto":
            others = ", ".join(found[name].neighbours)
            words.append(f"not {name}, which has {others} too: websockets_sandbox=always if that may be in one")
    late = [
        name
        for name in SERVICES
        if name not in host.idle_services and (found[name].late or paths.sandbox(name) in differing)
    ]
    if late:
        words.append(f"from the next start of {' and '.join(late)} on, which cuts clients and is left to you")
    return "; ".join(words)
