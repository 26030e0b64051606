"""A deploy ends before its time: what serves goes on, and the next run finishes or clears up."""

import os
import signal
import subprocess

import pytest

testinfra_hosts = ["ansible://debian13"]

TASKS = ["Put the release in place", "Start the release", "Give the release the traffic", "Drain the releases"]


@pytest.fixture(scope="module")
def unnoticed(load):
    """Have clients watch all interruptions."""
    with load("interruptions", rate=100, held=40) as report:
        yield
    assert report.harm() == {}


@pytest.fixture
def begin(start):
    """Begin a deploy, and return it when it has come to a task."""

    def run(task, **variables):
        process = start("site", **variables)
        for line in process.stdout:
            if line.startswith(f"TASK [websockets.deploy.websockets : {task}"):
                return process
        raise AssertionError(f"the deploy never came to {task}")

    return run


@pytest.mark.parametrize(
    ("sign", "task"),
    [*((signal.SIGINT, task) for task in TASKS), (signal.SIGKILL, TASKS[1])],
)
def test_next_run_after_an_interrupted_one_is_whole(unnoticed, echo, begin, deploy, programs, version, sign, task):
    process = begin(task, **version(f"interrupted at {task} by {sign}"))
    os.killpg(process.pid, sign)  # with its ssh, as at the terminal and when a machine is gone
    try:
        process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        # Ansible has hung on a lock of its own after Ctrl-C. A person does not wait for it either.
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    again = deploy(**version("next"))
    assert again.returncode == 0, again.stdout
    assert programs() == {f"echo-{echo.release}"}


def test_second_run_at_the_same_time_changes_nothing(unnoticed, begin, deploy, programs, version):
    first = begin("Put the release in place", **version("first"))
    second = deploy(**version("second"))
    out, _ = first.communicate()
    assert first.returncode == 0, out
    assert second.returncode != 0
    assert f"process {first.pid}) is at work on this host" in second.stdout
    assert len(programs()) == 1
