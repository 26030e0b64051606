"""Requests that belong together, and plain HTTP beside a WebSocket, with python-socketio and FastAPI under uvicorn."""

import json
import pathlib

import pytest

testinfra_hosts = ["ansible://debian13"]

FOLDER = pathlib.Path(__file__).parents[1] / "apps" / "sticky"
COMMAND = "{venv}/bin/uvicorn app:app --uds {socket} --log-level warning --forwarded-allow-ips '*'"
APP = {
    "websockets_app": "together",
    "websockets_src": str(FOLDER),
    "websockets_command": COMMAND,
    "websockets_listen": "8090",
    "websockets_gate_path": "/ws",
    "websockets_gate_message": "",
    "websockets_body_size": 1 << 20,
}
PROCESSES = [f"together_{number:02d}" for number in range(4)]
URL = "http://localhost:8090"


@pytest.fixture(scope="module")
def site(deploy, play):
    """Deploy the app with other inputs, as a function; remove it at the end."""

    def make(**inputs):
        done = deploy(**APP, **inputs)
        assert done.returncode == 0, done.stdout

    yield make
    removed = play("remove", **APP, app_to_remove="together")
    assert removed.returncode == 0, removed.stdout


@pytest.fixture(scope="module")
def crowd(host):
    """Have clients come, at the app's host."""

    def run(*words):
        python = host.check_output("ls -d /srv/websockets/together/venvs/*/bin/python")
        program = host.check_output("ls -d /srv/websockets/together/releases/*/app/crowd.py | tail -1")
        return json.loads(host.check_output(f"{python} {program} {' '.join(map(str, words))}"))

    return run


def test_requests_of_one_client_go_to_any_process(site, crowd):
    site()
    assert crowd("talk", URL, "polling").count("polling") < 4
    assert crowd("count", URL) != [10] * 8
    assert crowd("spread", URL, 200) == dict.fromkeys(PROCESSES, 50)


@pytest.mark.parametrize("sticky", ["cookie node", "address"])
def test_requests_of_one_client_go_to_one_process(site, crowd, sticky):
    site(websockets_sticky=sticky)
    assert crowd("talk", URL, "polling") == ["polling"] * 8
    assert crowd("talk", URL) == ["websocket"] * 8
    assert crowd("count", URL) == [10] * 8
    # A fifth of what they would have if all were equal, or more.
    many = crowd("spread", URL, 200)
    assert set(many) == set(PROCESSES) and min(many.values()) > 25, many
    one = crowd("spread", URL, 1)
    assert len(one) == (1 if sticky == "address" else 4)
