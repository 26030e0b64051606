"""A release: its id, which is the same for the same processes only, and its names and links on the host."""

import os
import re
from pathlib import Path

import pytest
from ansible_collections.websockets.deploy.plugins.module_utils import paths, release, source
from ansible_collections.websockets.deploy.plugins.module_utils.inputs import Inputs
from ansible_collections.websockets.deploy.plugins.module_utils.release import Release
from role import ROLE, plan, read, stored, to_dict


@pytest.fixture
def app(tmp_path):
    folder = tmp_path / "app"
    (folder / "lib").mkdir(parents=True)
    (folder / "app.py").write_text("print('hello')\n")
    (folder / "lib" / "b.py").write_text("b = 1\n")
    (folder / "lib" / "a.py").write_text("a = 1\n")
    (folder / "requirements.txt").write_text("websockets==17.4\n")
    return folder


@pytest.fixture
def identity(app):
    """Return the id of the app's release with these inputs, and its virtual environment."""

    def of(host=None, **inputs):
        planned = plan(host, **{"src": str(app), **inputs})["release"]
        return planned["id"], os.path.basename(planned["venv"])

    return of


OTHER_PROCESSES = {
    "command": {"command": "{venv}/bin/python -O app.py {socket}"},
    "environment": {"environment": {"A": "1"}},
    "before start": {"before_start": "true"},
    "workers": {"workers": {"mail": {"command": "celery -A tasks worker"}}},
    "secret": {"secrets": {"A": "1"}},
    "user": {"user": "somebody"},
    "numprocs": {"numprocs": 5},
    "stopwaitsecs": {"stopwaitsecs": 31},
    "drain rate": {"drain_rate": 1},
    # Times and limits of the processes
    "connections": {"max_connections": 99},
    "ping interval": {"ping_interval": 21},
    "interpreter": {"python": "/opt/python/bin/python3"},
    "pip arguments": {"pip_args": ["--pre"]},
}
SAME_PROCESSES = {
    "gate": {"gate_path": "/x", "gate_message": "x", "gate_timeout": 1, "gate_headers": {"Cookie": "x"}},
    "drain": {"drain_timeout": 1, "drain_interval": 2, "keep_releases": 3, "rollback_to": "0123456789ab"},
    "sandbox": {"sandbox": "never"},
    "cpu_scheduling": {"cpu_scheduling": "batch"},
    "access": {
        "origins": ["https://a.example"],
        "origin_required": True,
        "auth_request": "http://127.0.0.1:9000/check",
        "connections_per_address": 9,
        "handshakes_per_address": 9,
        "handshake_timeout": 9,
        "body_size": 9,
        "trusted_proxies": ["192.0.2.1"],
        "proxy_protocol": True,
    },
    "before start, on": {"before_start_on": "one", "before_start_at_rollback": True},
    "packages of the distribution": {"packages": ["libpq5"]},
    "wheels": {"wheels": "build"},
    "earlier name": {"replaces": "talk"},
    "path": {"path": "/ws/", "sticky": "address", "header_size": 16384},
    "nginx": {"listen": "[::1]:80", "server_name": ["a.example"], "proxy_timeout": 99, "message_size": 9},
    "authority": {
        **{"listen": "443", "tls": "acme", "server_name": ["a.example"], "acme_email": "a@b.example", "hsts": 9},
        **{"acme_directory": "https://ca.example/dir", "listen_plain": "8081"},
    },
    "own certificate": {"listen": "443", "tls": "files", "tls_certificate": "/a.pem", "tls_key": "/a.key"},
    "log": {"access_log": "none"},
    "old workers of nginx": {"worker_shutdown_timeout": 9},
    "own lines for nginx": {"nginx_server": "allow all;", "nginx_locations": {"/a": "return 204;"}},
    "play": {"serial": 1},
    "package index": {"pip_index_url": "https://pypi.example/simple"},
    "type of a number": {"numprocs": "4"},
}


@pytest.mark.parametrize("inputs", OTHER_PROCESSES.values(), ids=OTHER_PROCESSES)
def test_other_processes_are_another_release(identity, inputs):
    assert identity(**inputs)[0] != identity()[0]


@pytest.mark.parametrize("inputs", SAME_PROCESSES.values(), ids=SAME_PROCESSES)
def test_the_same_processes_are_the_same_release(identity, inputs):
    assert identity(**inputs) == identity()


def test_every_input_is_decided_about():
    """Each input changes the id, or does not, or is part of the release's names and files."""
    elsewhere = {"app", "src", "repo", "version", "exclude", "apps", "only"}
    decided = set().union(*OTHER_PROCESSES.values(), *SAME_PROCESSES.values(), elsewhere)
    assert {f"websockets_{name}" for name in decided} == set(read("defaults/main.yml"))


def test_auto_is_a_process_for_each_core_and_two_at_the_least(identity):
    for cores, numprocs in ((1, "2"), (2, 2), (16, 16)):
        assert identity({"cores": cores}, numprocs="auto") == identity(numprocs=numprocs)


def test_how_long_a_worker_has_to_run_at_the_gate_is_no_part_of_it(identity):
    def of(**mail):
        return identity(workers={"mail": {"command": "celery", **mail}})

    assert of(runs_for=60) == of(numprocs=1, stopwaitsecs=30) == of()
    assert len({of(**mail) for mail in ({}, {"numprocs": 2}, {"stopwaitsecs": 9}, {"command": "rq"})}) == 4
    assert of() != identity(workers={"post": {"command": "celery"}})


def test_workers_have_names_that_no_other_process_has():
    made = plan(workers={"mail_0": {"command": "x", "numprocs": 2}, "mail": {"command": "x", "numprocs": 11}})[
        "release"
    ]
    names = [process["name"] for one in (made, *made["workers"]) for process in one["processes"]]
    assert len(set(names)) == len(names) == 4 + 11 + 2
    assert names[4:5] + names[-1:] == ["echo.mail_00", "echo.mail_0_01"]
    assert made["workers"][0]["processes"][10]["log"] == f"/var/log/websockets/echo/echo.mail_10-{made['id']}.log"


def test_the_interpreters_version_is_part_of_it(identity):
    assert identity({"python": "3.11"}) != identity({"python": "3.13"})


def test_what_the_role_makes_of_it_is_part_of_it():
    found = {"app.py": ("file", "0")}
    hidden = {"secrets": {}, "pip_index_url": "", "gate_headers": {}, "repo": "", "tls_key": ""}
    inputs = Inputs(**plan()["inputs"], **hidden)
    one, other = (release.derive(inputs, 4, found, "", "3.13", [text]).id for text in ("a", "b"))
    assert one != other


def test_an_upgrade_of_the_role_deploys_no_app_again(tmp_path):
    """The ids of releases that are live are those of the first published version of the role."""
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "a.txt").write_text("a")
    (tmp_path / "static" / "b.txt").symlink_to("a.txt")
    (tmp_path / "requirements.txt").write_text("websockets==17.4\n")
    (tmp_path / "app.py").write_text("print('app')\n")
    (tmp_path / "app.py").chmod(0o755)
    secrets, environment = {"T": "s'x"}, {"A": "1", "B": 2}
    further = {"numprocs": "3", "pip_args": ["--no-deps"], "max_connections": 1000}
    inputs = {"app": "chat", "environment": environment, "secrets": secrets, **further}
    found = plan(src=str(tmp_path), **inputs)["release"]
    assert found["venv"] == "/srv/websockets/chat/venvs/4c0a5bb56160"
    for given, first, second in (
        (inputs, "f0677a7eb3ad", "c6b2bc9f1857"),  # pragma: allowlist secret
        ({}, "4a14b7c9a35d", "da7dc6f90b17"),  # pragma: allowlist secret
    ):
        new = plan(src=str(tmp_path), **given)["release"]
        live = {"live": first, "releases": {first: stored(first)}, "venvs": [new["venv"]]}
        # A host that the first version has deployed to keeps its release. The next change is one of the present version.
        assert plan(live, src=str(tmp_path), **given)["release"]["id"] == first
        assert new["id"] == second
        assert plan(live | {"live": "0" * 12}, src=str(tmp_path), **given)["release"]["id"] == second
        assert plan(live | {"venvs": []}, src=str(tmp_path), **given)["release"]["id"] == second
        assert plan(live | {"releases": {}}, src=str(tmp_path), **given)["release"]["id"] == second


def test_a_change_of_what_a_process_is_has_another_number():
    """files/process-2.json stands for the meaning of these templates.

    If you change one of them and a process runs as before, change its digest here. If a process runs in another way, add
    a file with the next number, and name it in release.PROCESS.
    """
    texts = [(ROLE / "templates" / name).read_text() for name in ("program.conf.j2", "run.j2", "run/environment.j2")]
    assert release.PROCESS[0] == "files/process-2.json"
    assert release.digest(texts) == "cfe6ade87cb4"  # pragma: allowlist secret


CHANGES = {
    "content": lambda app: (app / "lib" / "a.py").write_text("a = 2\n"),
    "new file": lambda app: (app / "new").touch(),
    "file gone": lambda app: (app / "lib" / "a.py").unlink(),
    "other name": lambda app: (app / "lib" / "a.py").rename(app / "lib" / "c.py"),
    "executable": lambda app: (app / "app.py").chmod(0o755),
    "link": lambda app: (app / "link").symlink_to("app.py"),
}
NO_CHANGES = {
    "times": lambda app: os.utime(app / "app.py", (1, 1)),
    "permissions that a umask makes": lambda app: (app / "app.py").chmod(0o600),
    "the folder's permissions": lambda app: (app / "lib").chmod(0o700),
    "rewritten with the same": lambda app: (app / "app.py").write_text((app / "app.py").read_text()),
    "empty folder": lambda app: (app / "empty").mkdir(),
}


def test_the_order_of_variables_does_not_matter(identity):
    one, other = {"A": "1", "B": "2"}, {"B": "2", "A": "1"}
    assert identity(environment=one, secrets={"C": "3", "D": "4"}) == identity(
        environment=other, secrets={"D": "4", "C": "3"}
    )


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_other_files_are_another_release(identity, app, change):
    before = identity()
    change(app)
    assert identity()[0] != before[0]
    assert identity()[1] == before[1], "a code-only deploy installs nothing"


@pytest.mark.parametrize("change", NO_CHANGES.values(), ids=NO_CHANGES)
def test_the_same_files_are_the_same_release(identity, app, change):
    before = identity()
    change(app)
    assert identity() == before


def test_the_order_in_which_the_disk_lists_files_does_not_matter(identity, app, monkeypatch):
    before, walk = identity(), os.walk

    def backwards(top):
        for parent, folders, files in walk(top):
            folders.reverse()
            files.reverse()
            yield parent, folders, files

    monkeypatch.setattr(source.os, "walk", backwards)
    assert identity() == before


def test_other_requirements_are_another_environment(identity, app):
    before = identity()
    (app / "requirements.txt").write_text("websockets==17.3\n")
    after = identity()
    assert after[0] != before[0]
    assert after[1] != before[1]


def test_ids_of_another_place_are_the_same(identity, app, tmp_path):
    """A colleague's checkout is in another folder."""
    before = identity()
    app.rename(tmp_path / "elsewhere")
    assert identity(src=str(tmp_path / "elsewhere")) == before


# Names


def test_processes_and_their_sockets():
    derived = plan(app="chat", numprocs=12)["release"]
    assert derived["numprocs"] == len(derived["processes"]) == 12
    assert derived["processes"][11] == {
        "name": "chat_11",
        "socket": f"/run/websockets/chat/{derived['id']}/chat_11.sock",
        "peer": "/srv/websockets/chat/live/chat_11.sock",
        "log": f"/var/log/websockets/chat/chat_11-{derived['id']}.log",
    }
    assert re.fullmatch("[0-9a-f]{12}", derived["id"])


def test_a_release_is_called_the_same_by_its_names_alone():
    derived = plan(app="chat")["release"]
    by_names = to_dict(Release.of("chat", derived["id"]))
    assert (
        derived | {name: by_names[name] for name in by_names.keys() - {"user", "home", "venv", "numprocs", "processes"}}
        == derived
    )


def test_programs_are_the_apps_own(host):
    mine, other = "0" * 12, "f" * 12
    for name in (
        *(f"websockets-chat-{identity}.conf" for identity in (other, mine)),
        *("websockets.conf", f"websockets-chat-room-{mine}.conf", f"websockets-chat-{mine}.conf.bak", "chat.conf"),
    ):
        (host / "conf.d" / name).touch()
    assert release.programs("chat") == [mine, other]
    assert release.programs("room") == []


# The live link


def test_live(host):
    os.makedirs(paths.app_base("chat"))
    assert release.live_id("chat") == ""
    release.point(paths.live_link("chat"), "/run/websockets/chat/0123456789ab")
    assert release.live_id("chat") == "0123456789ab"


def test_point_leaves_no_moment_without_the_link(tmp_path, monkeypatch):
    link = tmp_path / "live"
    release.point(str(link), "old")
    seen = []
    for name in ("symlink", "unlink", "rename"):
        real = getattr(os, name)

        def watched(*arguments, _real=real):
            _real(*arguments)
            seen.append(os.readlink(link))

        monkeypatch.setattr(release.os, name, watched)
    # A link that an interrupted run has left does not matter.
    os.symlink("half", f"{link}.new")
    release.point(str(link), "new")
    assert seen[-1] == "new"
    assert set(seen) == {"old", "new"}
    assert [path.name for path in Path(tmp_path).iterdir()] == ["live"]
