"""Calls to supervisord over its Unix socket. They touch one program at a time, never all of them."""

from __future__ import annotations

import http.client
import os
import resource
import shutil
import socket
import time
import xmlrpc.client
from typing import Any

from . import paths
from .release import Release

# States in which supervisord does not start a process by itself (supervisor/states.py).
DOWN = {"STOPPED", "EXITED", "FATAL", "UNKNOWN"}
# States of a process that has ended soon after its start.
FAILED = {"BACKOFF", "EXITED", "FATAL"}


class SupervisorError(Exception):
    """supervisord has refused a call or does not answer; the message says which."""


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
        """Return {name: what ``getProcessInfo`` says} of the program's processes, empty if it is unknown."""
        return {process["name"]: process for process in self.call("getAllProcessInfo") if process["group"] == program}

    def add(self, program: str) -> None:
        """Start a program whose file is in place. supervisord touches no other program, even if its file has changed."""
        self.call("reloadConfig")  # this only reads the files again
        self.call("addProcessGroup", program)

    def restart(self, program: str, name: str) -> None:
        """Stop one process, if it is not down, and start it."""
        if self.processes(program)[name]["statename"] not in DOWN:
            self.call("stopProcess", f"{program}:{name}", True)
        self.call("startProcess", f"{program}:{name}", False)

    def retire(self, release: Release, interval: float = 0) -> None:
        """Stop a release's processes one after the other, and remove its program and its sockets.

        :param interval: the least number of seconds from one stop to the next
        """
        program = release.program
        next_stop = time.monotonic()
        for name, process in sorted(self.processes(program).items()):
            if process["statename"] not in DOWN:
                time.sleep(max(0, next_stop - time.monotonic()))
                next_stop = time.monotonic() + interval
                self.call("stopProcess", f"{program}:{name}", True)  # answers once the process has ended
        if self.processes(program):
            self.call("removeProcessGroup", program)
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
