"""Releases that must not get a client, and what a person is told about them, while clients come, stay and talk."""

import types

import pytest

testinfra_hosts = ["ansible://debian12"]

HEALTH = 'if request.path == "/healthz":'
START = "    stop = asyncio.Event()\n"
# What is wrong with the app, and what the play has to say about it.
KINDS = {
    "crashes at start": (
        [("import asyncio\n", "raise SystemExit('no database')\n")],
        ["echo_00.sock does not exist", "no database"],
    ),
    "crashes in one of four": (
        [(START, START + "    assert '_02' not in path, 'no luck'\n")],
        ["echo_02.sock does not exist", "AssertionError: no luck"],
    ),
    "never listens": (
        [(START, START + "    print('waiting for the database', flush=True)\n    await stop.wait()\n")],
        ["echo_00.sock does not exist", "echo_00 is RUNNING", "waiting for the database"],
    ),
    "refuses handshakes": (
        [(HEALTH, "if True:"), ("OK", "FORBIDDEN")],
        ["echo_00.sock refused the handshake: HTTP/1.1 403 Forbidden", "echo: listens on "],
    ),
    "refuses what comes through a proxy": (
        [(HEALTH, 'if "X-Forwarded-For" in request.headers:'), ("OK", "FORBIDDEN")],
        ["echo_00.sock refused the handshake: HTTP/1.1 403 Forbidden"],
    ),
    "answers wrongly": (
        [("send(message)", "send(message[::-1])")],
        ["echo_00.sock answered b'olleh' to the message 'hello'", "echo: client 127.0.0.1"],
    ),
    "closes its socket to nginx": (
        [(START, "    os.umask(0o177)\n" + START)],
        ["echo_00.sock does not let nginx connect", "has mode 0600, owner ws-echo, group www-data;"],
    ),
    "misses a package": (
        [("import asyncio\n", "import no_such_package\n")],
        ["echo_00.sock does not exist", "No module named 'no_such_package'"],
    ),
    "has a syntax error": (
        [("async def main(path):", "async def main(path:")],
        ["echo_00.sock does not exist", "SyntaxError"],
    ),
}


@pytest.fixture(scope="module")
def fates(load, deploy, version, echo, left_over):
    """Deploy each kind under load; return {kind: what was seen of it} and the load's report."""

    def fate(kind):
        edits, _ = KINDS[kind]
        run = deploy(**version(kind, *edits), websockets_gate_timeout=10)
        return types.SimpleNamespace(run=run, live=echo.release, pids=echo.pids(), left=left_over())

    deploy(**version("sound"))
    before = types.SimpleNamespace(live=echo.release, pids=echo.pids())
    with load("broken") as report:
        found = {kind: fate(kind) for kind in KINDS}
    return types.SimpleNamespace(report=report, before=before, of=found)


@pytest.mark.parametrize("kind", KINDS)
def test_person_is_told_which_socket_and_why(fates, kind):
    run = fates.of[kind].run
    assert run.returncode != 0
    assert "has not passed the gate and gets no traffic; nginx serves what it served before" in run.stdout
    for words in KINDS[kind][1]:
        assert words in run.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_old_release_has_not_noticed_and_nothing_is_left_of_the_new(fates, kind):
    fate = fates.of[kind]
    assert (fate.live, fate.pids) == (fates.before.live, fates.before.pids)
    assert fate.left == {}


def test_no_client_has_come_to_any_of_them(fates):
    assert list(fates.report["releases"]) == ["sound"]
    assert fates.report["closes"] == []
    assert fates.report.harm() == {}


@pytest.fixture(scope="module")
def taken_back(load, deploy, version, echo, left_over):
    """Deploy, under load, a release whose processes serve one client each: the gate."""
    deploy(**version("sound"))
    live = echo.release
    with load("taken-back") as report:
        once = 'health.asked = getattr(health, "asked", 0) + 1\n    if health.asked > 1:'
        run = deploy(**version("bad", (HEALTH, once), ("OK", "FORBIDDEN")))
    return types.SimpleNamespace(report=report, run=run, before=live, live=echo.release, left=left_over())


def test_release_that_fails_behind_nginx_is_taken_back(taken_back):
    assert taken_back.run.returncode != 0
    assert "does not answer through nginx" in taken_back.run.stdout
    assert "refused the handshake: HTTP/1.1 403 Forbidden" in taken_back.run.stdout
    assert taken_back.live == taken_back.before
    assert taken_back.left == {}


def test_no_client_has_met_it(taken_back):
    assert list(taken_back.report["releases"]) == ["sound"]
    assert taken_back.report["closes"] == []
    assert taken_back.report.harm() == {}
