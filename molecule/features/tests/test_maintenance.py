"""Maintenance under load: who is connected stays or is told, new clients come later, and the role works as always."""

import json
import os
import subprocess
import time
import urllib.error

import pytest

testinfra_hosts = ["ansible://debian12"]


@pytest.fixture
def turn(play):
    """Turn maintenance on or off; return the finished play, and how many tasks have changed the host."""

    def run(how, **variables):
        done = play("maintenance", maintenance=how, **variables)
        assert done.returncode == 0, done.stdout
        return done, int(done.stdout.rpartition("changed=")[2].split()[0])

    yield run
    run("off")


@pytest.fixture
def refused(echo):
    """Tell whether the host answers a plain request with 503 and what belongs to it."""

    def look():
        try:
            echo.get()
        except urllib.error.HTTPError as error:
            page = error.read().decode()
            return (error.code, error.headers["Retry-After"], "Maintenance" in page) == (503, "60", True)
        return False

    return look


def failed_outside(report, begin, end):
    """Return the handshakes that have failed before or after a time, or otherwise than by 503."""
    late = 0.5  # one that began just before
    return [
        one for one in report["failed"] if one["error"] != "HTTP 503" or not begin - late <= one["time"] <= end + late
    ]


def test_connected_clients_stay_and_new_ones_get_503(echo, load, turn, play, refused, tmp_path):
    before = echo.pids()
    with load("maintenance", rate=100, held=200) as report:
        on, changed = turn("on")
        assert (changed, refused()) == (1, True)
        assert turn("on")[1] == 0
        status = tmp_path / "status.json"
        assert "MAINTENANCE since " in play("status", status_file=str(status)).stdout
        (app,) = json.loads(status.read_text())["debian12"]
        assert app["maintenance"] > app["since"]
        off, changed = turn("off")
        assert (changed, refused()) == (1, False)
        time.sleep(1)  # the load's own clients come again
    assert (report["closes"], report["lost"]) == ([], [])
    assert failed_outside(report, on.started, off.ended) == []
    shut = range(int(on.ended) + 1, int(off.started))
    assert len(shut) >= 2
    assert [report["per_second"].get(str(second), {}).get("handshakes", 0) for second in shut] == [0] * len(shut)
    assert len(report["failed"]) >= 100
    assert echo.pids() == before


def test_with_drain_connected_clients_are_told(echo, load, turn):
    with load("maintenance-drain", rate=50, held=100) as report:
        on, changed = turn("on", maintenance_drain=True)
        assert changed == 2
        off, _ = turn("off")
        time.sleep(1)
    assert report["lost"] == []
    codes = report.codes()
    assert set(codes) == {1012} and codes[1012] >= 100, codes
    assert failed_outside(report, on.started, off.ended) == []


def test_a_deploy_a_rollback_and_a_reboot_go_on_with_it(
    host, echo, deploy, play, turn, wait, wait_for_ssh, refused, client
):
    release = echo.release
    turn("on")
    changed = deploy(websockets_environment={"NUMBER": str(time.time())})
    assert changed.returncode == 0, changed.stdout
    assert "maintenance: on since " in changed.stdout
    assert (echo.release != release, refused()) == (True, True)
    back = play("rollback")
    assert back.returncode == 0, back.stdout
    assert "maintenance: on since " in back.stdout
    assert (echo.release, refused()) == (release, True)
    container = host.ansible.get_variables()["test_host_container"]
    subprocess.run([os.environ["TEST_HOSTS_ENGINE"], "restart", "--time=10", container], check=True)
    wait_for_ssh()
    wait(f"test $(supervisorctl status | grep -c '^echo-.*RUNNING') = {echo.numprocs}", 30)
    assert refused()
    assert turn("off")[1] == 1
    client(echo)
    # The rollback has left a release that another deploy removes.
    assert deploy().returncode == 0
