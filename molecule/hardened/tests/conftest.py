"""What the tests of abuse share: the app from outside, clients whose handshakes are timed, the other host as attacker."""

import asyncio
import json
import os
import pathlib
import socket
import ssl
import sys
import time

import pytest
import testinfra
from websockets.asyncio.client import connect

# What an address may have of handshakes, by default: a second, and after a while without any (docs/access.md).
RATE, AT_ONCE = 50, 512
PORTS = {"https": 443, "http": 80}
CROWD = pathlib.Path(__file__).parents[1] / "crowd.py"

# The table of malformed handshakes and frames.
sys.path.append(str(pathlib.Path(__file__).parents[3] / "tests"))


@pytest.fixture(scope="module")
def address(host):
    return host.check_output("hostname -I").split()[0]


@pytest.fixture(scope="module")
def trust():
    """What a client has that trusts this run's authority, and nobody else."""
    return ssl.create_default_context(cafile=f"{os.environ['MOLECULE_EPHEMERAL_DIRECTORY']}/ca.pem")


@pytest.fixture(scope="module")
def other(host, name):
    """The other host: a client that has another address, and nothing good in mind."""
    attacker = {"debian12": "debian13", "debian13": "debian12"}[name]
    return testinfra.get_host(f"ansible://{attacker}", ansible_inventory=host.backend.ansible_inventory)


@pytest.fixture(scope="module")
def open_connection(address, trust):
    """Connect to a port; to 443 with TLS, if no port is given without."""

    def run(port=PORTS["https"]):
        plain = socket.create_connection((address, port or PORTS["https"]), timeout=30)
        return trust.wrap_socket(plain, server_hostname="localhost") if port == PORTS["https"] else plain

    return run


@pytest.fixture(scope="module")
def visit(address, trust):
    """Have good clients come for some seconds, evenly; return how many milliseconds each waited for its handshake."""

    async def one():
        start = time.monotonic()
        async with connect("wss://localhost/", host=address, ssl=trust, compression=None, proxy=None) as websocket:
            milliseconds = (time.monotonic() - start) * 1000
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
        return milliseconds

    async def come(seconds):
        start, visits = time.monotonic(), []
        async with asyncio.TaskGroup() as group:
            for number in range(int(seconds * RATE)):
                await asyncio.sleep(start + number / RATE - time.monotonic())
                visits.append(group.create_task(one()))
        return [visit.result() for visit in visits]

    return lambda seconds: asyncio.run(come(seconds))


@pytest.fixture(scope="module")
def crowd():
    """Run crowd.py on a host, and return what it found."""
    return lambda host, *arguments: json.loads(
        host.check_output("python3 -c %s " + " ".join(map(str, arguments)), CROWD.read_text())
    )


@pytest.fixture(scope="module")
def pids(host, echo):
    """Return who runs: nginx's processes and the app's, as a function."""
    return lambda: (sorted(map(int, host.check_output("pgrep -x nginx").split())), echo.pids())


@pytest.fixture
def unharmed(pids):
    """See that no process has ended."""
    before = pids()
    yield
    assert pids() == before
