"""What the tests of a deployed host share: its apps, as the host itself shows them, and clients from outside."""

import asyncio
import dataclasses
import json
import os
import pathlib
import re
import subprocess

import pytest
from websockets.asyncio.client import connect

PROJECT = pathlib.Path(__file__).parents[3]
INVENTORY = PROJECT / "molecule" / "default" / "inventory"


@dataclasses.dataclass
class App:
    """One deployed app, as read from its host."""

    host: object
    name: str
    numprocs: int
    port: int

    @property
    def release(self):
        return self.host.file(f"/srv/websockets/{self.name}/live").linked_to.rsplit("/", 1)[-1]

    @property
    def sockets(self):
        return [f"/run/websockets/{self.name}/{self.release}/{process}.sock" for process in self.processes]

    @property
    def processes(self):
        return [f"{self.name}_{number:02d}" for number in range(self.numprocs)]

    @property
    def url(self):
        # The one address that the test host is reached at from here.
        return f"ws://{self.host.check_output('hostname -I').split()[0]}:{self.port}/"

    def pids(self):
        """Return {process: pid} as supervisord sees them."""
        lines = self.host.check_output("supervisorctl status").splitlines()
        found = (re.match(rf"{self.name}-{self.release}:(\S+)\s+RUNNING\s+pid (\d+)", line) for line in lines)
        return {match[1]: int(match[2]) for match in found if match}


@pytest.fixture
def echo(host):
    return App(host, "echo", 4, 8080)


@pytest.fixture
def asgi(host):
    return App(host, "asgi", 2, 8081)


@pytest.fixture
def name(host):
    """The host's name in the inventory."""
    return host.backend.get_hostname()


@pytest.fixture
def client():
    """Run a coroutine function with a connection to a URL."""

    def run(url, talk, **options):
        async def session():
            async with connect(url, **options) as websocket:
                return await talk(websocket)

        return asyncio.run(session())

    return run


@pytest.fixture
def deploy(name):
    """Deploy to this host with other variables; return the finished ansible-playbook."""

    def run(**variables):
        return subprocess.run(
            [
                "ansible-playbook",
                f"--inventory={INVENTORY}",
                f"--limit={name}",
                "--extra-vars",
                json.dumps(variables),
                str(PROJECT / "playbooks" / "site.yml"),
            ],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg")},
        )

    return run


@pytest.fixture
def wait(host):
    """Repeat a shell condition on the host until it holds."""

    def until(condition, seconds=15):
        done = host.run(f"timeout {seconds} sh -c 'until {condition}; do sleep 0.1; done'")
        assert done.rc == 0, f"not within {seconds} s: {condition}"

    return until
