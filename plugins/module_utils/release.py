"""A release: the files, packages and settings of an app's processes, its id, and its names on a host."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import re
import shlex
import shutil
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from . import paths
from .inputs import APP_NAME, Inputs
from .record import from_dict, load

# The file that is written last into a virtual environment. An environment without it is incomplete, and is made again.
COMPLETE = ".complete"
# The folder with the wheel of the app itself, among those that the control node sends.
OWN_WHEEL = "own"
# Files of the role that stand for the meaning of the templates program.conf.j2 and run.j2 in every id. The first is that
# of the present templates; the others are of releases that an older version has deployed. If the meaning of the templates
# changes, add another file at the front.
PROCESS = ("files/process-2.json", "files/process-1.json")
# A file in a release that has had the traffic. It has the id of the release before; its date is when the traffic came.
_PREVIOUS = "previous"
# An empty file in a release whose websockets_before_start has run to its end.
_PREPARED = "prepared"
# What an id looks like.
ID = "[0-9a-f]{12}"
_LOG = re.compile(rf"-({ID})\.log[.0-9]*$")
# nginx's shared memory for an app holds as many processes.
MOST_PROCESSES = 512
# Between the app's name and a worker's in Supervisor's names. Neither can have it, so no other process has such a name.
_OF_WORKER = "."

Findings = dict[str, tuple[str, str]]
"""{relative path: (kind, value)} of an app's files, see :func:`describe`."""


@dataclass(frozen=True)
class Process:
    """One process.

    :param socket: its Unix socket, empty for a worker's
    :param peer: the same socket in nginx's upstream, by the live link; empty for a worker's
    :param log: the file to which supervisord writes its output
    """

    name: str
    socket: str
    peer: str
    log: str


@dataclass(frozen=True)
class Worker:
    """Processes of a release that serve no clients, all of one command, and what they are called on a host.

    :param stopwaitsecs: seconds until they are killed at a stop
    :param runs_for: seconds that each has to run before the release gets traffic
    :param program: their program in Supervisor, one of the release's group
    :param process_name: Supervisor's ``process_name``
    :param log_file: Supervisor's ``stdout_logfile``
    """

    name: str
    numprocs: int
    stopwaitsecs: int
    runs_for: int
    program: str = ""
    process_name: str = ""
    log_file: str = ""
    processes: list[Process] = field(default_factory=list)

    def of(self, app: str, id: str) -> Worker:
        """Return it with its names in the release of this id."""
        process_name = f"{app}{_OF_WORKER}{self.name}_%(process_num)02d"
        log_file = f"{paths.LOG}/{app}/{process_name}-{id}.log"
        numbers = [{"process_num": number} for number in range(self.numprocs)]
        processes = [Process(process_name % number, "", "", log_file % number) for number in numbers]
        program = f"{app}-{id}{_OF_WORKER}{self.name}"
        return replace(self, program=program, process_name=process_name, log_file=log_file, processes=processes)


@dataclass(frozen=True)
class Release:
    """A release, and the names of everything of it on a host.

    :param user: user of its processes
    :param venv: folder of its packages
    :param base: folder of the app
    :param path: folder of the release
    :param code: folder of the app's files in it
    :param script: the script that starts one of its processes
    :param script_socket: that process's socket, written with the script's variables
    :param script_starts: the file that counts the process's starts, written in the same way
    :param command_script: the script that runs any command in the environment of its processes
    :param before_start_script: the script that runs ``websockets_before_start``; there is none if that is empty
    :param live_link: the link to the sockets of the release with the traffic
    :param next_link: the link to the sockets of a release that proves itself before it gets the traffic
    :param next_socket: the socket of one of its processes, written with a variable of nginx's
    :param next_file: nginx's file with the server that reaches it
    :param next_host: that server's name
    :param runtime: folder of the sockets of all releases of the app
    :param sockets: folder of its sockets
    :param home: home folder of its processes
    :param data: folder of the app's data, which all of its releases share; empty if this one does not use it
    :param logs: folder of the logs of all releases of the app
    :param program: its program in Supervisor; with workers also the group of all of its programs
    :param program_file: the link from Supervisor's folder to the release's program.conf
    :param process_name: Supervisor's ``process_name``
    :param log_file: Supervisor's ``stdout_logfile``
    :param upstream: nginx's upstream of the app
    """

    app: str
    id: str
    user: str
    venv: str
    numprocs: int
    base: str
    path: str
    code: str
    script: str
    script_socket: str
    script_starts: str
    command_script: str
    before_start_script: str
    live_link: str
    next_link: str
    next_socket: str
    next_file: str
    next_host: str
    runtime: str
    sockets: str
    home: str
    logs: str
    program: str
    program_file: str
    process_name: str
    log_file: str
    upstream: str
    processes: list[Process] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    data: str = ""

    @classmethod
    def of(
        cls,
        app: str,
        id: str,
        user: str = "",
        venv: str = "",
        numprocs: int = 0,
        workers: Iterable[Worker] = (),
        data: str = "",
    ) -> Release:
        """Return the release of this id. To stop it, the app and the id are enough."""
        base, runtime, logs = paths.app_base(app), f"{paths.RUN}/{app}", f"{paths.LOG}/{app}"
        path, sockets, live_link = f"{base}/releases/{id}", f"{runtime}/{id}", paths.live_link(app)
        process_name = f"{app}_%(process_num)02d"
        log_file = f"{logs}/{process_name}-{id}.log"
        processes = []
        for number in range(numprocs):
            name = process_name % {"process_num": number}
            log = log_file % {"process_num": number}
            processes.append(Process(name, paths.socket(sockets, name), paths.socket(live_link, name), log))
        return cls(
            app=app,
            id=id,
            user=user,
            venv=venv,
            numprocs=numprocs,
            base=base,
            path=path,
            code=f"{path}/app",
            script=f"{path}/run",
            script_socket=paths.socket("$folder", "$SUPERVISOR_PROCESS_NAME"),
            script_starts=paths.starts("$folder", "$SUPERVISOR_PROCESS_NAME"),
            command_script=f"{path}/command",
            before_start_script=f"{path}/before_start",
            live_link=live_link,
            next_link=paths.next_link(app),
            next_socket=paths.socket(paths.next_link(app), "$websockets_process"),
            next_file=paths.next_file(app),
            next_host=f"{app}.invalid",
            runtime=runtime,
            sockets=sockets,
            home=f"{paths.app_data(app)}/{user}",
            logs=logs,
            program=f"{app}-{id}",
            program_file=f"{paths.programs()}/websockets-{app}-{id}.conf",
            process_name=process_name,
            log_file=log_file,
            upstream=f"websockets_{app}",
            processes=processes,
            workers=[worker.of(app, id) for worker in workers],
            data=data,
        )

    def program_of(self, process: str) -> str:
        """Return the program in Supervisor of one of the release's processes."""
        return self.program + "".join(process.rpartition("_")[0].partition(_OF_WORKER)[1:])


def is_worker(process: str) -> bool:
    """Tell whether a process of this name in Supervisor serves no clients."""
    return _OF_WORKER in process


@dataclass(frozen=True)
class Revision:
    """The git revision of an app's code.

    :param commit: its full name; empty if the code is from no git repository, or an earlier version of the role has not
        recorded it
    :param tag: a tag of exactly this commit, empty if it has none
    :param changed: whether the folder had changes that are not committed
    """

    commit: str = ""
    tag: str = ""
    changed: bool = False

    def __str__(self) -> str:
        """Return it for people, such as ``v1.2.0, 4f2a9c1``; empty if it is not known."""
        return ", ".join(filter(None, (self.tag, self.commit[:7]))) + ("+changes" if self.changed else "")

    def after(self, name: str) -> str:
        """Return the name of a release with its revision, such as ``d31f62ed7a29 (v1.2.0, 4f2a9c1)``."""
        return f"{name} ({self})" if self.commit else name


@dataclass(frozen=True)
class Stored:
    """A release on a host.

    :param files: its code, {relative path: kind and value}
    :param previous: id of the release that was live before it; empty for the app's first, None if it has never been live
    :param since: when it last got the traffic, in seconds since the epoch
    :param revision: the git revision from which it was built
    :param before_start: whether it has a command that runs before its processes start
    :param prepared: whether that command has run to its end
    """

    release: Release
    files: dict[str, str]
    previous: str | None = None
    since: float = 0.0
    revision: Revision = Revision()
    before_start: bool = False
    prepared: bool = False

    @property
    def called(self) -> str:
        """Its id, with its revision if that is known."""
        return self.revision.after(self.release.id)

    @property
    def been_live(self) -> bool:
        """Whether the release has ever had the traffic."""
        return self.previous is not None


@dataclass(frozen=True)
class _Record:
    """What is read of a release.json."""

    id: str
    user: str
    venv: str
    numprocs: int
    files: dict[str, str]
    revision: Revision = Revision()
    workers: list[Worker] = field(default_factory=list)
    data: str = ""


def digest(value: Any) -> str:
    """Return 12 hexadecimal digits (48 bits) of the sha256 of a value made of JSON's types."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


# Inputs that are part of the id: they change the processes, as code and packages do.
_OF_PROCESSES = (
    *("command", "environment", "secrets", "user", "stopwaitsecs", "ping_interval", "drain_rate", "max_connections"),
)
# The same, of inputs that are younger than releases on hosts: they count if they are set.
_OF_PROCESSES_IF_SET = ("before_start",)


def derive(inputs: Inputs, numprocs: int, found: Findings, requirements: str, python: str, process: Any) -> Release:
    """Return the release that the inputs describe.

    :param numprocs: number of its processes
    :param found: the app's files, from :func:`source.scan`
    :param requirements: text that decides the packages, from :func:`source.requirements`
    :param python: version of the interpreter on the host, such as ``3.13``
    :param process: the content of one of :data:`PROCESS`
    """
    venv = digest([requirements, inputs.python, python, inputs.pip_args])
    further = {name: getattr(inputs, name) for name in _OF_PROCESSES}
    further |= {name: value for name in _OF_PROCESSES_IF_SET if (value := getattr(inputs, name))}
    if workers := workers_of(inputs):
        # Not how long each has to run at the gate: it changes no process.
        further["workers"] = [
            [one.name, inputs.workers[one.name]["command"], one.numprocs, one.stopwaitsecs] for one in workers
        ]
    id = digest([found, venv, process, {**further, "numprocs": numprocs}])
    venv_path = f"{paths.app_base(inputs.app)}/venvs/{venv}"
    data = paths.data(inputs.app) if uses_data(inputs) else ""
    return Release.of(inputs.app, id, inputs.user, venv_path, numprocs, workers, data)


def workers_of(inputs: Inputs) -> list[Worker]:
    """Return the workers that the inputs describe, sorted by name."""
    usual = {"numprocs": 1, "stopwaitsecs": inputs.stopwaitsecs, "runs_for": 5}
    return [
        Worker(name, **{key: given.get(key, value) for key, value in usual.items()})
        for name, given in sorted(inputs.workers.items())
    ]


def uses_data(inputs: Inputs) -> bool:
    """Tell whether any input has the placeholder of the app's data."""
    commands = [inputs.command, inputs.before_start, *(worker["command"] for worker in inputs.workers.values())]
    return any("{data}" in str(text) for text in (*commands, *inputs.environment.values(), *inputs.secrets.values()))


def choose(derived: Sequence[Release], live: str, there: Container[str], venvs: Container[str]) -> Release:
    """Return the release to deploy: the live one if the inputs are the same, however its processes are run.

    :param derived: what :func:`derive` returns for each of :data:`PROCESS`
    :param live: id of the live release
    :param there: ids of the releases on the host
    :param venvs: paths of the complete virtual environments on the host
    """
    same = (one for one in derived if one.id == live and one.id in there and one.venv in venvs)
    return next(same, derived[0])


def describe(path: str) -> tuple[str, str] | None:
    """Return ``(kind, value)`` of a file in a release, None if the path is neither a file nor a link.

    ``kind`` is ``file`` or ``executable`` (the value is the sha256 of its content), or ``link`` (the value is its target).
    """
    if os.path.islink(path):
        return "link", os.readlink(path)
    if not os.path.isfile(path):
        return None
    content = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            content.update(block)
    return "executable" if os.stat(path).st_mode & 0o100 else "file", content.hexdigest()


def shell_word(text: object, placeholders: Mapping[str, object]) -> str:
    """Return a word of a shell script that means ``text`` with its placeholders replaced, and nothing else.

    :param placeholders: {name: value}, without ``{socket}``, which becomes the script's first argument, ``$1``
    """
    word = str(text)
    for name, value in placeholders.items():
        word = word.replace(f"{{{name}}}", str(value))
    quoted = [shlex.quote(part) if part else "" for part in word.split("{socket}")]
    return '"$1"'.join(quoted) or "''"


def programs(app: str) -> list[str]:
    """Return the sorted ids of the app's releases that have a program file in Supervisor's folder."""
    names = map(os.path.basename, glob.glob(Release.of("*", "*").program_file))
    pattern = re.compile(rf"websockets-{re.escape(app)}-({ID})\.conf")
    return sorted(match[1] for name in names if (match := pattern.fullmatch(name)))


def live_id(app: str) -> str:
    """Return the id of the release that gets the traffic, empty if no release does."""
    try:
        id = os.path.basename(os.readlink(paths.live_link(app)))
    except OSError:
        return ""
    return id if re.fullmatch(ID, id) else ""


def still_serves(app: str) -> str:
    """Return what serves after a step of a deploy has failed, as the end of a sentence."""
    return "nginx serves what it served before" if live_id(app) else f"nothing of {app} was serving before"


def discard(release: Release) -> None:
    """Remove a release that has failed, unless it has ever had the traffic. Its packages and its logs stay for the next try."""
    if not os.path.exists(f"{release.path}/{_PREVIOUS}"):
        for folder in (release.path, paths.pages(release.app, release.id)):
            shutil.rmtree(folder, ignore_errors=True)


def point(link: str, target: str) -> None:
    """Point a symbolic link at ``target`` by one rename(2), so that the link exists at every moment."""
    beside = f"{link}.new"
    if os.path.lexists(beside):
        os.unlink(beside)
    os.symlink(target, beside)
    os.rename(beside, link)


def stored(app: str) -> dict[str, Stored]:
    """Return {id: release} of the app's releases on this host, without those whose record cannot be read."""
    found = {id: _stored(app, id) for id in folders(app)}
    return {id: release for id, release in found.items() if release}


def folders(app: str) -> list[str]:
    """Return the sorted ids of all releases that have a folder on this host, whether they can be read or not."""
    try:
        names = os.listdir(f"{paths.app_base(app)}/releases")
    except OSError:
        return []
    return sorted(name for name in names if re.fullmatch(ID, name))


def _stored(app: str, id: str) -> Stored | None:
    """Return a release on this host, None if its record cannot be read."""
    path = Release.of(app, id).path
    try:
        record = from_dict(_Record, load(f"{path}/release.json"))
    except (OSError, ValueError, TypeError):
        return None
    numbers = [record.numprocs, *(worker.numprocs for worker in record.workers)]
    if record.id != id or not all(1 <= number <= MOST_PROCESSES for number in numbers):
        return None
    previous, since = None, 0.0
    with contextlib.suppress(OSError), open(f"{path}/{_PREVIOUS}", encoding="utf-8", errors="replace") as file:
        text, since = file.read().strip(), os.fstat(file.fileno()).st_mtime
        previous = text if re.fullmatch(ID, text) else ""
    release = Release.of(app, id, record.user, record.venv, record.numprocs, record.workers, record.data)
    before_start, prepared = map(os.path.exists, (release.before_start_script, f"{path}/{_PREPARED}"))
    return Stored(release, record.files, previous, since, record.revision, before_start, prepared)


def apps() -> list[str]:
    """Return the sorted names of the apps that have a release on this host. One whose first deploy has failed has none."""
    names = {path.split("/")[-3] for path in glob.glob(f"{paths.app_base('*')}/releases/*")}
    return sorted(name for name in names if APP_NAME.fullmatch(name))


def venvs(app: str) -> list[str]:
    """Return the paths of the app's complete virtual environments."""
    return [os.path.dirname(path) for path in glob.glob(f"{glob.escape(paths.app_base(app))}/venvs/*/{COMPLETE}")]


def went_live(release: Release, previous: str | None) -> None:
    """Record that a release has got the traffic.

    :param previous: id of the release that had it before, empty for none; None for a rollback, which keeps the record
    """
    marker = f"{release.path}/{_PREVIOUS}"
    if previous is None:
        os.utime(marker)
        return
    if os.path.isdir(marker):
        shutil.rmtree(marker)
    with open(marker, "w", encoding="utf-8") as file:
        file.write(f"{previous}\n")


def forget(release: Release, files: Container[str]) -> None:
    """Take these files, which are not any more what they were, out of the record of a release."""
    path = f"{release.path}/release.json"
    record = load(path)
    record["files"] = {name: what for name, what in record["files"].items() if name not in files}
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(record, file, indent=1, sort_keys=True)
    os.rename(f"{path}.new", path)


def is_prepared(release: Release) -> None:
    """Record that the command before the start of a release has run to its end."""
    os.sync()
    with open(f"{release.path}/{_PREPARED}", "w", encoding="utf-8"):
        pass


def differ(files: Mapping[str, str], code: str) -> list[str]:
    """Return the paths of the files in a folder whose kind or content is wrong."""
    return [path for path, what in files.items() if " ".join(describe(f"{code}/{path}") or ()) != what]


def unneeded(app: str, keep: int) -> tuple[list[str], list[str]]:
    """Return what no rollback needs, as ids of releases and as paths.

    It is the releases beyond the newest ``keep``, the releases that have never been live or cannot be read, and their
    packages and logs. The live release and the release before it stay.
    """
    found, now, base = stored(app), live_id(app), glob.escape(paths.app_base(app))
    newest = sorted((id for id in found if found[id].been_live), key=lambda id: found[id].since, reverse=True)
    kept = {now, *newest[:keep]} | ({found[now].previous} & set(found) if now in found else set())
    ids = [id for id in folders(app) if id not in kept]
    gone = glob.glob(f"{base}/releases/.*.partial") + [Release.of(app, id).path for id in ids]
    gone += [path for path in glob.glob(f"{base}/pages/*") if os.path.basename(path) not in {"live", *kept}]
    # A release that has failed is gone already, and its logs are not.
    logs = glob.glob(f"{glob.escape(Release.of(app, '').logs)}/*.log*")
    gone += [log for log in logs if (named := _LOG.search(log)) and named[1] not in kept]
    used = {found[id].release.venv for id in set(found) & kept}
    if not now or now in found:  # otherwise nothing says which packages the live release uses
        gone += [venv for venv in glob.glob(f"{base}/venvs/*") if venv not in used]
    return ids, gone


def prune(app: str, keep: int) -> list[str]:
    """Remove what :func:`unneeded` returns; return the ids of the removed releases."""
    ids, gone = unneeded(app, keep)
    for path in gone:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    return ids
