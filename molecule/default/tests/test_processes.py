"""The processes of an app, their sockets, and supervisord's view of them."""

import json

import pytest

# A WebSocket client on the host itself, from the app's own virtual environment.
HANDSHAKE = """
import sys
from websockets.sync.client import unix_connect
with unix_connect(sys.argv[1], "ws://localhost/") as websocket:
    websocket.send("to you alone")
    print(websocket.recv())
"""


@pytest.mark.parametrize("app", ["echo", "asgi"])
def test_sockets_are_exactly_those_of_the_processes(host, request, app):
    app = request.getfixturevalue(app)
    found = host.check_output(f"find /run/websockets/{app.name} -type s | sort").splitlines()
    assert found == app.sockets


def test_sockets_are_for_the_app_and_nginx_only(host, echo):
    for path in echo.sockets:
        socket = host.file(path)
        assert (socket.user, socket.group, socket.mode) == ("ws-echo", "www-data", 0o770)
    for folder in (f"/run/websockets/echo/{echo.release}", "/run/websockets/echo"):
        folder = host.file(folder)
        assert (folder.user, folder.group, folder.mode) == ("ws-echo", "www-data", 0o2750)


@pytest.mark.parametrize("app", ["echo", "asgi"])
def test_each_socket_answers_its_own_handshake(host, request, app):
    app = request.getfixturevalue(app)
    release = json.loads(host.file(f"/srv/websockets/{app.name}/releases/{app.release}/release.json").content_string)
    for path in app.sockets:
        done = host.run(f"{release['venv']}/bin/python -c '{HANDSHAKE}' {path}")
        assert (done.stdout, done.stderr) == ("to you alone\n", "")


@pytest.mark.parametrize("app", ["echo", "asgi"])
def test_supervisord_runs_them_and_nothing_else_of_the_app(host, request, app):
    app = request.getfixturevalue(app)
    lines = host.check_output("supervisorctl status").splitlines()
    mine = [line.split() for line in lines if line.startswith(f"{app.name}-")]
    assert [line[:2] for line in mine] == [
        [f"{app.name}-{app.release}:{process}", "RUNNING"] for process in app.processes
    ]


def test_logs_are_kept_per_process(host, echo):
    for process in echo.processes:
        log = host.file(f"/var/log/websockets/echo/{process}-{echo.release}.log")
        assert log.contains("listens on")


def test_killed_process_comes_back(host, echo, wait):
    before = echo.pids()
    host.check_output(f"kill -9 {before['echo_02']}")
    wait(f'supervisorctl status echo-{echo.release}:echo_02 | grep RUNNING | grep -v "pid {before["echo_02"]},"')
    after = echo.pids()
    assert after["echo_02"] != before["echo_02"]
    assert {**after, "echo_02": 0} == {**before, "echo_02": 0}
