"""The plan of a run on one host: what follows from the inputs and the host, and which steps have anything to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from . import paths, sandbox, sizing
from .host import Host
from .inputs import Inputs
from .probe import Probe
from .release import Release, Revision
from .run import Run
from .site import Site, sample
from .sizing import Sizes

PURPOSES = ("deploy", "rollback", "restart", "maintenance", "remove", "bootstrap")


@dataclass(frozen=True)
class Code:
    """The app's code on the control node.

    :param folder: its folder
    :param scan: file with the :class:`source.Scan` of that folder
    :param requirements: file with the requirements of its lock, empty without a lock
    :param installs_itself: whether pip installs code of the app too
    :param wheels: archive with the wheels for the host, empty if the host's pip gets or makes them
    """

    folder: str
    scan: str
    revision: Revision = field(default_factory=Revision)
    requirements: str = ""
    installs_itself: bool = False
    wheels: str = ""


@dataclass(frozen=True)
class Todo:
    """What each step has to do, by the names of their tasks' files; a step that has nothing to do is skipped.

    Each is a list of words that go on from "this run would".
    """

    host: list[str] = field(default_factory=list)
    release: list[str] = field(default_factory=list)
    before_start: list[str] = field(default_factory=list)
    start: list[str] = field(default_factory=list)
    drain: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """What the role's tasks and templates read, as a dictionary.

    :param purpose: one of :data:`PURPOSES`
    :param inputs: the inputs that a result may have
    :param recorded: whether they are those that the app's last deploy has recorded on the host
    :param code: None for a rollback or a removal
    :param called: the release's id, with its git revision if that is known
    :param group: primary group of the app's user
    :param sandboxed: {service: whether it has to be in a sandbox}
    :param tmpfiles: path of the app's file in tmpfiles.d
    :param maintenance: path of the file that is there while the app is in maintenance
    :param sandbox_says: the words about the sandboxes for the end of a deploy
    :param scheduling_says: those about the services' scheduling
    :param relies_on: the play's first host, if the command before the start has to run there and not here; empty otherwise
    :param settled: whether the host is as this run would leave it, and has proved it: the other steps are skipped
    :param host_files: the host's own files that this run writes, each with dest, mode and text, and ``new``: whether
        there is no such file yet
    """

    purpose: str
    run: Run
    inputs: dict[str, Any]
    code: Code | None
    host: Host
    release: Release
    group: str
    probe: Probe
    site: Site
    sizes: Sizes
    placeholders: dict[str, str]
    sandboxed: dict[str, bool]
    tmpfiles: str
    maintenance: str
    recorded: bool = False
    called: str = ""
    sandbox_says: str = ""
    scheduling_says: str = ""
    relies_on: str = ""
    settled: bool = False
    host_files: list[dict[str, Any]] = field(default_factory=list)
    todo: Todo = field(default_factory=Todo)


def probe_of(inputs: Inputs, site: Site) -> Probe:
    """Return the handshake that the app's processes and nginx have to answer."""
    given = {name.lower() for name in map(str, inputs.gate_headers)}
    return Probe(
        server_name=site.host_header,
        path=inputs.gate_path,
        message=inputs.gate_message,
        timeout=inputs.gate_timeout,
        origin=sample(site.origins[0]) if inputs.origin_required and "origin" not in given else "",
        proxy_protocol=inputs.proxy_protocol,
        certificate=site.certificate.path if site.certificate else "",
    )


def sizes_of(inputs: Inputs, host: Host) -> Sizes:
    """Return the sizes for this host, where another app may need more already."""
    return sizing.sizes(inputs.max_connections, inputs.message_size, host.minfds, host.nginx_nofile)


def placeholders(inputs: Inputs, release: Release, sizes: Sizes) -> dict[str, str]:
    """Return {placeholder: value} for the command and the environment, all but ``{socket}``."""
    return {
        "venv": release.venv,
        "release": release.code,
        "data": paths.data(release.app),
        "ping_interval": str(inputs.ping_interval),
        "backlog": str(sizes.backlog),
    }


def say_sandbox(plan: Plan, choice: str) -> str:
    """Return the words about the host's sandboxes for the end of a deploy.

    :param choice: ``websockets_sandbox``
    """
    return sandbox.say(plan.sandboxed, choice, plan.host, [file["dest"] for file in plan.host_files])


def relies_on(plan: Plan, me: str, first: str) -> str:
    """Return the play's first host if the command before the start has to run there and not here, empty otherwise.

    :param me: this host
    """
    return first if me != first and plan.inputs["before_start_on"] == "one" and _is_due(plan) else ""


def todo(plan: Plan, files: int = 0) -> Todo:
    """Return what each step has to do on the host.

    :param files: number of the app's files, for a deploy
    """
    host, release = plan.host, plan.release
    if plan.purpose == "remove":
        return Todo(drain=["drain and remove all releases"])
    if plan.purpose == "maintenance":
        return Todo()
    if plan.purpose == "restart":
        return Todo(start=[f"restart {_count(release)} of {release.id} one after the other"])
    live = host.live == release.id
    start, drain = [], []
    if not live:
        runs = ", and each worker has run for a while" if release.workers else ""
        start = [f"start {_count(release)} of {release.id} and wait until each answers a handshake{runs}"]
    elif not host.serves:
        runs = ", and its workers that do not run" if release.workers else ""
        start = [f"start those processes of the live release {release.id} again that do not answer{runs}"]
    if old := sorted({*host.programs, *filter(None, [host.live])} - {release.id}):
        drain.append(f"drain {', '.join(old)}")
    # With one more, the host may have one too many.
    if host.unneeded or (host.releases and not live and not drain):
        drain.append("remove what no rollback needs")
    if host.replaced:
        drain.append(f"drain and remove {plan.inputs['replaces']}, in whose place it comes")
    due = _is_due(plan) and not plan.relies_on
    before_start = [f"run the command before the start of {release.id}"] if due else []
    if plan.purpose == "rollback":
        return Todo(before_start=before_start, start=start, drain=drain)
    return Todo(host=_prepare(plan), release=_put(plan, files), before_start=before_start, start=start, drain=drain)


def _count(release: Release) -> str:
    """Return how many processes a release has, for people."""
    workers = sum(worker.numprocs for worker in release.workers)
    return (f"{workers} workers and " if workers else "") + f"{len(release.processes)} processes"


def _prepare(plan: Plan) -> list[str]:
    host = plan.host
    words = {
        "install {} by apt": host.missing_packages,
        "create the user {}": [] if host.group else [plan.release.user],
        "write {}": [file["dest"] for file in plan.host_files],
        "make {}": [] if host.folders else ["the app's folders"],
        "have systemd read {}": ["its files"] if host.stale_units else [],
        "start {}": host.idle_services,
    }
    return [said.format(", ".join(names)) for said, names in words.items() if names]


def _is_due(plan: Plan) -> bool:
    """Tell whether the command before the start of the release has to run, on this host or on the first one."""
    host, inputs = plan.host, plan.inputs
    there = host.releases.get(plan.release.id)
    if plan.purpose == "rollback":
        return bool(inputs["before_start_at_rollback"] and there and there.before_start)
    return bool(inputs["before_start"] and host.live != plan.release.id and not (there and there.prepared))


def _put(plan: Plan, files: int) -> list[str]:
    host, release = plan.host, plan.release
    words = []
    if release.id not in host.releases:
        words.append(f"put release {release.id} in place ({files} files)")
    if release.venv not in host.venvs:
        words.append(f"install the packages of {release.id} into {release.venv}")
    return words
