"""What the playbooks and bin/* do with an inventory and with relative paths, up to the first task on a host."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from role import ROOT

PLAYBOOKS = sorted(path.stem for path in ROOT.glob("playbooks/*.yml"))
BIN = Path(sys.executable).parent
INVENTORIES = {
    "mine": "websockets: {hosts: {one.example.com: {ansible_connection: local}}}\nedges: {hosts: {two.example.com: }}",
    "renamed": "websocket: {hosts: {one.example.com: }}",
    "empty": "websockets: {}",
}


@pytest.fixture
def folder(tmp_path):
    """Return the folder of a caller, with inventories of their own and no settings of Ansible."""
    for name, text in INVENTORIES.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "hosts.yml").write_text(text)
    (tmp_path / "broken.yml").write_text("websockets: [\n")
    (tmp_path / "ansible.cfg").touch()
    return tmp_path


def run(folder, command, *arguments, **environment):
    """Run a command in a folder; its output has each paragraph in one line."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    done = subprocess.run(
        [command, *arguments],
        cwd=folder,
        env={**own, "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def play(folder, playbook, *arguments):
    elsewhere = {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"), "ANSIBLE_CONFIG": str(folder / "ansible.cfg")}
    return run(folder, BIN / "ansible-playbook", f"websockets.deploy.{playbook}", *arguments, **elsewhere)


NO_HOSTS = {
    "mistyped": (["-i", "mien"], "There is no inventory '{folder}/mien'."),
    "mistyped beside another": (["-i", "mine", "-i", "mien"], "There is no inventory '{folder}/mien'."),
    "group of another name": (
        ["-i", "renamed"],
        "The inventory '{folder}/renamed' has no group 'websockets'; its groups: websocket.",
    ),
    "empty group": (["-i", "empty"], "The inventory '{folder}/empty' has no host in its group 'websockets'."),
    "list of hosts": (["-i", "one.example.com,"], "The inventory 'one.example.com,' has no group 'websockets'"),
    "limit to other hosts": (
        ["-i", "mine", "--limit", "edges"],
        "--limit 'edges' leaves no host of the group 'websockets'; it has one.example.com.",
    ),
}


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_a_playbook_without_a_host_fails(folder, playbook):
    status, said = play(folder, playbook, "-i", "mien")
    assert status != 0
    assert f"There is no inventory '{folder}/mien'." in said


@pytest.mark.parametrize(("arguments", "words"), NO_HOSTS.values(), ids=NO_HOSTS)
def test_a_run_without_a_host_says_why_in_one_line(folder, arguments, words):
    status, said = play(folder, "site", *arguments)
    assert status != 0
    assert [line for line in said.splitlines() if words.format(folder=folder) in line]


@pytest.mark.parametrize("limit", ["all", "one.example.com", "*.example.com:!two*", "edges,one*"])
def test_a_limit_that_leaves_a_host(folder, limit):
    status, said = play(folder, "status", "-i", "mine", "--limit", limit, "--list-hosts")
    assert (status, "hosts (1):" in said) == (0, True), said


# The commands


@pytest.fixture
def checkout(folder):
    """Return a checkout that has a complete .venv: the one that runs the tests."""
    made = folder / "checkout"
    made.mkdir()
    for path in ROOT.iterdir():
        if path.name not in (".git", ".venv", "bin"):
            (made / path.name).symlink_to(path)
    shutil.copytree(ROOT / "bin", made / "bin", symlinks=True)
    programs = made / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "ansible-playbook"):
        (programs / name).symlink_to(BIN / name)
    (made / ".venv" / "stamp").write_text(f"{made}\n{(ROOT / 'requirements' / 'test.txt').read_text()}")
    return made


def test_relative_paths_are_the_callers(folder, checkout):
    (folder / "more.yml").write_text("status_file: /dev/null")
    status, said = run(folder, checkout / "bin" / "status", "-i", "mine", "-e", "@more.yml", "--list-hosts")
    assert status == 0, said
    assert "one.example.com" in said


def test_the_commands_have_the_checkouts_settings_in_every_folder(folder, checkout):
    status, said = run(folder, "checkout/bin/status", "--list-hosts")
    assert status == 0, said
    assert re.search(r"hosts \(1\):\n +localhost", said)


@pytest.mark.parametrize("inventory", ["mien", "broken.yml"])
def test_an_inventory_that_cannot_be_read_is_named(folder, checkout, inventory):
    status, said = run(folder, checkout / "bin" / "deploy", "-i", inventory)
    assert status != 0
    assert said.splitlines()[-1] == f"[ERROR]: Completely failed to parse inventory source {folder}/{inventory}"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--app"], ""),
        (["--app="], ""),
        (["--app", "Feed me"], "Feed me"),
        (["--app=-i"], "-i"),
        (["--app=7up"], "7up"),
    ],
)
def test_an_app_that_is_no_name(folder, checkout, words, shown):
    status, said = run(folder, checkout / "bin" / "rollback", "-i", "mine", *words)
    assert status == 2
    remedy = "use the name of an app, in lower-case letters, digits, - and _."
    assert said == f"bin/rollback: --app is '{shown}': {remedy}\n"


@pytest.mark.parametrize("words", [[], ["-i", "mine"], ["of", "-i", "mine"], ["ON"]])
def test_maintenance_is_on_or_off(folder, checkout, words):
    status, said = run(folder, checkout / "bin" / "maintenance", *words)
    assert status == 2
    assert said == f"bin/maintenance: the first argument is '{words[0] if words else ''}': use on or off.\n"


@pytest.mark.parametrize("words", [["on", "--drain"], ["off"]])
def test_maintenance_tells_the_playbook_what_is_asked_for(folder, checkout, words):
    status, said = run(folder, checkout / "bin" / "maintenance", *words, "-i", "mine", "--list-hosts")
    assert status == 0, said
    assert "one.example.com" in said


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ("", "maintenance is '': use on or off."),
        ("maintenance=of", "maintenance is 'of': use on or off."),
        ("maintenance=1.5", "maintenance is '1.5': use on or off."),
        ("maintenance=on maintenance_drain=maybe", "maintenance_drain is 'maybe': with on, use true or false;"),
        ("maintenance=on maintenance_drain=-1", "maintenance_drain is '-1': with on, use true or false;"),
        ("maintenance=off maintenance_drain=true", "maintenance_drain is 'true': with on, use true or false;"),
    ],
)
def test_maintenance_asked_for_in_other_words_touches_nothing(folder, variables, words):
    status, said = play(folder, "maintenance", "-i", "mine", "-e", variables)
    assert status != 0
    assert "Nothing has been touched. " in said
    assert words in said
    assert "Check the inputs" not in said
