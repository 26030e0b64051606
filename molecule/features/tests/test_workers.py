"""Workers beside the echo app: they start, prove themselves, stop last, and leave nothing."""

import json
import re

import pytest

testinfra_hosts = ["ansible://debian13"]

# It counts in a file. Told to end, it takes its time.
COUNTS = (
    'sh -c \'trap "echo told; sleep 0.5; exit" TERM; echo starts;'
    " while :; do echo $SUPERVISOR_GROUP_NAME >> {data}/count; sleep 0.1; done'"
)
# It never ends by itself, and has started something that survives it, in a session of its own.
STAYS = "sh -c 'trap : TERM HUP; setsid sh -c \"trap : TERM HUP; while :; do sleep 0.31; done\" & while :; do sleep 0.32; done'"
WORKERS = {
    "counts": {"command": COUNTS, "numprocs": 2, "runs_for": 2},
    "stays": {"command": STAYS, "stopwaitsecs": 3, "runs_for": 1},
}
NAMES = ["echo.counts_00", "echo.counts_01", "echo.stays_00"]


@pytest.fixture(scope="module", autouse=True)
def deployed(deploy, host, echo):
    """Have the echo app with workers; at the end, as it was."""
    done = deploy(websockets_workers=WORKERS)
    assert done.returncode == 0, done.stdout
    assert "workers: " + ", ".join(NAMES) in done.stdout
    yield
    with_workers = echo.release
    assert deploy().returncode == 0
    assert running(host, with_workers) == []
    assert sorted(echo.pids()) == echo.processes
    assert host.run("pgrep -f 'sleep 0[.]3[12]|data/[c]ount'").rc == 1
    host.check_output("rm -rf /var/lib/websockets/echo/data")


def running(host, release):
    """Return the processes of a release that supervisord has, sorted."""
    lines = host.run("supervisorctl status").stdout.splitlines()
    return sorted(line.split()[0].split(":")[1] for line in lines if line.startswith(f"echo-{release}:"))


def stopped(host):
    """Return the processes that have been stopped last, a release's number of them, in the order of their ends."""
    text = host.check_output("grep -o 'stopped: [^ ]*' /var/log/supervisor/supervisord.log | tail -7")
    return [line.split()[1] for line in text.splitlines()]


def test_they_run_beside_the_processes_with_clients(host, echo):
    assert running(host, echo.release) == [*NAMES, *echo.processes]
    assert sorted(echo.pids()) == [*NAMES, *echo.processes]
    assert "counts" not in host.file("/etc/nginx/conf.d/websockets-echo.conf").content_string
    assert len(host.check_output(f"ls /run/websockets/echo/{echo.release}/*.sock").splitlines()) == 4
    assert f"echo-{echo.release}" in host.check_output("tail -1 /var/lib/websockets/echo/data/count")


def test_a_second_deploy_changes_nothing(deploy, echo):
    before = echo.pids()
    done = deploy(websockets_workers=WORKERS)
    assert done.returncode == 0
    assert "changed=0 " in done.stdout
    assert echo.pids() == before


def test_the_status_shows_them(play, tmp_path):
    done = play("status", websockets_only="echo", status_file=str(tmp_path / "status.json"))
    ((found,),) = json.loads((tmp_path / "status.json").read_text()).values()
    assert [one["name"] for one in found["workers"]] == NAMES
    assert [one["state"] for one in found["workers"]] == ["RUNNING"] * 3
    assert len(found["processes"]) == 4
    assert re.search(r"worker +state +pid +uptime +restarts\W", done.stdout)


def test_one_that_is_killed_comes_back(host, echo, wait):
    before = echo.pids()["echo.counts_00"]
    host.check_output(f"kill -9 {before}")
    wait(f"supervisorctl status echo-{echo.release}:echo.counts_00 | grep RUNNING | grep -vq 'pid {before},'")


def test_a_release_whose_worker_dies_gets_no_traffic(deploy, host, echo, load):
    before, release = echo.pids(), echo.release
    dies = {"command": "sh -c 'echo no queue here; sleep 2; exit 3'", "runs_for": 4}
    with load("workers-die", rate=50, held=50) as report:
        done = deploy(websockets_workers={**WORKERS, "dies": dies})
    assert done.returncode != 0
    assert "has not passed the gate and gets no traffic; nginx serves what it served before" in done.stdout
    assert "echo.dies_00 is a worker that has to run for 4 s" in done.stdout
    assert "no queue here" in done.stdout
    assert report.harm() == {}
    assert report["closes"] == []
    assert (echo.release, echo.pids()) == (release, before)
    assert host.check_output("ls /etc/supervisor/conf.d | grep -c websockets-echo") == "1"


def test_the_next_deploy_starts_new_ones_and_stops_the_old_ones_last(deploy, host, echo, load):
    old = echo.release
    with load("workers", rate=50, held=50) as report:
        done = deploy(websockets_workers=WORKERS, websockets_environment={"LOG_LEVEL": "debug"})
    assert done.returncode == 0, done.stdout
    assert report.harm() == {}
    assert echo.release != old
    assert running(host, old) == []
    assert sorted(echo.pids()) == [*NAMES, *echo.processes]
    assert stopped(host) == [*echo.processes, *NAMES]
    # The one that does not end is killed after its own time, not the default of 30 s, and what it has started too.
    assert 4 < done.ended - done.start_of("Drain the releases") < 20
    assert len(host.check_output("pgrep -f '^sh -c trap : TERM HUP; while'").splitlines()) == 1


def test_a_rollback_brings_their_release_back(play, host, echo):
    new = echo.release
    done = play("rollback")
    assert done.returncode == 0, done.stdout
    assert echo.release != new
    assert sorted(echo.pids()) == [*NAMES, *echo.processes]
    assert running(host, new) == []
    assert stopped(host) == [*echo.processes, *NAMES]


def test_a_restart_comes_to_them_last(play, host, echo, load):
    before = echo.pids()
    with load("workers-restart", rate=50, held=50) as report:
        done = play("restart")
    assert done.returncode == 0, done.stdout
    assert report.harm() == {}
    after = echo.pids()
    assert all(after[name] != before[name] for name in before)
    assert stopped(host) == [*echo.processes, *NAMES]
