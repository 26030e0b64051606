"""Requests that belong together, and plain HTTP beside a WebSocket, with python-socketio and FastAPI under uvicorn."""

import json
import pathlib

import pytest

testinfra_hosts = ["ansible://debian12"]

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
# The second is the library's default: polling, and then a WebSocket.
TRANSPORTS = ["polling", ""]
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
def python(host):
    """Return the command that has clients come, at the app's host, as a function."""

    def command():
        code = host.check_output("readlink -f /srv/websockets/together/live").replace("/run/", "/srv/", 1)
        venv = host.check_output("ls -dt /srv/websockets/together/venvs/*").split()[0]
        return f"{venv}/bin/python {code.replace('together/', 'together/releases/', 1)}/app/crowd.py"

    return command


@pytest.fixture(scope="module")
def crowd(host, python):
    """Have clients come, and return what they have seen."""
    return lambda *words: json.loads(host.check_output(" ".join(map(str, (python(), *words)))))


def test_requests_of_one_client_go_to_any_process(site, crowd):
    site()
    assert crowd("talk", URL, "polling").count("polling") < 4
    assert crowd("count", URL) != [10] * 8
    assert crowd("spread", URL, 200) == dict.fromkeys(PROCESSES, 50)
    assert crowd("large", URL, 9000) == [400, 400]


@pytest.mark.parametrize("sticky", ["address", "cookie node"])
def test_requests_of_one_client_go_to_one_process(site, crowd, sticky):
    site(websockets_sticky=sticky)
    assert crowd("talk", URL, "polling") == ["polling"] * 8
    assert crowd("talk", URL) == ["websocket"] * 8
    assert crowd("count", URL) == [10] * 8
    # Half of what they would have if all had the same, or more.
    many = crowd("spread", URL, 200)
    assert set(many) == set(PROCESSES)
    assert min(many.values()) > 25
    one = crowd("spread", URL, 1)
    assert len(one) == (1 if sticky == "address" else 4)


@pytest.fixture(scope="module")
def deployed_under_clients(host, site, python, wait):
    """Deploy a release with room for large headers, while clients are there; return what these have seen."""
    host.check_output("rm -f /tmp/together.*")
    for transports in TRANSPORTS:
        seen = f"/tmp/together.{transports or 'both'}"
        host.check_output(
            f"nohup {python()} stay {URL} /tmp/together.end {transports} > {seen}.json 2> {seen}.ready < /dev/null &"
        )
        wait(f'[ "$(grep -c ready {seen}.ready)" = 8 ]')
    site(
        websockets_sticky="cookie node",
        websockets_header_size=32768,
        websockets_environment={"WEBSOCKETS_MAX_LINE_LENGTH": 32768},
    )
    # All of them are back before they go.
    host.check_output("sleep 5; touch /tmp/together.end")
    seen = {transports: f"/tmp/together.{transports or 'both'}.json" for transports in TRANSPORTS}
    wait(" && ".join(f"[ -s {path} ]" for path in seen.values()), 30)
    return {transports: json.loads(host.check_output(f"cat {path}")) for transports, path in seen.items()}


@pytest.mark.parametrize("transports", TRANSPORTS)
def test_clients_begin_again_once_at_a_deploy(deployed_under_clients, transports):
    """What was in the memory of a process is gone, and each client has a process again at once."""
    lost = [times for times, _failed_calls in deployed_under_clients[transports]]
    print(lost)
    assert [len(times) for times in lost] == [1] * 8
    assert max(lost)[0] < 5


# Plain HTTP of the same app


@pytest.mark.usefixtures("deployed_under_clients")
def test_answers_come_through_nginx_as_the_app_gives_them(host, crowd):
    peer = host.check_output("readlink -f /srv/websockets/together/live") + "/together_00.sock"
    assert crowd("same", URL, peer) == []
    assert crowd("chunks", URL) == 100000


@pytest.mark.usefixtures("deployed_under_clients")
@pytest.mark.parametrize("query", ["", "?unbuffered=false"])
def test_events_come_while_the_app_sends_them(crowd, query):
    assert crowd("events", URL, query) > 0.8


@pytest.mark.usefixtures("deployed_under_clients")
@pytest.mark.parametrize(("query", "status"), [("busy=0", 201), ("busy=1", 503), ("dies=1", 502)])
def test_a_post_reaches_one_process_once(host, crowd, query, status):
    number = f"order-{status}"
    assert crowd("order", URL, number, query) == status
    assert host.check_output(f"grep -cx {number} /var/lib/websockets/together/*/orders") == "1"


@pytest.mark.usefixtures("deployed_under_clients")
def test_a_cookie_may_be_as_large_as_the_header_size(crowd):
    assert crowd("large", URL, 30000) == [200, 101]
    assert crowd("large", URL, 33000) == [400, 400]
