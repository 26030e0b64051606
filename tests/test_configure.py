"""The module configure: the host's own files, in one module."""

import json
import os
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.websockets.deploy.plugins.module_utils import paths
from role import load

configure = load("modules/configure")

RUN = {"id": "control 1 /tmp", "who": "somebody@control (process 1)"}


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Put programs first in PATH that note how they were called, and fail if a file "broken" is there; return the note."""
    monkeypatch.setattr(paths, "LOCK", f"{tmp_path}/lock")
    folder, note = tmp_path / "bin", tmp_path / "note"
    folder.mkdir()
    note.touch()
    for name in ("systemd-tmpfiles", "systemctl"):
        tool = folder / name
        tool.write_text(f'#!/bin/sh\necho "{name} $*" >> {note}\necho out; [ ! -e {tmp_path}/broken ] || exit 3\n')
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return note


@pytest.fixture
def configured(capsys, tools):
    def run(*files, tmpfiles="", reload=False, check=False):
        given = {"run": RUN, "files": list(files), "tmpfiles": tmpfiles, "reload": reload, "_ansible_check_mode": check}
        with patch_module_args(given), pytest.raises(SystemExit):
            configure.main()
        return json.loads(capsys.readouterr().out)

    return run


def file(path, text="new\n", new=True, mode="0755"):
    return {"dest": str(path), "text": text, "mode": mode, "new": new}


def test_files_are_written_before_what_reads_them(tmp_path, tools, configured):
    made = tmp_path / "nginx.service.d" / "websockets.conf"
    done = configured(file(made), tmpfiles="/etc/tmpfiles.d/websockets-echo.conf", reload=True)
    assert done["changed"] and done["diff"] == []
    assert made.read_text() == "new\n"
    assert made.stat().st_mode & 0o7777 == 0o755
    assert [path.name for path in made.parent.iterdir()] == [made.name]
    assert tools.read_text().splitlines() == [
        "systemd-tmpfiles --create /etc/tmpfiles.d/websockets-echo.conf",
        "systemctl daemon-reload",
    ]


def test_only_what_the_host_lacks_is_done(tools, configured):
    assert not configured()["changed"]
    assert tools.read_text() == ""
    assert configured(reload=True)["changed"]
    assert tools.read_text() == "systemctl daemon-reload\n"


def test_a_check_shows_the_change_of_a_file_and_writes_nothing(tmp_path, tools, configured):
    there, new = tmp_path / "there", tmp_path / "folder" / "new"
    there.write_text("old\n")
    done = configured(file(there, new=False), file(new), tmpfiles="/a.conf", reload=True, check=True)
    assert done["changed"]
    shown = [(one["before_header"], one["before"], one["after"]) for one in done["diff"]]
    assert shown == [(str(there), "old\n", "new\n")]
    assert there.read_text() == "old\n" and not new.parent.exists()
    assert tools.read_text() == ""


def test_a_command_that_fails_says_why(tmp_path, configured):
    (tmp_path / "broken").touch()
    done = configured(tmpfiles="/a.conf")
    assert done["failed"] and done["msg"] == "systemd-tmpfiles --create /a.conf failed:\nout"
    assert Path(paths.LOCK).read_text() == "", "another run need not wait"


def test_a_file_that_cannot_be_written_is_named(tmp_path, configured):
    (tmp_path / "no folder").touch()
    done = configured(file(tmp_path / "no folder" / "file"))
    assert done["failed"] and "no folder" in done["msg"]
