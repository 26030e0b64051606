"""Run the command of a release that comes before its processes, as the app's user, and end all that it has started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import re
import subprocess
import threading
import time
from collections import deque
from collections.abc import Collection
from typing import IO, TextIO

from . import logfile, owned, paths, processes
from .inputs import SECRET
from .processes import Process
from .release import Release

# What stands in the place of the name of one of Supervisor's processes. The drain ends what has the release's mark.
NAME = "before_start"
# Seconds that what the command has left gets to end by itself.
_PATIENCE = 5
_PR_SET_CHILD_SUBREAPER = 36
_SHOWN = 20  # lines of the output in the message of a failure


def execute(release: Release) -> tuple[int, list[str]]:
    """Run the command; return its exit status, or the negated number of a signal, and the end of its output."""
    user = pwd.getpwnam(release.user)
    # Whatever loses its parent becomes a child of this process, and not of init (prctl(2)).
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    end(release, set())  # a run that was killed may have left something
    hidden, last = secrets(release, user), deque[str](maxlen=_SHOWN)
    with owned.by(release.code, user.pw_uid):
        process = begin(release, user, [release.before_start_script])
        assert process.stdout, "it is a pipe"
        known = processes.running(process.pid)
        arguments = (process.stdout, paths.before_start_log(release.app), hidden, last)
        reader = threading.Thread(target=write, args=arguments, daemon=True)
        reader.start()
        try:
            status = process.wait()
        finally:
            end(release, known)
        reader.join(_PATIENCE)
    return status, list(last)


def end(release: Release, known: set[Process]) -> None:
    """End everything that the command has started."""
    me = os.getpid()
    while True:
        processes.end(release.program, NAME, known, (), time.monotonic() + _PATIENCE)
        known = set[Process]().union(*map(processes.running, processes.descendants(me) - {me}))
        if not known:
            return


def begin(release: Release, user: pwd.struct_passwd, command: list[str]) -> subprocess.Popen[bytes]:
    """Start a script of the release, as Supervisor starts its processes."""
    ids = ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--init-groups"]
    return subprocess.Popen(
        ["/usr/bin/setpriv", *ids, "--no-new-privs", "--pdeathsig", "TERM", "--", "/bin/sh", *command],
        cwd=release.code,
        env=processes.mark(release.program, NAME),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        umask=0o022,
    )


def secrets(release: Release, user: pwd.struct_passwd) -> list[str]:
    """Return the values that no output may have, the longest ones first."""
    with open(release.command_script, encoding="utf-8") as file:
        names = re.search(r"(?m)^# Secrets: (.*)$", file.read())
    if not names or not names[1]:
        return []
    process = begin(release, user, [release.command_script, "/usr/bin/env", "-0"])
    said, _ = process.communicate()
    if process.returncode:
        raise OSError(f"{release.command_script} does not tell the release's environment")
    values = dict(pair.partition("=")[::2] for pair in said.decode(errors="backslashreplace").split("\0"))
    # The output is looked at line by line.
    lines = {line for name in names[1].split() for line in values.get(name, "").splitlines() if line.strip()}
    return sorted(lines, key=len, reverse=True)


def write(output: IO[bytes], path: str, hidden: Collection[str], last: deque[str]) -> None:
    """Write the output to a log while it comes, if that can be written: the disk may be full. Its end goes to ``last`` too."""
    with contextlib.ExitStack() as stack:
        log: TextIO | None = None
        with contextlib.suppress(OSError):
            log = stack.enter_context(logfile.begin(path))
        while line := output.readline(1 << 16).decode(errors="backslashreplace"):
            for value in hidden:
                line = line.replace(value, SECRET)
            last.append(line.rstrip())
            if log:
                with contextlib.suppress(OSError):
                    log.write(line)
