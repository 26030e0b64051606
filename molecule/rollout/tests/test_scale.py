"""Four processes, eight, two and four again, while clients come, stay and talk."""

import types

import pytest

testinfra_hosts = ["ansible://debian12"]

RATE, DRAIN_RATE = 200, 100


@pytest.fixture(scope="module")
def scaled(host, load, deploy, version, left_over, wait):
    app, steps = version("v0"), []
    deploy(**app)
    master = host.file("/run/nginx.pid").content_string
    with load("scale") as report:
        for numprocs in (8, 2, 4):
            run = deploy(**app, websockets_numprocs=numprocs)
            assert run.returncode == 0, run.stdout[-3000:]
            # A reload's old workers leave with their last client.
            wait("! ps -C nginx -o args | grep -q shutting")
            steps.append(types.SimpleNamespace(run=run, left=left_over(numprocs)))
    assert report["summary"]["new_per_second"] >= RATE - 1
    return types.SimpleNamespace(
        report=report, steps=steps, masters={master, host.file("/run/nginx.pid").content_string}
    )


def test_no_client_has_noticed(scaled):
    assert scaled.report.harm() == {}


def test_clients_came_back_spread_over_time(scaled):
    assert scaled.report["summary"]["reconnects_peak"] <= 1.5 * DRAIN_RATE


def test_nothing_is_left_of_the_other_numbers(scaled):
    assert [step.left for step in scaled.steps] == [{}, {}, {}]


def test_nginx_is_the_same(scaled):
    assert len(scaled.masters) == 1
