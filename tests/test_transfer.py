"""The role sends a host only the files that none of its releases has; it copies the others there and checks them."""

import json
import os
import pwd
import re
import shutil
import stat
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleActionFail
from ansible.module_utils.testing import patch_module_args
from ansible.plugins.callback import CallbackBase
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

    def run(meanwhile=lambda: None, check_mode=False, diff=False, command="x {socket}"):
        planned = plan(
            {
                "releases": {id: to_dict(one) for id, one in release.stored("echo").items()},
                "live": release.live_id("echo"),
            },
            src=str(app),
            user=me,
            command=command,
        )
        meanwhile()
        sent = []
        arguments = {"release": planned["release"], "code": planned["code"], "host": planned["host"]}
        rest = {"run": planned["run"], "program": "", "script": "", "python": "/usr/bin/python3"}
        rest |= {"command": "", "before_start": ""}
        plugin = action.ActionModule(
            task=SimpleNamespace(args={**arguments, **rest}, async_val=0, check_mode=check_mode, diff=diff),
            connection=SimpleNamespace(_shell=SimpleNamespace(tmpdir=str(tmp_path), join_path=os.path.join)),
            **dict.fromkeys(("play_context", "loader", "templar", "shared_loader_obj")),
        )

        def transfer(packed, place):
            with tarfile.open(packed) as archive:
                sent.append(sorted(archive.getnames()))
            shutil.copy(packed, place)

        def execute(module_args, task_vars):
            with patch_module_args({**module_args, "_ansible_check_mode": check_mode}), pytest.raises(SystemExit):
                module.main()
            return json.loads(capsys.readouterr().out)

        plugin._early_needs_tmp_path = lambda: False
        plugin._transfer_file, plugin._execute_module, plugin._fixup_perms2 = transfer, execute, lambda _: None
        result = plugin.run(task_vars={"inventory_hostname": "ws1"})
        assert "failed" not in result, result
        assert result["changed"] is True
        assert "texts" not in result
        if check_mode:
            assert sent == []
        else:
            assert source.scan(planned["release"]["code"]) == source.scan(app)
        shown = CallbackBase()._get_diff(result["diff"]) if diff else ""
        return sent, planned["release"], re.sub(r"\x1b\[[0-9;]*m", "", shown)

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


def test_only_an_app_that_uses_it_has_a_data_folder(deploy, app):
    deploy()
    data = Path(paths.data("echo"))
    assert not data.exists()
    release = deploy(command="x {socket} {data}")[1]
    assert release["data"] == str(data)
    assert stat.filemode(data.stat().st_mode) == "drwx------"
    assert data.stat().st_uid == Path(release["home"]).stat().st_uid
    (data / "kept").touch()
    (app / "app.py").write_text("print('bye')\n")
    deploy(command="x {socket} {data}")
    assert (data / "kept").exists()


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


# The difference


@pytest.fixture
def live(deploy):
    """Deploy the app and make its release live."""

    def run():
        made = deploy()[1]
        release.went_live(release.Release.of("echo", made["id"]), "")
        release.point(made["live_link"], made["sockets"])

    return run


def test_a_first_deploy_shows_how_much_it_is(deploy, app):
    for number in range(400):
        (app / f"{number}.py").write_text("x" * 1000)
    assert deploy(check_mode=True, diff=True)[2] == "404 files, 400 KB\n"


@pytest.mark.parametrize("check_mode", [True, False], ids=["check", "deploy"])
def test_the_difference_is_that_of_the_code(deploy, live, app, check_mode):
    (app / "old.py").touch()
    live()
    (app / "app.py").write_text("print('bye')\n")
    (app / "new.py").write_text("secret of nobody\n")
    (app / "lib" / "tool").chmod(0o644)
    (app / "old.py").unlink()
    shown = deploy(check_mode=check_mode, diff=True)[2]
    assert "added: new.py\nchanged: app.py, lib/tool\nremoved: old.py\n" in shown
    assert "--- before: app.py (live)\n+++ after: app.py (new)\n" in shown
    assert "-print('hello')\n+print('bye')\n" in shown
    assert "secret of nobody" not in shown
    assert not re.search("[0-9a-f]{24}", shown), "no digest"


def test_nothing_is_compared_without_a_diff(deploy, live, app):
    live()
    (app / "app.py").write_text("print('bye')\n")
    assert deploy(check_mode=True)[2] == ""


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        (".env", b"PASSWORD=hunter2\n", b"PASSWORD=hunter3\n"),
        ("app.key", b"-----BEGIN PRIVATE KEY-----\nhunter2\n", b"hunter3\n"),
        ("key.app", b"hunter2\n", b"-----BEGIN PRIVATE KEY-----\nhunter3\n"),
        ("binary", b"\0hunter2\n", b"\0hunter3\n"),
        ("latin", b"\xe9hunter2\n", b"\xe9hunter3\n"),
        ("large", b"hunter2\n" * 10_000, b"hunter3\n"),
        ("larger", b"hunter2\n", b"hunter3\n" * 10_000),
    ],
)
def test_of_other_files_the_difference_has_the_name_only(deploy, live, app, name, before, after):
    (app / name).write_bytes(before)
    live()
    (app / name).write_bytes(after)
    assert deploy(check_mode=True, diff=True)[2] == f"changed: {name}\n"


def test_many_changed_files_are_counted(deploy, live, app):
    for number in range(100):
        (app / f"{number:02}.py").write_text("a\n")
    live()
    for number in range(100):
        (app / f"{number:02}.py").write_text("b\n")
    shown = deploy(check_mode=True, diff=True)[2]
    assert "18.py, 19.py and 80 more\n" in shown
    assert shown.count("--- ") == 10


def test_odd_names_do_not_reach_the_terminal(deploy, live, app):
    live()
    (app / "a\x1b[31m\nb").touch()
    assert deploy(check_mode=True, diff=True)[2] == "added: a\\x1b[31m\\x0ab\n"
