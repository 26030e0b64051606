"""The lock of a host: one run at a time works there, from its plan to its end, though each task is a process."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import time
from collections.abc import Iterator
from typing import IO, Any

from . import paths
from .record import from_dict, to_dict
from .run import Run

# Seconds that a run may spend between two of the role's modules; it installs packages between two of them.
GAP = 120
# Seconds to wait for the last task of a killed run.
PATIENCE = 60


class LockError(Exception):
    """Another run, the ``holder``, is at work on this host."""

    def __init__(self, holder: Run) -> None:
        super().__init__(
            f"{holder.who} is at work on this host. This run stops here; start it again when the other one has ended."
        )
        self.holder = holder


@contextlib.contextmanager
def held(run: Run, take: bool = False, ended: str = "") -> Iterator[None]:
    """Hold the host's lock for ``run``.

    Within the block no other run gets the lock. After the block the run keeps it for :data:`GAP` seconds, for its next
    task, unless the block fails or calls :func:`end`.

    :param take: whether the run begins here: it may take the lock of a run that has ended
    :param ended: id of a run that has ended without giving the lock back, empty if none is known
    :raises LockError: if another run holds the lock, or has taken it since
    """
    with open(paths.LOCK, "a+", encoding="utf-8", errors="replace") as file:
        # After a run was killed, its last task still goes on to its end.
        deadline = time.monotonic() + (PATIENCE if ended else 0)
        while not _locked(file):
            if time.monotonic() >= deadline:
                raise LockError(_read(file) or Run("", "another run"))
            time.sleep(0.1)
        holder = _read(file)
        stale = time.time() - os.fstat(file.fileno()).st_mtime > GAP
        if holder and holder.id != run.id and not (take and (stale or holder.id == ended)):
            raise LockError(holder)
        _write(file, run)
        try:
            yield
        except (Exception, SystemExit) as error:
            failed = not isinstance(error, SystemExit) or error.code
            _write(file, None if failed or not _read(file) else run)
            raise
        _write(file, run if _read(file) else None)


@contextlib.contextmanager
def hold(module: Any) -> Iterator[None]:
    """Hold the lock during one task of the run in the module's parameter ``run``; fail the module if another has it.

    Check mode takes no lock.
    """
    if module.check_mode:
        yield
        return
    try:
        with held(from_dict(Run, module.params["run"])):
            yield
    except LockError as error:
        module.fail_json(msg=str(error))


def end_command(run: Run) -> str:
    """Return a shell's command that does what :func:`end` does, without a start of Python on the host."""
    ours = f"grep -qF {shlex.quote(json.dumps(run.id))} {paths.LOCK} && : > {paths.LOCK}"
    return f"test ! -s {paths.LOCK} || flock {paths.LOCK} sh -c {shlex.quote(ours)}"


def end(run: Run) -> None:
    """Give the lock back if this run holds it."""
    with open(paths.LOCK, "a+", encoding="utf-8", errors="replace") as file:
        holder = _read(file)
        if holder and holder.id == run.id:
            _write(file, None)


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def _read(file: IO[str]) -> Run | None:
    file.seek(0)
    try:
        return from_dict(Run, json.loads(file.read()))
    except (ValueError, TypeError):  # it is empty, or no run has written it
        return None


def _write(file: IO[str], run: Run | None) -> None:
    file.truncate(0)
    if run:
        json.dump(to_dict(run), file)
    file.flush()
