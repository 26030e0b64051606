"""bin/run: the command gets to the live release on a host word for word, and its terminal and exit status to the caller."""

import json
import os
import pty
import pwd
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.websockets.deploy.plugins.module_utils import paths, release
from ansible_collections.websockets.deploy.plugins.module_utils.release import Release
from role import ROOT

only_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become the app's user, as on a host")
WORDS = ["a", "two words", "it's", "two\nlines", "", "{{ braces }}", "$HOME `id` \\", "-i", "--", "é"]
USAGE = "usage: bin/run [-i INVENTORY] [--app NAME] [--limit HOST] -- COMMAND [ARGUMENT ...]\n"


@pytest.fixture
def checkout(tmp_path):
    """Make a checkout without a virtual environment of its own, and return its bin/run."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for path in (ROOT / "playbooks", ROOT / ".collections", ROOT / "ansible.cfg"):
        (folder / path.name).symlink_to(path)
    shutil.copytree(ROOT / "bin", folder / "bin", symlinks=True)
    venv = Path(sys.executable).parent
    (folder / "bin" / "lib" / "venv.sh").write_text(f"use_venv() {{ PATH={folder}/fake:{venv}:$PATH; }}\n")
    return folder / "bin" / "run"


@pytest.fixture
def fake(checkout):
    """Have a script instead of ansible-playbook, and return its folder."""

    def put(text):
        path = checkout.parents[1] / "fake" / "ansible-playbook"
        path.parent.mkdir()
        path.write_text(f"#!/bin/sh\n{text}")
        path.chmod(0o755)

    return put


@pytest.fixture
def run(checkout, tmp_path):
    def call(*arguments, **options):
        (tmp_path / "tmp").mkdir(exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        environment |= {"TMPDIR": f"{tmp_path}/tmp", "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [checkout, *arguments], capture_output=True, text=True, check=False, env=environment, cwd=ROOT, **options
        )
        assert list((tmp_path / "tmp").iterdir()) == [], "it leaves nothing"
        return done

    return call


@pytest.mark.parametrize("arguments", [[], ["-i", "mine"], ["--app", "chat", "--"], ["python", "manage.py"]])
def test_without_a_command_it_says_how_it_is_called(run, arguments):
    done = run(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", USAGE)


def test_the_playbook_gets_the_options_and_the_command_word_for_word(run, fake, tmp_path):
    fake(
        f'printf "%s\\n" "$@" > {tmp_path}/given\nfor folder; do case $folder in run_folder=*) break ;; esac; done\n'
        f'eval "$folder"; cp "$run_folder/command" {tmp_path}/command\necho echo ran > "$run_folder/script"\necho noise\n'
    )
    done = run("-i", "mine", "--app", "chat", "--limit", "ws1", "--", *WORDS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "noise\n")
    assert shlex.split((tmp_path / "command").read_text()) == WORDS
    given = (tmp_path / "given").read_text().splitlines()
    assert given[:6] == ["-i", "mine", "--extra-vars", "websockets_only=chat", "--limit", "ws1"]
    assert given[-1].endswith("/playbooks/run.yml")


def test_a_playbook_that_fails_or_writes_nothing_runs_nothing(run, fake):
    fake("exit 4\n")
    assert run("--", "x").returncode == 125


# On this machine, as on a host


@pytest.fixture
def deployed(host, monkeypatch, tmp_path):
    """Put a live release with the role's script on the "host", and return the arguments that choose that."""
    host.chmod(0o711)
    made = Release.of("echo", "1" * 12, "nobody", numprocs=1)
    os.makedirs(made.code)
    Path(made.path, "release.json").write_text(json.dumps({"user": "nobody"}))
    Path(made.command_script).write_text('export SECRET=hunter2\nexec "$@"\n')
    release.point(made.live_link, made.sockets)
    return made


@pytest.fixture
def script(host):
    """Return what the action writes for a host of this connection."""

    def make(words, app="echo", **inventory):
        place = host / "hosts.json"
        hosts = {"ws1": {"ansible_connection": "local", "websockets_app": app, **inventory}}
        place.write_text(json.dumps({"websockets": {"hosts": hosts}}))
        folder = host / "folder"
        folder.mkdir(exist_ok=True)
        (folder / "command").write_text(shlex.join(words))
        (folder / "script").unlink(missing_ok=True)
        command = [Path(sys.executable).parent / "ansible-playbook", "-i", place, "playbooks/run.yml"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        environment |= {
            "ANSIBLE_STDOUT_CALLBACK": "websockets.deploy.logs",
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": "C.UTF-8",
        }
        done = subprocess.run(
            [*command, "-e", f"run_folder={folder}"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return done.stderr
        assert (folder / "script").stat().st_mode & 0o777 == 0o600
        # The test's own places on a host.
        return (folder / "script").read_text().replace("/srv/websockets", paths.SRV)

    return make


@only_root
def test_the_command_runs_as_the_apps_user_in_its_folder_with_its_environment(deployed, script):
    show = "import os, sys; print(os.getuid(), os.getcwd(), dict(os.environ), sys.argv[1:])"
    text = script(["/usr/bin/python3", "-c", show, *WORDS])
    environment = {**os.environ, "LEFT": "over"}
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False, env=environment)
    assert done.stderr == ""
    expected = {"SECRET": "hunter2", "PWD": deployed.code}
    found = done.stdout
    assert found.startswith(f"{pwd.getpwnam('nobody').pw_uid} {deployed.code} ")
    assert found.endswith(f" {WORDS}\n")
    assert "LEFT" not in found
    assert all(f"'{name}': '{value}'" in found for name, value in expected.items())


@only_root
def test_pipes_and_the_exit_status_are_the_commands(deployed, script):
    text = script(["sh", "-c", "cat; echo no >&2; exit 7"])
    done = subprocess.run(["sh", "-c", text], input="in\n", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "in\n", "no\n")


@only_root
def test_there_is_a_terminal_if_the_caller_has_one(deployed, script, checkout, fake, tmp_path):
    """Ctrl-C reaches the command, which may go on, and bin/run ends with it."""
    words = ["sh", "-c", "trap 'echo stopped' INT; tty; echo ready; read line; echo got $line; exit 3"]
    (tmp_path / "script").write_text(script(words))
    fake(
        f'for folder; do case $folder in run_folder=*) break ;; esac; done\neval "$folder"\n'
        f'cp {tmp_path}/script "$run_folder/script"\n'
    )
    pid, terminal = pty.fork()
    if not pid:
        os.execv(checkout, [str(checkout), "--", "x"])
    seen = b""

    def read(until):
        nonlocal seen
        deadline = time.monotonic() + 20
        while until not in seen:
            assert time.monotonic() < deadline, seen
            seen += os.read(terminal, 1000)

    read(b"ready")
    assert b"/dev/pts/" in seen
    os.write(terminal, b"\x03")
    read(b"stopped")
    os.write(terminal, b"hello\n")
    read(b"got")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3


@only_root
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda made: os.unlink(made.live_link), "echo has no live release on this host; deploy it first."),
        (
            lambda made: os.unlink(made.command_script),
            f"the live release of echo, {'1' * 12}, is of an earlier version",
        ),
        (lambda made: shutil.rmtree(made.path), f"the live release of echo, {'1' * 12}, is gone from this host"),
        (
            lambda made: os.rename(made.base, made.base.replace("echo", "feed")),
            "there is no app echo on this host; its apps: feed.",
        ),
        (lambda made: shutil.rmtree(made.base), "there is no app echo on this host; its apps: none."),
    ],
    ids=["not live", "earlier", "gone", "another app", "no app"],
)
def test_an_error_of_the_host_is_told(deployed, script, change, said):
    change(deployed)
    done = subprocess.run(["sh", "-c", script(["true"])], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith(f"bin/run: {said}")


@pytest.mark.parametrize(
    ("inventory", "said"),
    [
        ({"websockets_apps": {"chat": {}, "feed": {}}, "app": "echo"}, "name one of them (--app NAME"),
        ({"ansible_connection": "winrm"}, "this one has ansible_connection: winrm."),
        ({"ansible_become_method": "su"}, "bin/run becomes root by sudo, and this host has ansible_become_method: su."),
        ({"websockets_misspelt": 1}, "websockets_misspelt is not an input"),
    ],
    ids=["several apps", "connection", "become", "misspelt"],
)
def test_an_error_of_the_inventory_is_told(script, inventory, said):
    assert said in script(["true"], **inventory)


def test_the_way_to_the_host_is_that_of_ansible(script):
    text = script(
        ["true"],
        **{"ansible_connection": "ssh", "ansible_host": "192.0.2.9", "ansible_port": 2222, "ansible_user": "deploy"},
        ansible_ssh_private_key_file="~/.ssh/mine",
        ansible_ssh_common_args="-o ProxyJump=jump.example",
        ansible_become_exe="/usr/local/bin/sudo",
    )
    words = shlex.split(text[text.index("exec ") :])
    assert words[:4] == ["exec", "ssh", "-o", "ControlMaster=no"]
    assert {"Port=2222", 'User="deploy"', "ProxyJump=jump.example", f'IdentityFile="{Path.home()}/.ssh/mine"'} <= set(
        words
    )
    assert words[-3:-1] == ["$terminal", "192.0.2.9"]
    assert "/usr/local/bin/sudo" in words[-1]
