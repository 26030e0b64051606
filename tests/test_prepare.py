"""The module prepare: what a host needs once, in one module."""

import json
import os
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.websockets.deploy.plugins.module_utils import paths, system
from role import load

prepare = load("modules/prepare")

RUN = {"id": "control 1 /tmp", "who": "somebody@control (process 1)"}
NOTHING = {"run": RUN, "home": "/srv/websockets/echo", "files": [], "reload": False, "services": []}


@pytest.fixture
def said(tmp_path, monkeypatch):
    """Record the commands of the host instead of running them."""
    monkeypatch.setattr(paths, "LOCK", f"{tmp_path}/lock")
    monkeypatch.setattr(system, "init", lambda: "systemd")
    commands = []
    monkeypatch.setattr(prepare, "execute", lambda *command: commands.append(" ".join(command)))
    return commands


@pytest.fixture
def prepared(capsys):
    def run(**further):
        with patch_module_args({**NOTHING, **further}), pytest.raises(SystemExit):
            prepare.main()
        return json.loads(capsys.readouterr().out)

    return run


def file(path, text="new\n", new=True, mode="0755"):
    return {"dest": str(path), "text": text, "mode": mode, "new": new}


def contents(folder):
    return {path.name: path.read_text() for path in folder.rglob("*") if path.is_file() and path.name != "lock"}


def test_a_new_host_gets_everything_in_the_order_of_its_needs(tmp_path, said, prepared):
    welcome, made = tmp_path / "default", tmp_path / "nginx.service.d" / "websockets.conf"
    welcome.touch()
    done = prepared(
        absent=[str(welcome)],
        user="nobody-of-this-name",
        files=[file(made)],
        tmpfiles="/etc/tmpfiles.d/websockets-echo.conf",
        reload=True,
        services=["nginx", "supervisor"],
    )
    assert done["changed"] and done["diff"] == []
    assert contents(tmp_path) == {"websockets.conf": "new\n"}
    assert made.stat().st_mode & 0o7777 == 0o755
    assert said == [
        "useradd --system --user-group --no-create-home --home-dir /srv/websockets/echo --shell /usr/sbin/nologin"
        " nobody-of-this-name",
        "systemd-tmpfiles --create /etc/tmpfiles.d/websockets-echo.conf",
        "systemctl enable --no-reload nginx supervisor",
        "systemctl daemon-reload",
        "systemctl start nginx supervisor",
    ]


def test_without_systemd_the_scripts_start_the_services(said, prepared, monkeypatch):
    monkeypatch.setattr(system, "init", lambda: "sysv")
    prepared(services=["websockets-tmpfiles", "nginx"])
    assert said == [
        *("update-rc.d websockets-tmpfiles defaults", "update-rc.d websockets-tmpfiles enable"),
        "service websockets-tmpfiles start",
        *("update-rc.d nginx defaults", "update-rc.d nginx enable", "service nginx start"),
    ]


def test_only_what_the_host_lacks_is_done(said, prepared):
    assert not prepared()["changed"]
    assert said == []
    assert prepared(reload=True)["changed"]
    assert said == ["systemctl daemon-reload"]


def test_a_user_gets_a_group_of_its_name_that_is_there(said, prepared):
    prepared(user="daemon")
    assert "--gid daemon" in said[0]


def test_a_check_shows_the_change_of_a_file_and_writes_nothing(tmp_path, said, prepared):
    there, new = tmp_path / "there", tmp_path / "folder" / "new"
    there.write_text("old\n")
    done = prepared(
        files=[file(there, new=False), file(new)],
        services=["nginx"],
        user="x",
        absent=[str(there)],
        _ansible_check_mode=True,
    )
    assert done["changed"]
    assert [(one["before_header"], one["before"], one["after"]) for one in done["diff"]] == [
        (str(there), "old\n", "new\n")
    ]
    assert contents(tmp_path) == {"there": "old\n"}
    assert said == []


def test_a_command_that_fails_says_why(tmp_path, prepared, monkeypatch):
    monkeypatch.setattr(paths, "LOCK", f"{tmp_path}/lock")
    tool = tmp_path / "systemd-tmpfiles"
    tool.write_text("#!/bin/sh\necho out; echo 'no such group' >&2; exit 3\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    done = prepared(tmpfiles="/a.conf", services=["nginx"])
    assert done["failed"]
    assert done["msg"] == (
        "The host could not be prepared. systemd-tmpfiles --create /a.conf failed:\nout\nno such group"
    )
    assert Path(paths.LOCK).read_text() == "", "another run need not wait"


def test_a_service_that_keeps_its_output_open_does_not_hold_the_run_up(tmp_path):
    """It waits here until the fifo has a writer: only after the command has returned."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    prepare.execute("sh", "-c", f"cat {fifo} &")
    fifo.write_text("the service may end\n")
