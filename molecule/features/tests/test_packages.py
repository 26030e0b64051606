"""Packages of an app: those of the distribution, and those of a lock."""

import dataclasses
import json
import tomllib
from pathlib import Path

import pytest

testinfra_hosts = ["ansible://debian13"]

# What only this file's apps have.
OWN = {"websockets_app": "pack", "websockets_listen": "8090", "websockets_numprocs": 1}
APPS = Path(__file__).parents[1] / "apps" / "packages"
LOCKED = {"websockets_src": str(APPS / "locked"), "websockets_command": "{venv}/bin/chat {socket}"}


@pytest.fixture(scope="module")
def pack(echo, play):
    """An app of these tests; it is removed at the end."""
    yield dataclasses.replace(echo, name="pack", numprocs=1, port=8090)
    assert play("remove", **OWN, app_to_remove="pack").returncode == 0


def test_a_package_that_apt_does_not_know_ends_the_deploy_before_anything_changes(host, deploy):
    done = deploy(**OWN, websockets_packages=["memcached", "no-such-package"])
    assert done.returncode == 2
    assert "No package matching 'no-such-package' is available" in done.stdout
    assert not host.user("ws-pack").exists
    assert not host.package("memcached").is_installed


def test_a_package_is_installed_and_its_service_starts(host, deploy, play, request):
    request.addfinalizer(lambda: host.check_output("apt-get purge --yes --autoremove memcached libpq5"))
    wanted = {**OWN, "websockets_packages": ["memcached", "libpq5"], "websockets_python": "3.13"}
    done = deploy(**wanted)
    assert done.returncode == 0, done.stdout
    assert host.service("memcached").is_running
    assert "changed=0" in deploy(**wanted).stdout
    assert play("remove", **OWN, app_to_remove="pack").returncode == 0
    assert host.package("memcached").is_installed  # another app may need it


def test_a_project_with_a_lock_is_installed_as_the_lock_says(host, deploy, client, pack):
    done = deploy(**OWN, **LOCKED)
    assert done.returncode == 0, done.stdout
    client(pack)
    lock = tomllib.loads((APPS / "locked" / "uv.lock").read_text())
    wanted = {one["name"]: one["version"] for one in lock["package"] if one["name"] in ("chat", "click", "websockets")}
    venv = host.check_output("readlink -f /srv/websockets/pack/venvs/*")
    frozen = host.check_output(f"{venv}/bin/python -m pip list --format=json --exclude=pip --exclude=setuptools")
    assert {one["name"]: one["version"] for one in json.loads(frozen)} == wanted
    # What pip builds, it builds elsewhere.
    code = f"/srv/websockets/pack/releases/{pack.release}/app"
    assert host.check_output(f"ls -A {code} {code}/src") == (
        f"{code}:\npyproject.toml\nsrc\nuv.lock\n\n{code}/src:\nchat"
    )
    assert "changed=0" in deploy(**OWN, **LOCKED).stdout


def test_a_host_without_an_index_gets_wheels_from_the_control_node(host, deploy, client, pack, request):
    """The Python of the control node may be another one than the host's."""
    request.addfinalizer(lambda: host.check_output("rm /etc/pip.conf"))
    # Nothing listens at this port.
    lines = r"[global]\nindex-url = http://127.0.0.1:9/simple\nretries = 0\n"
    host.check_output(f"printf '{lines}' > /etc/pip.conf")
    other_venv = {"websockets_pip_args": ["--prefer-binary"]}
    refused = deploy(**OWN, **LOCKED, **other_venv)
    assert refused.returncode == 2
    assert "No matching distribution found for" in refused.stdout
    done = deploy(**OWN, **LOCKED, **other_venv, websockets_wheels="build")
    assert done.returncode == 0, done.stdout
    client(pack)
    assert "changed=0" in deploy(**OWN, **LOCKED, **other_venv, websockets_wheels="build").stdout
