"""Which services systemd runs in a sandbox, and the words about it for the end of a deploy."""

from __future__ import annotations

from collections.abc import Collection

from . import paths
from .host import Host, Sandbox

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
        return "off, because sandboxes need systemd and this host has another init"
    services: dict[str, list[str]] = {}
    for name in SERVICES:
        writes = paths.sandbox(name) in differing
        said = _say(sandboxed[name], choice, host.sandboxes[name], writes, name not in host.idle_services)
        services.setdefault(said, []).append(name)
    return "; ".join(said.format(" and ".join(names)) for said, names in services.items())


def _say(wanted: bool, choice: str, found: Sandbox, writes: bool, runs: bool) -> str:
    """Return the words about one service, with ``{}`` for its name.

    :param writes: whether this run writes the service's file
    :param runs: whether the service runs already; otherwise this run starts it
    """
    late = runs and (found.late or writes)
    restart = "after the next restart, which disconnects all clients"
    if wanted and late:
        return f"on for {{}}, with its new rules {restart}" if found.now else f"on for {{}} {restart}"
    if wanted:
        return "on for {}"
    if runs and found.now:
        return f"off for {{}} {restart}"
    if choice == "never":
        return "off for {}, because websockets_sandbox is never"
    others = ", ".join(found.neighbours)
    return f"off for {{}}, which also has {others} (websockets_sandbox=always would put it in a sandbox)"
