"""supervisord, asked over its Unix socket: one program at a time, never all of them."""

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

# States in which supervisord is not about to bring a process up by itself (supervisor/states.py).
DOWN = {"STOPPED", "EXITED", "FATAL", "UNKNOWN"}
# States of a process that has started and ended at once.
FAILED = {"BACKOFF", "EXITED", "FATAL"}


class SupervisorError(Exception):
    """supervisord refused or cannot be reached; the message has its own words."""


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
        """Call a method of the ``supervisor`` namespace, such as ``getState``."""
        try:
            return getattr(self._server.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            raise SupervisorError(fault.faultString) from None
        except (OSError, http.client.HTTPException) as error:
            raise SupervisorError(
                f"supervisord does not answer at {paths.SUPERVISOR_SOCKET} ({error}). If it runs nevertheless, its socket is lost, and"
                " only a restart of the service supervisor helps; it stops all programs."
            ) from None

    def processes(self, program: str) -> dict[str, dict[str, Any]]:
        """Return {name: information} of the program's processes, empty if supervisord does not know it."""
        return {process["name"]: process for process in self.call("getAllProcessInfo") if process["group"] == program}

    def add(self, program: str) -> None:
        """Start a program whose file is in place. No other program is touched, changed or not."""
        self.call("reloadConfig")  # only reads the files again
        self.call("addProcessGroup", program)

    def restart(self, program: str, name: str) -> None:
        """Stop one process, whatever its state, and start it."""
        if self.processes(program)[name]["statename"] not in DOWN:
            self.call("stopProcess", f"{program}:{name}", True)
        self.call("startProcess", f"{program}:{name}", False)

    def retire(self, release: Release, interval: float = 0) -> None:
        """Stop a release's processes one after the other, and remove its program and its sockets.

        :param interval: seconds from one stop to the next, at least
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
        """Tell whether the limit that new processes inherit is below ``minfds``."""
        return resource.prlimit(self.call("getPID"), resource.RLIMIT_NOFILE)[0] < minfds

    def raise_descriptors(self, minfds: int) -> bool:
        """Raise the limit that new processes inherit, to what ``minfds`` gives from the next start on.

        A restart of supervisord would do it too, and stop everybody's processes.
        """
        if not self.lacks_descriptors(minfds):
            return False
        pid = self.call("getPID")
        hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (minfds, max(hard, minfds)))
        return True

    def wait(self, timeout: float = 15.0) -> Any:
        """Wait until a supervisord that has just been started answers."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                return self.call("getState")
            except SupervisorError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
