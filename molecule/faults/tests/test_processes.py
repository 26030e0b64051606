"""Something dies, is restarted or goes missing. How many handshakes failed, and for how long, is in the reports."""

import json
import os
import subprocess

import pytest

testinfra_hosts = ["ansible://debian13"]

APP_PIDS = "pgrep -u ws-echo -f app.py"


@pytest.fixture
def whole(host, echo, wait):
    """Wait until exactly numprocs processes run, each as supervisord says, and return their pids."""

    def look(seconds=15):
        wait(f"supervisorctl status 2>&1 | grep -c '^echo-.*RUNNING' | grep -qx {echo.numprocs}", seconds)
        running = sorted(map(int, host.check_output(APP_PIDS).split()))
        assert running == sorted(echo.pids().values())
        return running

    return look


def test_one_killed_process_fails_no_handshake(host, echo, load, whole):
    before = echo.pids()
    with load("one-process", rate=200, held=100) as report:
        host.check_output(f"kill -9 {before['echo_01']}")
        whole()
    assert report["summary"]["failed"] == 0
    # What is killed cannot say goodbye: its clients, a quarter of all, and nobody else's.
    assert set(report.codes()) <= {1006}
    assert 20 <= report.codes()[1006] <= 30


def test_all_killed_but_one_fails_no_handshake(host, echo, load, whole):
    before = echo.pids()
    with load("all-but-one", rate=100, held=40) as report:
        host.check_output(f"kill -9 {before['echo_00']} {before['echo_01']} {before['echo_02']}")
        whole()
    assert report["summary"]["failed"] == 0
    assert echo.pids()["echo_03"] == before["echo_03"]


def test_killed_supervisord_is_back_with_exactly_its_processes(host, load, whole):
    before = set(whole())
    with load("supervisord", rate=100, held=40) as report:
        host.check_output("kill -9 $(supervisorctl pid)")
        after = whole()
    assert not before & set(after)
    # The processes were asked to end, not cut off.
    assert set(report.codes()) <= {1012}


def test_killed_nginx_worker_is_replaced(host, load, wait, whole):
    master = host.check_output("cat /run/nginx.pid")
    workers = host.check_output(f"pgrep -P {master}").split()
    with load("nginx-worker", rate=100, held=40):
        host.check_output(f"kill -9 {workers[0]}")
        wait(f"! test -e /proc/{workers[0]} && pgrep -c -P {master} | grep -qx {len(workers)}")
    whole()


@pytest.mark.parametrize("service", ["nginx", "supervisor"])
def test_restarted_service_serves_again(host, load, whole, echo, client, service):
    with load(f"restart-{service}", rate=100, held=40):
        host.check_output(f"systemctl restart {service}")
        whole()
        client(echo)


def test_reinstalled_supervisor_runs_what_it_ran(host, echo, load, whole, client):
    release = echo.release
    with load("reinstall", rate=100, held=40):
        host.check_output("DEBIAN_FRONTEND=noninteractive apt-get install --reinstall --yes --quiet supervisor")
        whole(seconds=30)
        client(echo)
    assert echo.release == release


def test_lost_sockets_are_back_after_the_next_run(host, echo, deploy, client, whole):
    host.check_output("rm -r /run/websockets/*")
    run = deploy()
    assert run.returncode == 0, run.stdout
    whole()
    client(echo)
    assert deploy().stdout.count("changed=0") == 1


def test_rebooted_host_serves_the_same_release_without_ansible(host, echo, wait, wait_for_ssh, whole, client):
    release = echo.release
    container = host.ansible.get_variables()["test_host_container"]
    subprocess.run([os.environ["TEST_HOSTS_ENGINE"], "restart", "--time=10", container], check=True)
    wait_for_ssh()
    whole()
    assert echo.release == release
    client(echo)


def test_status_says_what_has_happened(host, echo, play, tmp_path, whole):
    before = echo.pids()
    host.check_output(f"kill -9 {before['echo_00']}")
    whole()
    status = tmp_path / "status.json"
    assert play("status", status_file=str(status)).returncode == 0
    (app,) = json.loads(status.read_text())["debian13"]
    assert (app["app"], app["live"], app["draining"]) == ("echo", echo.release, [])
    assert {process["name"]: process["pid"] for process in app["processes"]} == echo.pids()
    assert [process["restarts"] for process in app["processes"]] == [1, 0, 0, 0]
