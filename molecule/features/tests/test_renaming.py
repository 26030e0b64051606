"""An app comes in the place of another one under load: no client notices, and nothing of the other one is left."""

import os
import re
import signal

import pytest

testinfra_hosts = ["ansible://debian13"]
PORT = 8090
SAME = {"websockets_listen": str(PORT), "websockets_drain_interval": 1}


@pytest.fixture(scope="module")
def app(echo):
    """An app of this file's, by its name."""
    return lambda name: type(echo)(echo.host, name, 4, PORT)


@pytest.fixture(scope="module", autouse=True)
def _old(deploy, play):
    """The app old, deployed once for all tests; nothing of the apps of this file is there at the end."""
    done = deploy(websockets_app="old", **SAME)
    assert done.returncode == 0, done.stdout
    yield
    for name in ("old", "new", "newest"):
        play("remove", websockets_only=name, app_to_remove=name)


@pytest.fixture
def watched(app, load):
    """Have clients come, go, stay and talk at the address of both apps while a block runs."""
    return lambda experiment: load(experiment, rate=100, held=100, app=app("old"))


NEW = {"websockets_app": "new", "websockets_replaces": "old", **SAME}


def unnoticed(report):
    """See that clients have only been told to come again, each once."""
    assert (report["failed"], report["lost"]) == ([], [])
    assert {code for _, code, _ in report["closes"]} == {1012}


def left_of(host, name):
    """Return what the host has of an app."""
    folders = "/srv/websockets /run/websockets /var/log/websockets /var/lib/websockets"
    configured = "/etc/nginx /etc/supervisor/conf.d /etc/tmpfiles.d"
    found = host.check_output(
        f"ls -d $(printf '%s/{name} ' {folders}) 2>/dev/null; find {configured} -regex '.*websockets.*[-/.]{name}[-.].*';"
        f" getent passwd ws-{name}; pgrep -u ws-{name} -a 2>/dev/null; supervisorctl status | grep '^{name}-'; true"
    )
    return found.splitlines()


# The tests are the steps of one story, in this order.


def test_a_broken_app_takes_no_place(host, app, deploy, watched, client):
    old = app("old")

    def state():
        return old.release, old.pids(), host.check_output("sha256sum /etc/nginx/conf.d/websockets*")

    before = state()
    with watched("renaming-broken") as report:
        done = deploy(**NEW, websockets_command="{venv}/bin/python -c 'raise SystemExit(1)' {socket}")
    assert done.returncode != 0
    assert "has not passed the gate" in done.stdout
    assert (report["failed"], report["lost"], report["closes"]) == ([], [], [])
    assert state() == before
    client(old)


def test_an_app_with_data_is_not_taken_away(host, app, deploy, client):
    home = "/var/lib/websockets/old/ws-old"
    host.check_output(f"touch {home}/state.db")
    done = deploy(**NEW)
    assert done.returncode != 0
    assert f"that app has {home}/state.db, and would be removed with all that is in" in done.stdout
    client(app("old"))
    host.check_output(f"rm {home}/state.db")


def test_no_client_is_lost_and_nothing_is_left(host, app, deploy, play, watched):
    assert left_of(host, "old")
    with watched("renaming") as report:
        done = deploy(**NEW)
        assert done.returncode == 0, done.stdout
        again = deploy(**NEW)
    unnoticed(report)
    assert len(report["closes"]) >= 100
    # A process each second, as the pace says.
    assert max(when for when, *_ in report["closes"]) - min(when for when, *_ in report["closes"]) >= 2
    assert left_of(host, "old") == []
    assert re.search(r"changed=0 ", again.stdout), again.stdout
    assert len(app("new").pids()) == 4
    back = play("rollback", websockets_only="new")
    assert "is the only release of new that has been live on this host; there is nothing to go back to." in back.stdout


def test_the_next_run_finishes_one_that_was_interrupted(host, app, start, deploy, watched):
    newest = {**NEW, "websockets_app": "newest", "websockets_replaces": "new"}
    with watched("renaming-interrupted") as report:
        process = start("site", **newest)
        for line in process.stdout:
            if line.startswith("TASK [websockets.deploy.websockets : Take the app out of nginx"):
                break
        # What Ctrl-C does is in the scenario faults; this one leaves Ansible no time for another task.
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert left_of(host, "new")
        done = deploy(**newest)
        assert done.returncode == 0, done.stdout
    unnoticed(report)
    assert left_of(host, "new") == []
    assert len(app("newest").pids()) == 4
