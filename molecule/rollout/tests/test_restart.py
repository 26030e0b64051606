"""A restart without new code, while clients come and stay, and the logs of it on the control node."""

import types

import pytest

testinfra_hosts = ["ansible://debian13"]

HELD = 400


@pytest.fixture(scope="module")
def restarted(load, play, deploy, version, echo):
    assert deploy(**version("restarted")).returncode == 0
    before, release = echo.pids(), echo.release
    with load("restart", held=HELD) as report:
        run = play("restart")
        assert run.returncode == 0, run.stdout[-3000:]
    return types.SimpleNamespace(report=report, run=run, before=before, release=release)


def test_no_client_has_noticed(restarted):
    assert restarted.report.harm() == {}


def test_every_process_is_a_new_one_of_the_same_release(restarted, echo):
    assert not set(echo.pids().values()) & set(restarted.before.values())
    assert echo.release == restarted.release


def test_every_client_that_was_there_has_been_told(restarted):
    told = {who for _, _, who in restarted.report["closes"] if who.startswith("held ")}
    assert len(told) == HELD


def test_the_logs_are_those_of_all_processes(restarted, play):
    printed = play("logs", logs_lines=3).stdout
    for number in range(4):
        assert f"debian13 echo_{number:02} | " in printed
