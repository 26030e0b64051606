"""The scheduling of nginx and supervisord, and the words about it."""

import os
import subprocess

import pytest
from ansible_collections.websockets.deploy.plugins.module_utils import host_files, paths, system
from ansible_collections.websockets.deploy.plugins.module_utils.inputs import InputError
from ansible_collections.websockets.deploy.plugins.module_utils.sandbox import SERVICES
from role import plan, render, stored

BATCH = "batch for nginx and supervisor"
RESTART = "after the next restart, which disconnects all clients"
DROP_INS = [file for file in host_files.of("echo") if file.dest in map(paths.drop_in, SERVICES)]


def policy(service, **inputs):
    lines = render(f"{service}.service.conf.j2", plan(**inputs)).splitlines()
    return [line for line in lines if line.startswith("CPUScheduling")]


@pytest.mark.parametrize("service", SERVICES)
def test_the_kernels_default_unless_a_user_wants_something_else(service):
    assert policy(service) == []
    # Nothing is new where an earlier version has deployed.
    assert render(f"{service}.service.conf.j2", plan()).splitlines()[-1].startswith("LimitNOFILE=")
    assert policy(service, cpu_scheduling="batch") == ["CPUSchedulingPolicy=batch"]


@pytest.mark.parametrize(
    ("choice", "host", "said"),
    [
        ("other", {}, ""),
        ("other", {"batched": ["nginx"]}, ""),
        ("batch", {"idle_services": ["nginx", "supervisor"]}, BATCH),
        ("batch", {"batched": ["nginx", "supervisor"]}, BATCH),
        ("batch", {}, f"{BATCH} {RESTART}"),
        ("batch", {"batched": ["nginx"]}, f"batch for nginx; batch for supervisor {RESTART}"),
        ("batch", {"init": "sysv", "sandboxes": {}, "batch": False}, "other, because batch needs systemd and this host has another init"),
    ],
    ids=["other", "other, batch elsewhere", "new host", "in force", "late", "one late", "no systemd"],
)  # fmt: skip
def test_a_deploy_says_whether_it_is_in_force(choice, host, said):
    assert plan(host, cpu_scheduling=choice)["scheduling_says"] == said


def test_another_choice_needs_no_new_release():
    """It is written at once, and what runs goes on."""
    before = plan(cpu_scheduling="other")
    id, venv = before["release"]["id"], before["release"]["venv"]
    there = {file.dest: f"{file.mode} {render(file.src, before)}" for file in DROP_INS}
    live = {"live": id, "serves": True, "group": "ws-echo", "releases": {id: stored(id)}, "venvs": [venv]}
    live |= {"programs": [id], "files": there}
    assert plan(live, files=DROP_INS, cpu_scheduling="other")["host_files"] == []
    after = plan(live, files=DROP_INS, cpu_scheduling="batch")
    assert after["todo"]["host"] == [f"write {', '.join(map(paths.drop_in, SERVICES))}"]
    assert not any(after["todo"][step] for step in ("release", "start", "drain"))


def test_a_host_that_does_not_allow_it():
    """There systemd would not start the services."""
    with pytest.raises(InputError, match=r"websockets_cpu_scheduling is 'batch': .*use other\."):
        plan({"batch": False}, cpu_scheduling="batch")
    assert plan({"batch": False})["scheduling_says"] == ""


def test_what_the_kernel_allows_is_tried_and_taken_back(monkeypatch):
    usual = os.sched_getscheduler(0)
    assert system.batch()
    assert os.sched_getscheduler(0) == usual

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    assert not system.batch()


@pytest.mark.parametrize("policy", ["other", "batch"])
def test_the_scheduling_of_a_service_is_seen(policy):
    command = ["chrt", f"--{policy}", "0", "cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(b"x")
        process.stdin.flush()
        process.stdout.read(1)  # so cat runs by now
        assert system.is_batch(str(process.pid)) is (policy == "batch")
    assert system.is_batch(str(process.pid)) is False
    assert system.is_batch("0") is False
