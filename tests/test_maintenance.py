"""Maintenance: while a file is there, a real nginx answers new clients itself, and the role's own handshake passes."""

import json
import os
import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.websockets.deploy.plugins.module_utils import handshake, nginx, paths, recorded
from ansible_collections.websockets.deploy.plugins.module_utils.inputs import InputError
from ansible_collections.websockets.deploy.plugins.module_utils.probe import Probe
from role import load, nginx_files, plan, stored
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

maintenance = load("modules/maintenance")


@pytest.fixture
def turn(nginx_folder, capsys):
    """Run the module for what the fixture ``served`` has returned."""

    def run(app, begin=True, files=None, **changed):
        arguments = {"run": app.planned["run"], "site": app.planned["site"], "begin": begin, "last": True, **changed}
        arguments["files"] = files or nginx_files(app.planned, nginx_folder)
        with patch_module_args(arguments), pytest.raises(SystemExit):
            maintenance.main()
        return json.loads(capsys.readouterr().out)

    return run


def get(app, path="/", **headers):
    """Ask for a page, and return its status, its headers and its text."""
    request = urllib.request.Request(f"http://127.0.0.1:{app.port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def test_new_clients_are_told_to_come_later_and_connected_ones_stay(served, turn, short_path):
    (short_path / "page.js").write_text("hello")
    app = served(nginx_locations={"= /page.js": f"{short_path}/page.js"})
    assert get(app, "/page.js")[0] == 200
    with connect(f"ws://127.0.0.1:{app.port}/") as client:
        assert turn(app)["changed"] is True
        for further in ({}, {"origin": "https://elsewhere.example"}):
            with pytest.raises(InvalidStatus) as refused:
                connect(f"ws://127.0.0.1:{app.port}/chat?room=1", **further)
            assert refused.value.response.status_code == 503
            assert refused.value.response.headers["Retry-After"] == "60"
        for path in ("/", "/page.js", "/.websockets-maintenance"):
            status, headers, text = get(app, path)
            assert (status, headers["Retry-After"], headers["Content-Type"]) == (503, "60", "text/html; charset=utf-8")
            assert "<h1>Maintenance</h1>" in text
        # As at a deploy.
        handshake.ask(("127.0.0.1", app.port), Probe(message="hello"), sources=["127.0.0.2"])
        client.send("still here")
        assert client.recv() == "still here"
    assert turn(app, begin=False)["changed"] is True
    with connect(f"ws://127.0.0.1:{app.port}/"):
        pass
    assert get(app, "/page.js")[0] == 200
    assert get(app, "/.websockets-maintenance")[0] == 404


def test_the_503_of_a_limit_is_another_one(served):
    app = served(connections_per_address=1)
    with connect(f"ws://127.0.0.1:{app.port}/"):
        status, headers, text = get(app)
    assert (status, headers["Retry-After"]) == (503, None)
    assert "Maintenance" not in text


def test_it_begins_once_without_a_reload_and_ends_once(served, turn):
    app = served()
    before = set(app.workers())
    begun = turn(app)
    assert (begun["changed"], bool(re.fullmatch(r"[0-9-]+ [0-9:]+", begun["since"]))) == (True, True)
    os.utime(paths.maintenance("echo"), (0, 0))
    again = turn(app)
    assert again["changed"] is False
    assert again["since"] == recorded.maintenance("echo") != begun["since"]
    assert [turn(app, begin=False)["changed"] for _ in range(2)] == [True, False]
    assert set(app.workers()) == before
    assert recorded.maintenance("echo") == ""


def test_a_check_says_it_and_does_nothing(served, turn):
    app = served()
    check = {"_ansible_check_mode": True}
    assert turn(app, **check)["would"] == ["answer new clients of echo with 503"]
    assert turn(app, begin=False, **check)["would"] == []
    assert not os.path.exists(paths.maintenance("echo"))
    turn(app)
    assert turn(app, begin=False, **check)["would"] == ["no longer answer new clients of echo with 503"]
    assert os.path.exists(paths.maintenance("echo"))


def older(app):
    """Have nginx serve a site as an earlier version of the role has written it."""
    site = Path(app.planned["site"]["file"])
    text = site.read_text()
    site.write_text(re.sub(r"    # Maintenance: .*?\n    }\n\n", "", text, flags=re.S))
    assert "maintenance" not in site.read_text() != text
    nginx.reload()
    return site


def test_a_site_of_an_older_version_gets_it_with_the_first_maintenance(served, turn):
    app = served()
    site = older(app)
    before = site.read_text()
    would = turn(app, _ansible_check_mode=True)["would"]
    assert would == [f"write {site} and reload nginx", "answer new clients of echo with 503"]
    assert turn(app, begin=False)["changed"] is False
    assert site.read_text() == before
    with connect(f"ws://127.0.0.1:{app.port}/") as client:
        assert turn(app)["changed"] is True
        assert get(app)[0] == 503
        client.send("still here")
        assert client.recv() == "still here"
    assert json.loads(Path(paths.site_record("echo")).read_text())["digest"] == recorded.digest(site.read_text())
    after = site.read_text()
    assert turn(app, files={str(site): "another version's"})["changed"] is False
    assert site.read_text() == after


def test_a_reload_that_was_interrupted_is_made_up_for(served, turn):
    app = served()
    site = older(app)
    site.write_text(nginx_files(app.planned, paths.NGINX)[str(site)])
    Path(paths.PENDING).touch()
    turn(app)
    assert get(app)[0] == 503


def test_a_site_that_nginx_refuses_replaces_nothing(served, turn):
    app = served()
    site = older(app)
    before = site.read_text()
    done = turn(app, files={str(site): before + "lisen 80;\n"})
    assert done["msg"].startswith("The maintenance of echo has not begun: ")
    assert 'unknown directive "lisen"' in done["msg"]
    assert site.read_text() == before
    assert get(app)[0] != 503


# The plan


LIVE = "111111111111"


def test_the_plan_is_the_live_release_with_the_recorded_inputs():
    there = {"live": LIVE, "releases": {LIVE: stored(LIVE, numprocs=2)}}
    # A certificate that has ended stops a deploy, and no maintenance.
    there["certificate"] = {"problem": "it has ended", "about": "certificate"}
    record = {"there": True, "apps": ["echo"], "inputs": {**plan()["inputs"], "gate_headers": {}, "hsts": 0}}
    made = plan(there, "maintenance", recorded=record)
    assert (made["release"]["id"], made["recorded"]) == (LIVE, True)
    assert made["maintenance"] == "/srv/websockets/echo/maintenance"
    assert not any(made["todo"].values())


def test_an_app_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(InputError, match=r"websockets_only is 'feed': this host has chat and echo\."):
        plan(purpose="maintenance", only="feed", recorded={"apps": ["chat", "echo"]})
    with pytest.raises(InputError, match=r"it has no live release on this host; deploy it first\."):
        plan(purpose="maintenance")
