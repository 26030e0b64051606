"""The command before a release's start: when it has to run, as whom, and what is left of it."""

import dataclasses
import json
import os
import pwd
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.websockets.deploy.plugins.module_utils import owned, paths, release
from ansible_collections.websockets.deploy.plugins.module_utils.record import from_dict
from ansible_collections.websockets.deploy.plugins.module_utils.release import Release
from role import load, plan, put_in_place, render, stored

module = load("modules/before_start")
only_root = pytest.mark.skipif(
    os.getuid() != 0, reason="only root can give a folder to a user, as the role does on a host"
)

# When it runs

COMMAND = {"before_start": "make all"}
ID = plan(**COMMAND)["release"]["id"]


def due(host=None, purpose="deploy", hosts=("ws1", "ws2"), me="ws1", **inputs):
    """Return whether the command has to run on this host, and the host that this one relies on."""
    planned = plan(host, purpose, hosts=hosts, me=me, **COMMAND, **inputs)
    return bool(planned["todo"]["before_start"]), planned["relies_on"]


def on_host(live=True, **what):
    return {
        "live": ID if live else "0" * 12,
        "releases": {ID: stored(ID, **what), "0" * 12: stored("0" * 12, previous=ID)},
    }


@pytest.mark.parametrize(
    ("host", "runs"),
    [
        ({}, True),
        (on_host(), False),
        (on_host(prepared=True), False),
        (on_host(live=False), True),
        (on_host(live=False, prepared=True), False),
    ],
    ids=["a new release", "live", "live, and it has run", "it was interrupted", "it has run"],
)
def test_it_runs_once_for_a_release(host, runs):
    assert due(host) == (runs, "")


def test_on_one_host_it_runs_on_the_first_one_and_the_others_rely_on_that():
    assert due(before_start_on="one") == (True, "")
    assert due(before_start_on="one", me="ws2") == (False, "ws1")
    assert due(before_start_on="each", me="ws2") == (True, "")
    # A live release needs no other host.
    assert due(on_host(), before_start_on="one", me="ws2") == (False, "")


@pytest.mark.parametrize(
    ("first", "relies_on"),
    [
        ({"websockets_app": "echo"}, "ws1"),
        ({"websockets_apps": {"echo": {}, "feed": {}}}, "ws1"),
        ({"websockets_app": "feed"}, ""),
        ({"websockets_app": "echo", "websockets_apps": {"feed": {}}}, ""),
    ],
)
def test_the_first_host_is_one_that_has_the_app(first, relies_on):
    hosts = {"ws1": first, "ws2": {"websockets_app": "echo"}}
    assert due(hosts=hosts, me="ws2", before_start_on="one") == (not relies_on, relies_on)


@pytest.mark.parametrize("there", [True, False])
def test_a_rollback_runs_that_of_its_release_only_if_asked(there):
    host = on_host(live=False, previous="", prepared=True, before_start=there)
    assert due(host, "rollback") == (False, "")
    assert due(host, "rollback", before_start_at_rollback=True) == (there, "")
    asked = {"before_start_at_rollback": True, "before_start_on": "one"}
    assert due(host, "rollback", me="ws2", **asked) == (False, "ws1" if there else "")


# What it is run with


def test_its_environment_is_that_of_the_processes():
    values = {"environment": {"A": "{venv} $x", "S": "unix:{socket}"}, "secrets": {"TOKEN": "hunter2 '"}}
    planned = plan(**COMMAND, **values)
    texts = {name: render(name, planned, websockets_secrets=values["secrets"]) for name in ("run.j2", "command.j2")}
    exports = {name: [line for line in text.splitlines() if line.startswith("export ")] for name, text in texts.items()}
    assert exports["run.j2"] == exports["command.j2"]
    assert len(exports["run.j2"]) > 8
    done = subprocess.run(
        ["/bin/sh", "-s", "/usr/bin/env", "-0"],
        input=texts["command.j2"],
        capture_output=True,
        text=True,
        check=True,
        env={},
    )
    found = dict(pair.partition("=")[::2] for pair in done.stdout.split("\0"))
    release = planned["release"]
    assert {name: found[name] for name in ("A", "S", "TOKEN", "HOME", "PATH")} == {
        **{"A": f"{release['venv']} $x", "S": "unix:", "TOKEN": "hunter2 '", "HOME": release["home"]},
        "PATH": f"{release['venv']}/bin:/usr/local/bin:/usr/bin:/bin",
    }


@pytest.fixture
def prepare(host):
    """Put a release with a command in place, and have the module run the command; return its result and the release."""
    host.chmod(0o711)
    nobody = pwd.getpwnam("nobody")

    def run(command, secrets=None):
        planned = plan(user="nobody", before_start=command, secrets=secrets or {})
        made = from_dict(Release, planned["release"])
        if not os.path.exists(made.path):
            put_in_place(planned)
            os.unlink(made.code)
            os.mkdir(made.code)
            (Path(made.code) / "app.py").write_text("app\n")
            os.makedirs(made.home)
            os.chown(made.home, nobody.pw_uid, nobody.pw_gid)
            for script in (made.command_script, made.before_start_script):
                text = render(f"{os.path.basename(script)}.j2", planned, websockets_secrets=secrets or {})
                Path(script).write_text(text)
                os.chown(script, 0, nobody.pw_gid)
                os.chmod(script, 0o640)
        files = {"app.py": " ".join(release.describe(f"{made.code}/app.py"))}
        Path(made.path, "release.json").write_text(json.dumps({**dataclasses.asdict(made), "files": files}))
        # In a process of its own, which ends all of its children.
        said = host / "said"
        child = os.fork()
        if not child:
            sys.stdout = said.open("w")
            with patch_module_args({"release": planned["release"], "run": planned["run"]}):
                try:
                    module.main()
                except SystemExit:
                    sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)
        return json.loads(said.read_text()), made

    return run


@only_root
def test_what_it_has_made_belongs_to_root(prepare):
    script = "umask 0; mkdir -p a/b; echo made > a/b/file; chmod 6777 a/b/file; echo 1 > a/plain; mkfifo a/pipe;"
    script += " ln -s /etc/passwd a/link; ln -s /etc a/folder; ln a/plain $HOME/plain; id -un; umask 022; rm app.py"
    before = os.stat("/etc/passwd")
    result, made = prepare(f"sh -c '{script}'")
    assert result["changed"] is True, result
    code = Path(made.code)
    found = {str(path.relative_to(code)): path.lstat() for path in (code, *sorted(code.rglob("*")))}
    assert {(one.st_uid, one.st_gid) for one in found.values()} == {(0, 0)}
    assert {name: stat.filemode(one.st_mode) for name, one in found.items()} == {
        **{
            ".": "drwxr-xr-x",
            "a": "drwxr-xr-x",
            "a/b": "drwxr-xr-x",
            "a/b/file": "-rwxr-xr-x",
            "a/plain": "-rw-r--r--",
        },
        **{"a/link": "lrwxrwxrwx", "a/folder": "lrwxrwxrwx"},
    }
    assert os.stat("/etc/passwd") == before
    # The other name of a file is still the user's, and of another file.
    other = Path(made.home, "plain").stat()
    assert (other.st_uid, other.st_ino) == (pwd.getpwnam("nobody").pw_uid, other.st_ino)
    assert other.st_ino != found["a/plain"].st_ino
    there = release.stored("echo")[made.id]
    assert (there.prepared, there.before_start, there.files) == (True, True, {})
    log = Path(paths.before_start_log("echo"))
    assert (log.read_text(), stat.filemode(log.stat().st_mode)) == ("nobody\n", "-rw-r-----")


@only_root
def test_a_file_of_somebody_else_is_no_part_of_a_release(tmp_path):
    """Where fs.protected_hardlinks is off, a user can give any file a second name."""
    tmp_path.chmod(0o755)
    foreign = tmp_path / "foreign"
    foreign.write_text("secret")
    foreign.chmod(0o600)
    code = tmp_path / "code"
    code.mkdir()
    with owned.by(str(code), pwd.getpwnam("nobody").pw_uid):
        (code / "name").hardlink_to(foreign)
    assert list(code.iterdir()) == []
    assert (foreign.read_text(), stat.S_IMODE(foreign.stat().st_mode)) == ("secret", 0o600)


@only_root
@pytest.mark.parametrize(
    ("command", "why"),
    [
        (
            "sh -c 'echo TOKEN is $TOKEN; exit 3'",
            r"has ended with exit status 3\. The end of {log} on the host:\nTOKEN is \(hidden\)",
        ),
        ("sh -c 'kill -9 $$'", r"has ended with SIGKILL\. It has said nothing\."),
        ("nowhere", r"has ended with exit status 127\. The end of {log} on the host:\n.*: nowhere: not found"),
    ],
)
def test_a_failure_is_told_without_secrets_and_the_release_is_gone(prepare, command, why):
    result, made = prepare(command, {"TOKEN": "hunter2"})
    log = paths.before_start_log("echo")
    start = f"Release {made.id} does not start; nothing of echo was serving before. websockets_before_start "
    assert re.fullmatch(re.escape(start) + why.format(log=re.escape(log)), result["msg"])
    assert "hunter2" not in Path(log).read_text() + result["msg"]
    assert not os.path.exists(made.path)


@only_root
@pytest.mark.parametrize(
    "left",
    [
        "sleep 1000 &",
        "setsid sleep 1000 &",
        'env -i setsid sh -c "env -i setsid sleep 1000 & exit" & sleep 0.3',
        'trap "" TERM; setsid sleep 1000 &',
    ],
    ids=["in the background", "in a session of its own", "without parent and environment", "deaf to SIGTERM"],
)
def test_nothing_that_it_has_started_outlives_it(prepare, left):
    result, made = prepare(f"sh -c '{left}'")
    assert result.get("changed") is True, result
    assert [pid for pid in Path("/proc").glob("[0-9]*") if works_in(pid, made.code)] == []


def works_in(process, folder):
    try:
        return os.path.samefile(process / "cwd", folder)
    except OSError:
        return False


@only_root
def test_a_release_that_has_been_live_stays_after_a_failure(prepare, host):
    result, made = prepare("sh -c 'test ! -e fail'")
    assert result["changed"] is True
    release.went_live(made, "")
    Path(made.code, "fail").touch()
    result, _ = prepare("sh -c 'test ! -e fail'")
    assert result["failed"] is True
    assert release.stored("echo")[made.id].been_live
    assert Path(made.code, "fail").stat().st_uid == 0
