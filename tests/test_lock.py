"""One run at a time works on a host, though each of its tasks is a process."""

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.websockets.deploy.plugins.module_utils import lock, paths
from ansible_collections.websockets.deploy.plugins.module_utils.run import Run
from role import ROOT, load

MINE = Run("mine", "me@here (process 1)")
OTHER = Run("other", "you@there (process 2)")
REFUSED = re.escape("me@here (process 1) is at work on this host. This run stops here;")

pytestmark = pytest.mark.usefixtures("host")


def take(run, **options):
    with lock.held(run, take=True, **options):
        pass


def children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def program(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text()
    return ""


def test_a_run_keeps_the_host_from_task_to_task():
    take(MINE)
    with pytest.raises(lock.LockError, match=REFUSED):
        take(OTHER)
    with lock.held(MINE):
        pass


def test_within_a_task_the_other_run_is_named():
    with lock.held(MINE, take=True), pytest.raises(lock.LockError, match=REFUSED):
        take(OTHER)


def test_another_process_is_kept_out_within_a_task(host):
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from plugins.module_utils import lock, run\n" + (
        f"Run = run.Run\nlock.paths.LOCK = {paths.LOCK!r}\ntry:\n    with lock.held({OTHER!r}, take=True): print('taken')\n"
        "except lock.LockError as error: print(error)"
    )
    with lock.held(MINE, take=True):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.match(REFUSED, done.stdout)


def test_the_end_of_a_run_is_the_end_of_its_hold():
    take(MINE)
    lock.end(OTHER)
    with pytest.raises(lock.LockError):
        take(OTHER)
    lock.end(MINE)
    take(OTHER)


def test_a_shell_can_end_a_run_too():
    def end(run):
        subprocess.run(["sh", "-c", lock.end_command(run)], check=False)

    take(MINE)
    end(OTHER)
    with pytest.raises(lock.LockError):
        take(OTHER)
    end(MINE)
    take(OTHER)


def test_a_shell_waits_for_the_task_at_work_before_it_ends_the_run(eventually):
    with lock.held(MINE, take=True):
        ending = subprocess.Popen(["sh", "-c", lock.end_command(MINE)])
        eventually(lambda: "flock\n" in map(program, [ending.pid, *children(ending.pid)]))
        assert Path(paths.LOCK).read_text()
    assert ending.wait() == 0
    assert Path(paths.LOCK).read_text() == ""


def test_a_host_that_no_run_has_locked_stays_as_it_is():
    subprocess.run(["sh", "-c", lock.end_command(MINE)], check=True)
    assert not Path(paths.LOCK).exists()


def test_the_end_within_the_last_task():
    with lock.held(MINE, take=True):
        lock.end(MINE)
    take(OTHER)


@pytest.mark.parametrize("failure", [OSError(), SystemExit(1)], ids=["exception", "fail_json"])
def test_a_task_that_fails_ends_the_run(failure):
    with pytest.raises(type(failure)), lock.held(MINE, take=True):
        raise failure
    take(OTHER)


def test_a_task_that_exits_well_does_not():
    with pytest.raises(SystemExit), lock.held(MINE, take=True):
        raise SystemExit(0)
    with pytest.raises(lock.LockError):
        take(OTHER)


def test_a_run_of_which_nothing_was_heard_for_long_has_ended():
    take(MINE)
    long_ago = time.time() - lock.GAP - 1
    os.utime(paths.LOCK, (long_ago, long_ago))
    # Only a run that begins may take its lock: a task in the middle of another run must not go on beside it.
    with pytest.raises(lock.LockError), lock.held(OTHER):
        pass
    take(OTHER)
    with pytest.raises(lock.LockError), lock.held(MINE):
        pass


def test_a_run_that_is_known_to_have_ended_is_no_obstacle():
    take(MINE)
    with pytest.raises(lock.LockError):
        take(OTHER, ended="another run")
    take(OTHER, ended="mine")


# Runs of this control node


def test_a_run_that_was_killed_is_known_to_have_ended(tmp_path):
    plan = load("action/plan")
    node = plan.platform.node()
    ended = subprocess.Popen(["true"])
    ended.wait()
    mine = plan._this_run()
    assert plan._has_ended(Run(f"{node} {ended.pid} {tmp_path}", ""))
    assert plan._has_ended(Run(f"{node} {os.getpid()} /nonexistent", "")), "the process is another one of this number"
    assert not plan._has_ended(mine)
    assert not plan._has_ended(Run(f"elsewhere {ended.pid} /nonexistent", ""))
