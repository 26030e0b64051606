"""Hosts that an older commit has deployed two apps to, and the collection as a user elsewhere installs it.

The tests are the steps of one story, in this order, and each play goes to all hosts at once.
"""

import asyncio
import os
import pathlib
import re
import ssl
import subprocess

import pytest
import testinfra
import yaml
from websockets.asyncio.client import connect

SCENARIO = pathlib.Path(__file__).parents[1]
PROJECT = SCENARIO.parents[1]
INVENTORY = SCENARIO / "inventory"
# What a user has: no settings of Molecule's, nothing that leads into this checkout.
ENV = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}


def run(folder, *command):
    """Run a command that has to succeed, and return what it prints."""
    done = subprocess.run(command, cwd=folder, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def play(folder, playbook, *options):
    """Run a playbook, the user's or one of the collection, in a user's folder; return what it prints."""
    return run(folder, "ansible-playbook", f"--inventory={INVENTORY}", playbook, *options)


def changes(printed):
    """Return how many tasks of a run have changed each host."""
    return {name: int(count) for name, count in re.findall(r"(?m)^(\S+) +: ok=.*\bchanged=(\d+)", printed)}


@pytest.fixture(scope="module")
def hosts():
    found = testinfra.get_hosts(["ansible://websockets"], ansible_inventory=str(INVENTORY))
    return {host.backend.get_hostname(): host for host in found}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A user's folder with a playbook of the user's own, and with the collection installed from its tarball."""
    folder, built = tmp_path_factory.mktemp("elsewhere"), tmp_path_factory.mktemp("built")
    for path in (SCENARIO / "elsewhere").iterdir():
        (folder / path.name).write_text(path.read_text())
    run(PROJECT, "ansible-galaxy", "collection", "build", "--output-path", str(built))
    tarball = next(built.glob("websockets-deploy-*.tar.gz"))
    run(folder, "ansible-galaxy", "collection", "install", "--offline", "-p", "collections", str(tarball))
    return folder


def live(host, app="echo"):
    return host.file(f"/srv/websockets/{app}/live").linked_to.rsplit("/", 1)[-1]


@pytest.fixture(scope="module")
def older(hosts):
    """The releases of the echo app that the older commit has made."""
    return {name: live(host) for name, host in hosts.items()}


def state(host):
    """Return the processes with their starts, and each file with its times and digest: what an upgrade leaves alone.

    An app's ``site.json`` and ``inputs.json`` may be new: there the role notes what it has deployed.
    """
    apps = "$(find /srv/websockets -mindepth 2 -maxdepth 2 ! -name site.json ! -name inputs.json)"
    folders = f"/etc/nginx /etc/supervisor /etc/systemd/system /etc/tmpfiles.d /etc/init.d {apps}"
    commands = {
        "processes": "ps -eo pid,lstart,args --sort=pid | grep -E '[n]ginx|[s]upervisord|[a]pp\\.py'",
        "files": f"find {folders} -printf '%p %y %i %m %u:%g %T@ %C@ %l\\n' | sort",
        "digests": f"find {folders} -type f -print0 | sort -z | xargs -0 sha256sum",
    }
    return {what: host.check_output(command).splitlines() for what, command in commands.items()}


def serves(host, port=8080, certificate=None):
    """Tell whether a message comes back from the app at a port of this host."""
    address = host.check_output("hostname -I").split()[0]
    tls = ssl.create_default_context(cadata=certificate) if certificate else None

    async def session():
        # The client of websockets.sync reads and writes a TLS connection in two threads, and misses the answer at times.
        async with connect(f"{'wss' if tls else 'ws'}://localhost:{port}/", host=address, ssl=tls) as websocket:
            await websocket.send("still there?")
            return await websocket.recv() == "still there?"

    return asyncio.run(session())


def test_a_host_of_the_older_commit_does_not_notice_the_collection(hosts, older, elsewhere):
    before = {name: state(host) for name, host in hosts.items()}
    printed = play(elsewhere, "deploy.yml")
    assert "TASK [websockets.deploy.websockets : " in printed
    assert changes(printed) == dict.fromkeys(hosts, 0), printed
    for name, host in hosts.items():
        # Four processes of one app, two of the other, supervisord, nginx's master and a worker at least.
        assert len(before[name]["processes"]) >= 9
        assert state(host) == before[name]


def test_both_apps_serve(hosts):
    for host in hosts.values():
        assert serves(host)
        assert serves(host, 8443, host.file("/etc/nginx/websockets/feed.crt").content_string)


def test_status_tells_of_both_apps(hosts, elsewhere):
    printed = play(elsewhere, "websockets.deploy.status")
    for host in hosts.values():
        assert f"echo: {live(host)} live since" in printed
        assert f"feed: {live(host, 'feed')} live since" in printed
    assert printed.count("certificate /etc/nginx/websockets/feed.crt ends") == len(hosts)


def test_a_change_goes_live(hosts, older, elsewhere):
    play(elsewhere, "websockets.deploy.site", "--extra-vars=websockets_numprocs=3")
    for name, host in hosts.items():
        assert live(host) != older[name]
        running = re.findall(r"(?m)^echo-(\w+):echo_\d\d +RUNNING", host.check_output("supervisorctl status"))
        assert running == [live(host)] * 3
        # The processes of the older commit's release have supervisord's environment; from now on it is the app's.
        as_the_app = "setpriv --reuid=ws-echo --regid=ws-echo --clear-groups"
        environment = host.check_output(f"{as_the_app} cat /proc/$(pgrep -u ws-echo -f -o app.py)/environ").split("\0")
        assert "USER=ws-echo" in environment
        assert serves(host)


def test_rollback_goes_to_the_older_commits_release(hosts, older, elsewhere):
    play(elsewhere, "websockets.deploy.rollback")
    for name, host in hosts.items():
        assert live(host) == older[name]
        assert serves(host)


def test_an_app_of_the_older_commit_is_removed(hosts, older, elsewhere):
    play(elsewhere, "websockets.deploy.remove", "--extra-vars=@feed.yml", "--extra-vars=app_to_remove=feed")
    for name, host in hosts.items():
        found = host.run("find /etc /srv /run /var/log -name '*feed*' -o -nouser").stdout.splitlines()
        assert [path for path in found if not path.endswith("-")] == []  # passwd- and group- are passwd's own backups
        assert live(host) == older[name]
        assert serves(host)


def test_the_commit_that_is_checked_out_is_installed_from_git(hosts, tmp_path):
    run(tmp_path, "git", "clone", "--quiet", "--bare", str(PROJECT), "deploy.git")
    wanted = {"name": f"git+file://{tmp_path}/deploy.git", "type": "git", "version": "HEAD"}
    (tmp_path / "requirements.yml").write_text(yaml.safe_dump({"collections": [wanted]}))
    (tmp_path / "ansible.cfg").write_text((SCENARIO / "elsewhere" / "ansible.cfg").read_text())
    run(tmp_path, "ansible-galaxy", "collection", "install", "-r", "requirements.yml", "-p", "collections")
    printed = play(tmp_path, "websockets.deploy.site")
    assert changes(printed) == dict.fromkeys(hosts, 0), printed
