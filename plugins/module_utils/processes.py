"""Everything that a program of Supervisor has started, whatever has become of the process that Supervisor knows.

Supervisor puts the names of a process into its environment, and all that it starts inherits them: they are its mark, which
the kernel shows in /proc/PID/environ. What has cleared or overwritten its environment is found by its parent, its process
group or its session.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import struct
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from . import paths, unix
from .release import ID

_NAMES = (b"SUPERVISOR_GROUP_NAME", b"SUPERVISOR_PROCESS_NAME", b"SUPERVISOR_SERVER_URL")
# Seconds in which a process is gone after SIGKILL.
_KILLED = 10


@dataclass(frozen=True)
class Process:
    """One process of the kernel's, the same by its pid and its start: a pid alone may soon be another one's.

    :param start: when it has started, in the kernel's ticks
    :param parent: pid of its parent
    :param group: id of its process group, which is the pid of the process that has made it
    :param session: id of its session, in the same way
    """

    pid: int
    start: int
    parent: int = field(compare=False)
    group: int = field(compare=False)
    session: int = field(compare=False)

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return _process(self.pid) == self

    @property
    def command(self) -> str:
        """Its program and arguments, as far as they are good for a message."""
        try:
            with open(f"/proc/{self.pid}/cmdline", encoding="utf-8", errors="replace") as file:
                return file.read().replace("\0", " ").strip()[:100]
        except OSError:
            return ""

    def send(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def mark(program: str, name: str) -> dict[str, str]:
    """Return the environment that marks a process as one of a program, as Supervisor does."""
    group, process, url = map(os.fsdecode, _NAMES)
    return {group: program, process: name, url: f"unix://{paths.SUPERVISOR_SOCKET}"}


def of(program: str, name: str = "", known: Collection[Process] = ()) -> set[Process]:
    """Return the processes that a program of Supervisor has started, or only those of one of its processes.

    :param name: Supervisor's name of that process
    :param known: processes of it, which may have ended since
    """
    table, marks = _table(), _marks()
    found = {process for process in known if table.get(process.pid) == process}
    found |= {
        table[pid] for pid, mark in marks.items() if pid in table and mark[0] == program and name in ("", mark[1])
    }
    # A group and a session keep the id of a leader that has ended. While they last, it is no other process's pid.
    leaders = {process.pid for process in (*found, *known) if table.get(process.pid, process) == process}
    foreign = {pid for pid, mark in marks.items() if mark[0] != program or name not in ("", mark[1])}
    while True:
        pids = {process.pid for process in found}
        more = {
            process
            for process in set(table.values()) - found
            if process.parent in pids
            or (process.pid not in foreign and (process.group in leaders or process.session in leaders))
        }
        if not more:
            return found
        found |= more
        leaders |= {process.pid for process in more}


def descendants(pid: int) -> set[int]:
    """Return the pids of a process and of everything that it has started and that still has it as a forebear."""
    table, tree = _table(), {pid} - {0}
    while more := {process.pid for process in table.values() if process.parent in tree} - tree:
        tree |= more
    return tree


def ids(app: str) -> set[str]:
    """Return the ids of an app's releases of which any process runs."""
    programs = {program for program, _ in _marks().values()}
    return {match[1] for program in programs if (match := re.fullmatch(rf"{re.escape(app)}-({ID})", program))}


def listener(path: str) -> set[Process]:
    """Return the process that listens on a Unix socket, none if none does. It gets a connection that is closed at once."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(path)
        except OSError:
            return set()
        pid, user, _ = struct.unpack("iII", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    found = running(pid)
    return found if found and os.stat(f"/proc/{pid}").st_uid == user else set()


def running(pid: int) -> set[Process]:
    """Return the process with this pid, none if it has ended."""
    found = _process(pid)
    return {found} if found else set()


def end(program: str, name: str, known: Collection[Process], told: Collection[Process], deadline: float) -> None:
    """End what is left of a program, or of one of its processes: by SIGTERM, and by SIGKILL after the deadline.

    :param known: processes of it, which may have ended since
    :param told: those that have had a SIGTERM already: for many programs a second one is an order to end at once
    :param deadline: a time of :func:`time.monotonic`
    :raises TimeoutError: if a process does not end
    """
    seen, given = set(known), set(told)
    while left := of(program, name, seen):
        now = time.monotonic()
        late, limit = now > deadline, deadline + (_KILLED if now > deadline else 0)
        if now > deadline + _KILLED:
            words = ", ".join(sorted(f"{process.pid} ({process.command})" for process in left))
            raise TimeoutError(f"{program} has processes that do not end: {words}.")
        for process in left if late else left - given:
            process.send(signal.SIGKILL if late else signal.SIGTERM)
        seen, given = seen | left, given | left
        # What they start meanwhile is found when they have ended.
        while any(process.alive for process in left) and time.monotonic() <= limit:
            time.sleep(0.05)


def _process(pid: int) -> Process | None:
    """Return a process, None if it has ended, reaped or not (proc_pid_stat(5))."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, *words = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    parent, group, session = map(int, words[:3])
    return None if state in (b"Z", b"X") else Process(pid, int(words[18]), parent, group, session)


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _table() -> dict[int, Process]:
    """Return {pid: process} of all processes."""
    return {pid: found for pid in _pids() if (found := _process(pid))}


def _marks() -> dict[int, tuple[str, str]]:
    """Return {pid: (its program, its name)} of the processes that this host's supervisord has marked."""
    found = {}
    for pid in _pids():
        values = dict(pair.partition(b"=")[::2] for pair in _environment(pid).split(b"\0"))
        program, name, url = (os.fsdecode(values.get(key, b"")) for key in _NAMES)
        if program and _is_ours(url) and _is_of_this_namespace(pid):
            found[pid] = (program, name)
    return found


def _is_ours(url: str) -> bool:
    return os.path.realpath(url.removeprefix("unix://")) == os.path.realpath(paths.SUPERVISOR_SOCKET)


def _is_of_this_namespace(pid: int) -> bool:
    """Tell whether a process is not in a container, which may have an app of the same names."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            return any(line.startswith("NSpid:") and len(line.split()) == 2 for line in file)
    except (FileNotFoundError, ProcessLookupError):
        return False


def _environment(pid: int) -> bytes:
    """Return the environment with which a process has started, empty if nobody may read it."""
    path = f"/proc/{pid}/environ"
    try:
        return _read(path)
    except PermissionError:
        pass  # in a container, root may read its own processes' only
    except OSError:
        return b""
    try:
        owner = os.stat(f"/proc/{pid}")
        with unix.acting_as(unix.Account("", owner.st_uid, owner.st_gid, [])):
            return _read(path)
    except OSError:
        return b""


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
