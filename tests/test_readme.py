"""README as printed: its inventory leads Ansible to the host and the role to the app, and its check by hand is installed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from role import ROOT, plan

README = (ROOT / "README.md").read_text()


@pytest.fixture
def variables(tmp_path, monkeypatch):
    """Return the variables of the host in README's files."""
    monkeypatch.setenv("HOME", str(tmp_path))
    hosts = re.search(r"`inventory/mine/hosts.yml`.*?```yaml\n(.*?)```", README, re.S)[1]
    group = re.search(r"`inventory/mine/group_vars/websockets.yml`.*?```yaml\n(.*?)```", README, re.S)[1]
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "hosts.yml").write_text(hosts)
    (tmp_path / "group_vars" / "websockets.yml").write_text(group)
    command = [Path(sys.executable).parent / "ansible-inventory", "-i", tmp_path / "hosts.yml", "--list"]
    listed = json.loads(subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout)
    (host,) = listed["websockets"]["hosts"]
    return {"inventory_hostname": host, **listed["_meta"]["hostvars"][host]}


def test_ansible_gets_to_the_host(variables):
    assert variables["ansible_host"] == "192.0.2.20"
    assert variables["ansible_user"] == "deploy"
    assert variables["ansible_ssh_private_key_file"].startswith("~/.ssh/")


def test_the_role_takes_the_inputs_as_they_are(variables, tmp_path):
    (tmp_path / "chat").mkdir()
    (tmp_path / "chat" / "app.py").touch()
    inputs = {
        name.removeprefix("websockets_"): value for name, value in variables.items() if name.startswith("websockets_")
    }
    planned = plan(**inputs)
    assert planned["site"]["url"] == "wss://chat.example.com/"
    assert f"url: {planned['site']['url']}" in README


def test_the_check_by_hand_is_in_what_the_commands_install():
    (tool,) = re.findall(r"(?m)^\$ \.venv/bin/(\w+) ws://localhost:8080/$", README)
    assert re.search(rf"(?m)^{tool}==", (ROOT / "requirements" / "deploy.txt").read_text())
