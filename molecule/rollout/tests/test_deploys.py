"""Deploys and rollbacks in a row, while clients come, stay and talk: eight, and twenty with `bin/test --full`."""

import os
import types

import pytest

testinfra_hosts = ["ansible://debian13"]

RATE, HELD, DRAIN_RATE, KEEP = 200, 400, 100, 3
# To deploy a version, to go back to the one before, or, where a version has been already, to go back to it by name.
WAY = ["v1", "v2", "back", "v3", "v1", "v4", "back", "v5"]
if os.environ.get("TESTS_FULL"):
    WAY += ["v6", "back", "v7", "v5", "v8", "back", "v9", "v10", "back", "v11", "v12", "back"]


@pytest.fixture(scope="module")
def rollout(host, load, deploy, play, echo, version, nginx, packages, left_over):
    """Go the way under load, and return what was seen of it."""
    history, releases, steps = ["v0"], {}, []

    def go(step):
        if step == "back":
            run = play("rollback")
            history.pop()
        elif step in releases:
            run = play("rollback", websockets_rollback_to=releases[step])
            history.append(step)
        else:
            run = deploy(**version(step))
            history.append(step)
        assert run.returncode == 0, run.stdout[-3000:]
        return run

    go("v0")
    releases["v0"] = echo.release
    before = nginx(), packages()
    with load("deploys", seconds=900) as report:
        for step in WAY:
            verb = "rollback" if step in {"back", *releases} else "deploy"
            earlier, run = echo.release, go(step)
            live = releases.setdefault(history[-1], echo.release)
            kept = set(host.check_output("ls /srv/websockets/echo/releases").split())
            steps.append(
                types.SimpleNamespace(
                    verb=verb,
                    run=run,
                    version=history[-1],
                    live=live,
                    earlier=earlier,
                    kept=kept,
                    left=left_over(),
                )
            )
    for verb in ("deploy", "rollback"):
        seconds = [step.run.seconds for step in steps if step.verb == verb]
        report["summary"][f"{verb}_seconds"] = f"{min(seconds):.1f} to {max(seconds):.1f}"
    return types.SimpleNamespace(report=report, steps=steps, before=before, after=(nginx(), packages()))


def test_load_was_there(rollout):
    assert len(rollout.steps) == len(WAY)
    assert rollout.report["summary"]["new_per_second"] >= RATE - 1
    # Each held client was displaced by each step, and only once.
    held = [who for _, _, who in rollout.report["closes"] if who.startswith("held ")]
    assert len(held) == HELD * len(WAY)


def test_no_client_has_noticed(rollout):
    assert rollout.report.harm() == {}


def test_every_message_is_accounted_for(rollout):
    summary = rollout.report["summary"]
    assert summary["messages"] == summary["answered"] + summary["crossed"] + summary["lost"]


def test_clients_came_back_spread_over_time(rollout):
    assert rollout.report["summary"]["reconnects_peak"] <= 1.5 * DRAIN_RATE


def test_new_clients_are_on_the_release_within_5_s_of_the_cut_over(rollout):
    longest = 0
    for step in rollout.steps:
        began = step.run.start_of("Give the release the traffic")
        turns = [(when, who) for when, who in rollout.report["turns"] if step.run.started < when < step.run.ended]
        assert turns[-1][1] == step.version
        assert began < turns[0][0], "clients were there before the cut-over"
        longest = max(longest, turns[-1][0] - began)
    rollout.report["summary"]["cut_over_seconds"] = f"{longest:.1f} at most"
    assert longest < 5


def test_nginx_kept_its_processes_and_nothing_was_installed(rollout):
    assert rollout.after == rollout.before


def test_nothing_is_left_of_the_other_releases(rollout):
    assert [step.left for step in rollout.steps] == [{}] * len(WAY)


def test_releases_to_go_back_to_are_kept_and_no_more(rollout):
    for step in rollout.steps:
        assert {step.live, step.earlier} <= step.kept
        assert len(step.kept) <= KEEP


def test_app_has_nothing_to_complain_of(host, rollout):
    assert host.run("grep -l Traceback /var/log/websockets/echo/*").stdout == ""
