"""bin/logs prints what the processes write, each line with its host and process, also after a deploy."""

import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play_context import PlayContext
from ansible.plugins.loader import connection_loader
from ansible_collections.websockets.deploy.plugins.module_utils import paths, release, tail
from role import ROOT, load

logs = load("action/logs")
ONE, TWO = "1" * 12, "2" * 12


@pytest.fixture
def there(host):
    """Put the files of releases on the host: their programs and logs, and the live link."""

    def put(app, id, *texts, live=True):
        os.makedirs(f"{paths.app_base(app)}/releases", exist_ok=True)
        os.makedirs(f"{paths.LOG}/{app}", exist_ok=True)
        (host / "conf.d" / f"websockets-{app}-{id}.conf").touch()
        for number, text in enumerate(texts):
            write(app, id, text, number)
        if live:
            release.point(paths.live_link(app), f"{paths.RUN}/{app}/{id}")

    return put


def path_of(app, id, number=0):
    return f"{paths.LOG}/{app}/{app}_{number:02}-{id}.log"


def write(app, id, text, number=0):
    with open(path_of(app, id, number), "a") as file:
        file.write(text)


@pytest.fixture
def printed(there, monkeypatch):
    """Return the lines that the action prints, from this host by Ansible's connection ``local``."""
    monkeypatch.setattr(logs, "PAUSE", 0)

    def run(app="", lines=20, follow=False):
        action = logs.ActionModule(
            task=SimpleNamespace(args={}, async_val=0),
            connection=connection_loader.get("local", PlayContext()),
            play_context=PlayContext(),
            loader=DataLoader(),
            templar=None,
            shared_loader_obj=None,
        )
        return action.lines("ws1", sys.executable, app, lines, follow)

    return run


def test_a_workers_lines_have_its_name(there, printed):
    there("echo", ONE, "a\n", live=False)
    there("echo", TWO, "b\n")
    for id in (ONE, TWO):
        Path(f"{paths.LOG}/echo/echo.mail_00-{id}.log").write_text(f"{id[0]}\n")
    Path(f"{paths.LOG}/echo/pip.log").write_text("no process's\n")
    assert sorted(printed(app="echo")) == [
        f"ws1 echo.mail_00 ({ONE}) | 1",
        "ws1 echo.mail_00 | 2",
        f"ws1 echo_00 ({ONE}) | a",
        "ws1 echo_00 | b",
    ]


def test_the_last_lines_of_every_process_have_its_name(there, printed):
    there("echo", ONE, "a\nb\nc\n", "d\n")
    there("feed", TWO, "e\n")
    assert list(printed(lines=2)) == ["ws1 echo_00 | b", "ws1 echo_00 | c", "ws1 echo_01 | d", "ws1 feed_00 | e"]


def test_one_app_is_that_app_only(there, printed):
    there("echo", ONE, "a\n")
    there("echo-feed", TWO, "b\n")
    assert list(printed("echo")) == ["ws1 echo_00 | a"]
    assert list(printed("echo-feed")) == ["ws1 echo-feed_00 | b"]


def test_an_app_that_is_not_there_is_named_beside_those_that_are(there, printed):
    there("echo", ONE)
    with pytest.raises(logs.AnsibleActionFail, match=r"There is no app chat on this host; its apps: echo\."):
        list(printed("chat"))


def test_an_old_release_is_none_of_a_processs_business_until_it_drains(there, printed, host):
    there("echo", ONE, "old\n")
    there("echo", TWO, "new\n")
    assert sorted(printed()) == [f"ws1 echo_00 ({ONE}) | old", "ws1 echo_00 | new"]
    (host / "conf.d" / f"websockets-echo-{ONE}.conf").unlink()
    assert list(printed()) == ["ws1 echo_00 | new"]


@pytest.mark.parametrize("lines", [0, 1, 20])
def test_a_last_line_without_its_end_is_printed_too(there, printed, lines):
    there("echo", ONE, "a\nTraceback")
    assert list(printed(lines=lines)) == ["ws1 echo_00 | a", "ws1 echo_00 | Traceback"][2 - min(lines, 2) :]


def test_bytes_that_are_no_text_are_shown(there, printed):
    there("echo", ONE, "")
    with open(path_of("echo", ONE), "wb") as file:
        file.write(b"caf\xe9\n")
    assert list(printed()) == ["ws1 echo_00 | caf\N{REPLACEMENT CHARACTER}"]


def test_a_client_cannot_write_to_the_terminal(there, printed):
    there("echo", ONE, "GET /\x1b]0;owned\x07\tHTTP\x9b2J\r\nnext\x0bone\N{LINE SEPARATOR}\n")
    first, second = printed()
    assert first == "ws1 echo_00 | GET /\\x1b]0;owned\\x07\tHTTP\\x9b2J"
    assert second == "ws1 echo_00 | next\\x0bone\N{LINE SEPARATOR}"


def test_new_lines_follow_when_they_are_whole(there, printed):
    there("echo", ONE, "a\n", "")
    following = printed(follow=True)
    assert next(following) == "ws1 echo_00 | a"
    write("echo", ONE, "b\nha")
    assert next(following) == "ws1 echo_00 | b"
    write("echo", ONE, "lf\n")
    assert next(following) == "ws1 echo_00 | half"
    write("echo", ONE, "c\n", 1)
    assert next(following) == "ws1 echo_01 | c"


def test_a_deploy_is_followed(there, printed, host):
    there("echo", ONE, "a\n")
    following = printed("echo", follow=True)
    assert next(following) == "ws1 echo_00 | a"
    there("echo", TWO, "hello\n", live=False)
    assert next(following) == f"ws1 echo_00 ({TWO}) | hello"
    release.point(paths.live_link("echo"), f"{paths.RUN}/echo/{TWO}")
    assert next(following) == f"ws1 echo | release {TWO} has the traffic now"
    write("echo", ONE, "bye\n")
    (host / "conf.d" / f"websockets-echo-{ONE}.conf").unlink()
    assert next(following) == f"ws1 echo_00 ({ONE}) | bye"
    write("echo", TWO, "on\n")
    assert next(following) == "ws1 echo_00 | on"


def test_a_log_that_supervisord_rotates_is_followed(there, printed):
    there("echo", ONE, "a\n")
    following = printed(follow=True)
    assert next(following) == "ws1 echo_00 | a"
    write("echo", ONE, "before\n")
    os.rename(path := path_of("echo", ONE), f"{path}.1")
    write("echo", ONE, "after\n")
    assert [next(following), next(following)] == ["ws1 echo_00 | before", "ws1 echo_00 | after"]


def test_more_than_one_look_can_take_comes_whole(there, printed):
    there("echo", ONE, "a\n")
    following = printed(follow=True)
    next(following)
    numbers = [str(number) for number in range(100_000)]
    write("echo", ONE, "\n".join(numbers) + "\n")
    assert [next(following).rpartition(" ")[2] for _ in numbers] == numbers


def test_nothing_goes_on_where_nobody_listens(there):
    """A host is left alone as soon as its connection ends, long before the wait for a new line is over."""
    there("echo", ONE, "")
    given = {"programs": paths.programs(), "srv": paths.SRV, "log": paths.LOG, "app": "", "lines": 0, "follow": True}
    given |= {"seen": {}, "live": {"echo": ONE}, "wait": 600}
    program = f"{inspect.getsource(tail)}\nmain(json.loads({json.dumps(given)!r}))\n"
    with subprocess.Popen([sys.executable, "-IS", "-c", program], stdout=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.wait(timeout=20) is not None


# The command


@pytest.fixture
def arguments(tmp_path):
    """Return what bin/logs gives ansible-playbook."""

    def run(*given):
        (tmp_path / "bin").mkdir(exist_ok=True)
        shutil.copytree(ROOT / "bin", tmp_path / "checkout" / "bin", symlinks=True, dirs_exist_ok=True)
        # Instead of a virtual environment: this only tells how it was called.
        venv = tmp_path / "checkout" / "bin" / "lib" / "venv.sh"
        venv.write_text(f"use_venv() {{ PATH={tmp_path}/bin:$PATH; }}\n")
        playbook = tmp_path / "bin" / "ansible-playbook"
        playbook.write_text('#!/bin/sh\nprintf "%s\\n" "$@" "$ANSIBLE_STDOUT_CALLBACK"\n')
        playbook.chmod(0o755)
        done = subprocess.run(
            [tmp_path / "checkout" / "bin" / "logs", *given], capture_output=True, text=True, check=False
        )
        return done.stdout.splitlines() if done.returncode == 0 else done.stderr

    return run


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ([], []),
        (["-f"], ["--extra-vars", "logs_follow=true"]),
        (["--follow", "-n", "5"], ["--extra-vars", "logs_follow=true", "--extra-vars", "logs_lines=5"]),
        (["-n5", "-i", "mine"], ["--extra-vars", "logs_lines=5", "-i", "mine"]),
        (["--lines=5", "--app", "chat"], ["--extra-vars", "logs_lines=5", "--extra-vars", "websockets_only=chat"]),
    ],
    ids=["none", "follow", "both", "together", "long"],
)
def test_the_options_are_those_that_people_know(arguments, given, passed):
    *before, playbook, callback = arguments(*given)
    assert before == passed
    assert playbook.endswith("/playbooks/logs.yml")
    assert callback == "websockets.deploy.logs"


@pytest.mark.parametrize("given", [["-n"], ["-n", "many"], ["-n", "-1"], ["--lines="]], ids=" ".join)
def test_a_number_of_lines_that_is_none_is_refused(arguments, given):
    assert "use a whole number" in arguments(*given)


@pytest.mark.parametrize("hosts", ["localhost", "elsewhere"])
def test_the_output_is_nothing_but_lines_and_errors(tmp_path, hosts):
    connection = {"localhost": {"ansible_connection": "local"}, "elsewhere": {"ansible_port": 1}}[hosts]
    inventory = {"websockets": {"vars": {"ansible_host": "127.0.0.1", **connection}, "hosts": {hosts: {}}}}
    (tmp_path / "hosts.json").write_text(json.dumps(inventory))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment |= {"ANSIBLE_STDOUT_CALLBACK": "websockets.deploy.logs", "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"}
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", tmp_path / "hosts.json", "playbooks/logs.yml"]
    command += ["--extra-vars", "websockets_only=nowhere"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert done.returncode != 0
    said = {"localhost": "There is no app nowhere on this host; its apps: ", "elsewhere": "Connection refused"}[hosts]
    assert f"{hosts}: " in done.stderr
    assert said in done.stderr
