"""An app that does nothing for its clients at a stop but close them is drained all the same, process by process."""

import pathlib

import pytest

testinfra_hosts = ["ansible://debian13"]

PLAIN = pathlib.Path(__file__).parents[1] / "apps" / "plain.py"
# The shell stays, so Supervisor knows the shell only.
WRAPPED = {"websockets_command": "sh -c 'python tell.py \"$0\"; exit $?' {socket}"}
HELD, NUMPROCS, INTERVAL = 400, 4, 2


@pytest.fixture(scope="module")
def report(load, deploy, version):
    assert deploy(**version("plain", app=PLAIN) | WRAPPED).returncode == 0
    with load("plain-app") as report:
        run = deploy(**version("next", app=PLAIN) | WRAPPED, websockets_drain_interval=INTERVAL)
        assert run.returncode == 0, run.stdout[-3000:]
    return report


def test_no_client_has_noticed(report):
    assert report.harm() == {}


def test_clients_were_told_process_by_process(report):
    told = [when for when, _, who in report["closes"] if who.startswith("held ")]
    assert len(told) == HELD
    # Never more within one interval than one process had; nginx shares them out to within a few.
    most = max(sum(start <= when < start + 0.9 * INTERVAL for when in told) for start in told)
    assert most <= 1.1 * HELD / NUMPROCS


def test_nothing_of_the_old_release_is_left(host, echo, report):
    running = host.check_output("pgrep -u ws-echo -f tell.py -a").splitlines()
    # A shell and a server for each process.
    assert len(running) == 2 * NUMPROCS
    assert [line for line in running if echo.release not in line] == []
