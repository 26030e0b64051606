"""Which services systemd runs in a sandbox, and the words about it for the end of a deploy."""

from __future__ import annotations

from collections.abc import Collection

from . import paths
from .host import Host

SERVICES = ("nginx", "supervisor")


def decide(choice: str, host: Host) -> dict[str, bool]:
    """Return {service: whether it has to be in a sandbox}.

    With ``auto`` a service that also works for others gets no sandbox, because their work may need what a sandbox takes
    away. A sandbox that exists stays: work that was added later was added to a sandbox.

    :param choice: ``websockets_sandbox``: ``auto``, ``always`` or ``never``
    """
    if host.init != "systemd":
        return dict.fromkeys(SERVICES, False)
    if choice != "auto":
        return dict.fromkeys(SERVICES, choice == "always")
    found = host.sandboxes
    return {name: found[name].on or not found[name].neighbours for name in SERVICES}


def say(sandboxed: dict[str, bool], choice: str, host: Host, differing: Collection[str]) -> str:
    """Return the words about the sandboxes for the end of a deploy.

    :param sandboxed: what :func:`decide` has returned
    :param differing: paths of the host's own files that this run writes
    """
    if host.init != "systemd":
        return "none: sandboxes need systemd, and this host has another init"
    found = host.sandboxes
    words = [" and ".join(name for name in SERVICES if sandboxed[name]) or "none"]
    if choice == "never":
        words.append("websockets_sandbox is never")
    for name in SERVICES:
        if not sandboxed[name] and choice == "auto":
            others = ", ".join(found[name].neighbours)
            words.append(
                f"not {name}, which also has {others}: use websockets_sandbox=always if that can run in a sandbox"
            )
    late = [
        name
        for name in SERVICES
        if name not in host.idle_services and (found[name].late or paths.sandbox(name) in differing)
    ]
    if late:
        words.append(f"in force after your next restart of {' and '.join(late)}, which disconnects all clients")
    return "; ".join(words)
