"""One app for each server: deployed, deployed again and rolled back under the eyes of its clients, and removed.

With `APPS_RESULTS=1` in the environment, what was seen is written to `molecule/apps/results.json`, for docs/apps.py.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import re
import socket
import time
import types

import pytest
import yaml

SCENARIO = pathlib.Path(__file__).parents[1]
APPS = yaml.safe_load((SCENARIO / "inventory/group_vars/websockets.yml").read_text())["websockets_apps"]
testinfra_hosts = ["ansible://debian13"]
HELD = RATE = 10
# The close code that clients see when a release ends. 1012 tells them to come back; daphne cannot send it.
CODES = {name: 1012 for name in APPS} | {"daphne": 4012}
# uvicorn does not wait for the clients' answers to its close frames: who sends in that moment may see 1006.
HASTY = {"uvicorn", "gunicorn", "socketio"}

pytestmark = pytest.mark.parametrize("server", APPS)


@pytest.fixture(scope="module")
def apps(echo):
    return {
        name: dataclasses.replace(
            echo, name=name, numprocs=2, port=int(app["listen"]), path=app.get("gate_path", "/").removeprefix("/")
        )
        for name, app in APPS.items()
    }


@pytest.fixture
def app(apps, server):
    return apps[server]


@pytest.fixture(scope="module")
def clients(load):
    """Have a few clients of an app while a block runs."""

    def run(experiment, app):
        options = ["--socketio"] if app.name == "socketio" else []
        return load(f"{experiment}-{app.name}", RATE, HELD, app=app, options=options)

    return run


@pytest.fixture(scope="module")
def results():
    """What was seen of each app, for docs/apps.py."""
    path = SCENARIO / "results.json"
    seen = {name: {} for name in APPS} | json.loads(path.read_text() if path.exists() else "{}")
    yield seen
    if os.environ.get("APPS_RESULTS"):
        path.write_text(json.dumps({name: seen[name] for name in APPS}, indent=2) + "\n")


@pytest.fixture(scope="module")
def redeployed(request, apps, clients, deploy):
    """Deploy all apps once more, with another environment, while each has clients. With ``-k NAME``, deploy that app."""
    chosen = {item.callspec.params["server"] for item in request.session.items}
    only = {"websockets_only": min(chosen)} if len(chosen) == 1 else {}
    before = {name: apps[name].release for name in chosen}
    with contextlib.ExitStack() as stack:
        reports = {name: stack.enter_context(clients("redeploy", apps[name])) for name in chosen}
        run = deploy(number=str(time.time()), **only)
    assert run.returncode == 0, run.stdout[-3000:]
    # Each app's deploy ends with its summary.
    ends = [(run.started, ""), *((when, line.split()[1]) for when, line in run.lines if re.match(r" +app: ", line))]
    for (start, _), (end, name) in itertools.pairwise(ends):
        reports[name]["summary"]["deploy_seconds"] = round(end - start, 1)
    return types.SimpleNamespace(before=before, reports=reports)


def unharmed(report, server):
    """See that no handshake failed, that no message was lost, and that each held client was told once to go."""
    hasty = {who for _, code, who in report["closes"] if code == 1006 and server in HASTY}
    assert report["failed"] == []
    assert [message for message in report["lost"] if message["client"] not in hasty] == []
    assert {code for _, code, who in report["closes"] if who not in hasty} == {CODES[server]}
    assert len([who for _, _, who in report["closes"] if who.startswith("held ")]) == HELD
    return True


def test_app_knows_its_clients_address(app):
    with socket.create_connection((app.address, app.port)) as connection:
        mine = connection.getsockname()[0]
    if app.path:
        app = dataclasses.replace(app, path="")
    with app.get() as answer:
        assert (answer.status, answer.read().decode()) == (200, mine)


def test_redeploy_harms_no_client(redeployed, app, server, results):
    report = redeployed.reports[server]
    results[server] |= {
        "codes": sorted(report.codes()),
        "failed": len(report["failed"]),
        "lost": len(report["lost"]),
    }
    assert app.release != redeployed.before[server]
    assert report["summary"]["handshakes"] > RATE
    assert unharmed(report, server)


def test_old_release_has_left_nothing(redeployed, app, host):
    assert host.check_output(f"ls /run/websockets/{app.name}").split() == [app.release]
    masters = sorted(app.pids().values())
    assert len(masters) == 2
    found = host.check_output(f"ps -o pid=,ppid= -u ws-{app.name}").splitlines()
    strangers = [line for line in found if not {*map(int, line.split())} & {*masters}]
    assert strangers == []


def test_rollback_harms_no_client(redeployed, app, server, clients, play):
    with clients("rollback", app) as report:
        run = play("rollback", websockets_only=app.name)
    assert run.returncode == 0, run.stdout
    assert app.release == redeployed.before[server]
    assert unharmed(report, server)


def test_removal_leaves_nothing(app, server, host, client, play, results):
    user = host.user(f"ws-{app.name}").uid

    async def stay(websocket):
        run = await asyncio.to_thread(play, "remove", websockets_only=app.name, app_to_remove=app.name)
        await websocket.wait_closed()
        return run, websocket.close_code

    run, code = client(app, stay, ping_interval=None)
    assert run.returncode == 0, run.stdout
    left = {
        "processes": f"pgrep -a -U {user}",
        "sockets": f"ss -Hlx | grep /run/websockets/{app.name}/; ss -Hltn 'sport = :{app.port}'",
        "programs": f"supervisorctl status | grep ^{app.name}-",
        "files": (
            f"find / -xdev -path /proc -prune -o -path '/srv/websockets/*/venvs' -prune -o -path /usr -prune -o "
            f"-regextype egrep -regex '.*/(ws-|websockets-|websockets\\.next-|websockets/){app.name}([-.].*)?' -print "
            f"-o -nouser -print"
        ),
    }
    found = {what: host.run(command).stdout for what, command in left.items()}
    found = {what: lines for what, lines in found.items() if lines}
    results[server]["left"] = found
    assert found == {}
    assert code == CODES[server]
