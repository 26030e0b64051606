"""Calls to supervisord over its Unix socket. They touch one program at a time, never all of them."""

from __future__ import annotations

import configparser
import glob
import http.client
import os
import resource
import shutil
import socket
import time
import xmlrpc.client
from typing import Any

from . import paths, processes
from .processes import Process
from .release import Release, is_worker

# States in which supervisord does not start a process by itself (supervisor/states.py).
DOWN = {"STOPPED", "EXITED", "FATAL", "UNKNOWN"}
# States of a process that has ended soon after its start.
FAILED = {"BACKOFF", "EXITED", "FATAL"}


# Seconds that Supervisor waits for a process to end, if its file does not say how many.
_STOPWAITSECS = 10


class SupervisorError(Exception):
    """supervisord has refused a call or does not answer; the message says which."""


def _settings(release: Release, name: str) -> configparser.SectionProxy:
    """Return the options of the program of one of a release's processes, none if its file is gone."""
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=(";",))
    section = f"program:{release.program_of(name)}"
    parser.read_dict({section: {}})
    parser.read(release.program_file, encoding="utf-8")
    return parser[section]


class _Connection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(paths.SUPERVISOR_SOCKET)


class _Transport(xmlrpc.client.Transport):
    def make_connection(self, host: Any) -> _Connection:
        return _Connection(str(host))


class Supervisor:
    """The calls of supervisord's XML-RPC interface that a deploy needs."""

    def __init__(self) -> None:
        self._server = xmlrpc.client.ServerProxy("http://localhost", transport=_Transport())

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the ``supervisor`` namespace, such as ``getState``; all methods below do.

        :raises SupervisorError: if supervisord refuses or does not answer
        """
        try:
            return getattr(self._server.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            raise SupervisorError(fault.faultString) from None
        except (OSError, http.client.HTTPException) as error:
            raise SupervisorError(
                f"supervisord does not answer at {paths.SUPERVISOR_SOCKET} ({error}). If supervisord runs, its socket has"
                " been removed: restart the service supervisor, which stops all programs."
            ) from None

    def processes(self, program: str) -> dict[str, dict[str, Any]]:
        """Return {name: what ``getProcessInfo`` says} of the processes of a program or group, empty if it is unknown."""
        return {process["name"]: process for process in self.call("getAllProcessInfo") if process["group"] == program}

    def add(self, program: str) -> None:
        """Start a program whose file is in place. supervisord touches no other program, even if its file has changed."""
        self.call("reloadConfig")  # this only reads the files again
        self.call("addProcessGroup", program)

    def restart(self, release: Release, name: str) -> None:
        """Stop one process, and start it."""
        self.stop(release, name)
        self.call("startProcess", f"{release.program}:{name}", False)

    def stop(self, release: Release, name: str) -> None:
        """Stop one process, if it is not down, and everything that it has started.

        :raises TimeoutError: if a process does not end
        """
        begun, settings = time.monotonic(), _settings(release, name)
        process = self.processes(release.program)[name]
        known, told = processes.running(process["pid"]), set[Process]()
        known = processes.of(release.program, name, known)
        if process["statename"] not in DOWN:
            whole = settings.getboolean("stopasgroup", False)
            told = {one for one in known if process["pid"] in (one.pid, one.group if whole else 0)}
            self.call("stopProcess", f"{release.program}:{name}", True)  # answers once this process has ended
        processes.end(release.program, name, known, told, begun + settings.getint("stopwaitsecs", _STOPWAITSECS))

    def retire(self, release: Release, interval: float = 0) -> None:
        """Stop a release's processes one after the other, and remove its program and its sockets.

        Its workers come last: the others may have given them work until then.

        :param interval: the least number of seconds from the stop of one process with clients to the next
        :raises TimeoutError: if a process does not end
        """
        program = release.program
        next_stop = time.monotonic()
        there = self.processes(program)
        for name in sorted(there, key=lambda name: (is_worker(name), name)):
            if there[name]["statename"] not in DOWN and not is_worker(name):
                time.sleep(max(0, next_stop - time.monotonic()))
                next_stop = time.monotonic() + interval
            self.stop(release, name)
        if self.processes(program):
            self.call("removeProcessGroup", program)
        # What supervisord does not know: it was killed, or what it has started has cleared its environment.
        known = set[Process]().union(*map(processes.listener, glob.glob(f"{glob.escape(release.sockets)}/*.sock")))
        deadline = time.monotonic() + _settings(release, "").getint("stopwaitsecs", _STOPWAITSECS)
        processes.end(program, "", known, (), deadline)
        if os.path.lexists(release.program_file):
            os.unlink(release.program_file)
        shutil.rmtree(release.sockets, ignore_errors=True)

    def lacks_descriptors(self, minfds: int) -> bool:
        """Tell whether the limit of file descriptors that new processes inherit is below ``minfds``."""
        return resource.prlimit(self.call("getPID"), resource.RLIMIT_NOFILE)[0] < minfds

    def raise_descriptors(self, minfds: int) -> bool:
        """Raise the limit of file descriptors that new processes inherit to ``minfds``; return whether it was lower.

        A restart of supervisord would do the same, but it would stop all programs.
        """
        if not self.lacks_descriptors(minfds):
            return False
        pid = self.call("getPID")
        hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (minfds, max(hard, minfds)))
        return True

    def wait(self, timeout: float = 15.0) -> Any:
        """Wait until a supervisord that has just been started answers.

        :param timeout: seconds
        :raises SupervisorError: if it does not answer in that time
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                return self.call("getState")
            except SupervisorError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
