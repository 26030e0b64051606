"""The role sends a host only the files that none of its releases has; it copies the others there and checks them."""

import json
import os
import pwd
import shutil
import stat
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleActionFail
from ansible.module_utils.testing import patch_module_args
from ansible_collections.websockets.deploy.plugins.module_utils import paths, release, source
from role import load, plan, to_dict

action = load("action/release")
module = load("modules/release")


@pytest.fixture
def app(tmp_path):
    folder = tmp_path / "app"
    (folder / "lib").mkdir(parents=True)
    (folder / "app.py").write_text("print('hello')\n")
    (folder / "lib" / "large.py").write_text("large = True\n")
    (folder / "lib" / "tool").write_text("#!/bin/sh\n")
    (folder / "lib" / "tool").chmod(0o755)
    (folder / "link").symlink_to("lib/large.py")
    return folder


@pytest.fixture
def deploy(host, app, tmp_path, capsys, monkeypatch):
    """Have the action and the module put the app's release in place without a network; return the files that were sent."""
    monkeypatch.setattr(module, "install", lambda *_: None)
    monkeypatch.setattr(module.os, "nice", lambda _: 0)
    monkeypatch.setattr(module.os, "sync", lambda: None)
    monkeypatch.setattr(action.C, "DEFAULT_LOCAL_TMP", str(tmp_path))
    me = pwd.getpwuid(os.getuid()).pw_name if os.getuid() else "nobody"
    base = paths.app_base("echo")
    os.makedirs(f"{base}/releases")

    def run(meanwhile=lambda: None):
        planned = plan(
            {
                "releases": {id: to_dict(one) for id, one in release.stored("echo").items()},
                "live": release.live_id("echo"),
            },
            src=str(app),
            user=me,
            command="x {socket}",
        )
        meanwhile()
        sent = []
        arguments = {"release": planned["release"], "code": planned["code"], "host": planned["host"]}
        rest = {"run": planned["run"], "program": "", "script": "", "python": "/usr/bin/python3"}
        plugin = action.ActionModule(
            task=SimpleNamespace(args={**arguments, **rest}, async_val=0, check_mode=False),
            connection=SimpleNamespace(_shell=SimpleNamespace(tmpdir=str(tmp_path), join_path=os.path.join)),
            **dict.fromkeys(("play_context", "loader", "templar", "shared_loader_obj")),
        )

        def transfer(packed, place):
            with tarfile.open(packed) as archive:
                sent.append(sorted(archive.getnames()))
            shutil.copy(packed, place)

        def execute(module_args, task_vars):
            with patch_module_args(module_args), pytest.raises(SystemExit):
                module.main()
            return json.loads(capsys.readouterr().out)

        plugin._early_needs_tmp_path = lambda: False
        plugin._transfer_file, plugin._execute_module, plugin._fixup_perms2 = transfer, execute, lambda _: None
        result = plugin.run(task_vars={"inventory_hostname": "ws1"})
        assert "failed" not in result, result
        assert result["changed"] is True
        assert source.scan(planned["release"]["code"]) == source.scan(app)
        return sent, planned["release"]

    return run


def test_a_new_host_gets_everything(deploy):
    assert deploy()[0] == [["app.py", "lib/large.py", "lib/tool", "link"]]


def test_the_next_release_is_sent_what_changed(deploy, app):
    deploy()
    (app / "app.py").write_text("print('bye')\n")
    (app / "lib" / "new.py").touch()
    assert deploy()[0] == [["app.py", "lib/new.py", "link"]]


def test_the_apps_user_has_a_home_of_its_own(deploy, app):
    home = Path(deploy()[1]["home"])
    assert stat.filemode(home.stat().st_mode) == "drwx------"
    assert pwd.getpwuid(home.stat().st_uid).pw_name == home.name
    (home / "kept").touch()
    (app / "app.py").write_text("print('bye')\n")
    assert Path(deploy()[1]["home"]) == home
    assert (home / "kept").exists()


def test_a_file_that_any_release_has_is_not_sent(deploy, app):
    (app / "link").unlink()
    deploy()
    text = (app / "app.py").read_text()
    (app / "app.py").write_text("print('bye')\n")
    deploy()
    (app / "lib" / "app.py").write_text(text)
    (app / "lib" / "large.py").rename(app / "moved.py")
    (app / "lib" / "tool").chmod(0o644)
    assert deploy()[0] == []


def test_a_release_is_a_copy_of_its_own(deploy, app):
    first = deploy()[1]
    (app / "app.py").write_text("print('bye')\n")
    second = deploy()[1]
    places = [Path(made["code"], "lib", "large.py").stat() for made in (first, second)]
    assert places[0].st_ino != places[1].st_ino


@pytest.mark.parametrize("harm", [lambda path: path.write_text("# mine\n"), lambda path: path.unlink()])
def test_a_release_that_was_edited_on_the_host_is_no_source(deploy, app, harm):
    harm(Path(deploy()[1]["code"], "lib", "large.py"))
    (app / "app.py").write_text("print('bye')\n")
    assert deploy()[0] == [["app.py", "link"], ["app.py", "lib/large.py", "lib/tool", "link"]]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": {"caf\\udce9.txt": "file 0"}}'])
def test_a_live_release_without_a_record_gets_it_again_and_goes_on(deploy, app, text):
    made = deploy()[1]
    release.went_live(release.Release.of("echo", made["id"]), "")
    release.point(made["live_link"], made["sockets"])
    record, code = Path(made["path"], "release.json"), Path(made["code"])
    good = record.read_text()
    record.write_text(text)
    (code / "app.py").write_text("# edited\n")
    (code / "lib" / "tool").unlink()
    (code / "lib" / "tool").mkdir()
    there = os.open(code, os.O_RDONLY)  # as a process has it that was started in this folder
    assert deploy()[1]["id"] == made["id"]
    assert record.read_text() == good
    assert os.stat("lib/large.py", dir_fd=there).st_ino == (code / "lib" / "large.py").stat().st_ino
    os.close(there)
    assert release.stored("echo")[made["id"]].been_live


def test_code_that_changes_while_it_is_deployed_is_refused(deploy, app):
    with pytest.raises(AnsibleActionFail, match="have changed while this run was deploying them"):
        deploy(meanwhile=lambda: (app / "app.py").write_text("print('later')\n"))
    assert os.listdir(f"{paths.app_base('echo')}/releases") == []


def test_hosts_of_one_task_share_one_look_at_the_code(app, tmp_path):
    """All hosts share it, even if the folder changes between two batches."""
    kept = source.scan_once(str(app), str(tmp_path), "task")
    (app / "app.py").write_text("print('bye')\n")
    assert source.scan_once(str(app), str(tmp_path), "task") == kept
    found = source.load(kept).files
    assert found != source.scan(app)
    assert source.load(source.scan_once(str(app), str(tmp_path), "another task")).files == source.scan(app)
