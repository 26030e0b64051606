"""What the tests of all scenarios share: the deployed app as its host shows it, the playbooks, and clients under load."""

import asyncio
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import urllib.request

import pytest
from websockets.asyncio.client import connect

MOLECULE = pathlib.Path(__file__).parent
PROJECT = MOLECULE.parent
REPORTS = pytest.StashKey()


@dataclasses.dataclass
class App:
    """One deployed app, as read from its host."""

    host: object
    name: str
    numprocs: int
    port: int
    path: str = ""
    variables: dict = dataclasses.field(default_factory=dict)

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
        return f"ws://localhost:{self.port}/{self.path}"

    @property
    def address(self):
        # The one that the test host is reached at from here. After a reboot it may be another one; the name stays.
        return self.host.check_output("hostname -I").split()[0]

    def get(self, path="", **headers):
        """Ask for something that is no WebSocket."""
        headers |= {"Host": f"localhost:{self.port}"}
        request = urllib.request.Request(f"http://{self.address}:{self.port}/{path}", headers=headers)
        return urllib.request.urlopen(request, timeout=10)

    def pids(self):
        """Return {process: pid} as supervisord sees them."""
        lines = self.host.check_output("supervisorctl status").splitlines()
        found = (re.match(rf"{self.name}-{self.release}:(\S+)\s+RUNNING\s+pid (\d+)", line) for line in lines)
        return {match[1]: int(match[2]) for match in found if match}


@dataclasses.dataclass
class Play:
    """A finished ansible-playbook; ``lines`` are pairs of a time and what was printed then."""

    returncode: int
    lines: list
    started: float
    ended: float

    @property
    def stdout(self):
        return "".join(text for _, text in self.lines)

    @property
    def seconds(self):
        return self.ended - self.started

    def start_of(self, task):
        """Return when a task of the role began."""
        return next(
            when for when, text in self.lines if text.startswith(f"TASK [websockets.deploy.websockets : {task}")
        )


@pytest.fixture(scope="module")
def name(host):
    """The host's name in the inventory."""
    return host.backend.get_hostname()


@pytest.fixture(scope="module")
def echo(host):
    return App(host, "echo", 4, 8080)


@pytest.fixture(scope="module")
def start(request, name):
    """Begin a playbook on this host with other variables, in a process group of its own."""

    # Where Ansible hides skipped hosts, it prints a task's name at its end and not at its start.
    settings = {"ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "true"}

    def run(playbook, limit=name, **variables):
        return subprocess.Popen(
            [
                "ansible-playbook",
                f"--inventory={request.path.parents[1] / 'inventory'}",
                f"--limit={limit}",
                "--extra-vars",
                json.dumps(variables),
                str(PROJECT / "playbooks" / f"{playbook}.yml"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
            env={**os.environ, **settings},
        )

    return run


@pytest.fixture(scope="module")
def play(start):
    """Run a playbook on this host with other variables."""

    def run(playbook, **variables):
        started = time.time()
        with start(playbook, **variables) as process:
            lines = [(time.time(), line) for line in process.stdout]
        return Play(process.returncode, lines, started, time.time())

    return run


@pytest.fixture(scope="module")
def deploy(play):
    """Deploy to this host with other variables."""
    return lambda **variables: play("site", **variables)


@pytest.fixture
def client():
    """Run a coroutine function with a connection to an app; without one, see that a message comes back."""

    async def say_hello(websocket):
        await websocket.send("still there?")
        assert await websocket.recv() == "still there?"

    def run(app, talk=say_hello, **options):
        async def session():
            async with connect(app.url, host=app.address, **options) as websocket:
                return await talk(websocket)

        return asyncio.run(session())

    return run


@pytest.fixture(scope="module")
def wait(host):
    """Repeat a shell condition on the host until it holds."""

    def until(condition, seconds=15):
        done = host.run("timeout %s sh -c %s", str(seconds), f"until {condition}; do sleep 0.1; done")
        assert done.rc == 0, f"not within {seconds} s: {condition}"

    return until


@pytest.fixture(scope="module")
def wait_for_ssh(host):
    """Wait, as a function, until a host that has been restarted lets Ansible in again."""

    def until(seconds=30):
        deadline = time.monotonic() + seconds
        while True:
            try:
                return host.check_output("true")
            except RuntimeError:
                assert time.monotonic() < deadline
                time.sleep(0.2)

    return until


@pytest.fixture(scope="module")
def confined(host):
    """Tell, as a function, whether systemd's sandbox is in force for a process, with file systems of its own."""
    mounts = "cat /proc/{}/mountinfo"  # ns/mnt of another user's process is not root's to read in a container
    here = host.check_output(mounts.format(1))

    def look(pid):
        status = host.check_output(f"cat /proc/{pid}/status").splitlines()
        apart = host.check_output(mounts.format(pid)) != here
        return apart and {"NoNewPrivs:\t1", "Seccomp:\t2"} <= set(status)

    return look


class Report(dict):
    """The report of molecule/load/client.py, filled when the load ends."""

    def codes(self):
        """Return {close code: how many clients saw it}."""
        return {int(code): count for code, count in self["summary"]["closes"].items()}

    def harm(self):
        """Return what no client should have noticed, empty if there is nothing."""
        found = {
            "failed": self["failed"],
            "lost": self["lost"],
            "closes": [close for close in self["closes"] if close[1] not in (1001, 1012)],
        }
        return {what: [*events[:5], f"{len(events)} of them"] for what, events in found.items() if events}


@pytest.fixture(scope="module")
def load(request, name, echo):
    """Have clients come, go, stay and talk while a block runs: ``with load("deploys") as report``.

    The report is kept in the scenario's folder reports/, and its counts are printed after the tests.
    """
    folder = request.path.parents[1] / "reports"
    folder.mkdir(exist_ok=True)

    @contextlib.contextmanager
    def run(experiment, rate=200, held=400, seconds=600, app=echo, options=()):
        path, report = folder / f"{experiment}-{name}.json", Report()
        path.unlink(missing_ok=True)
        limits = [f"--rate={rate}", f"--held={held}", f"--seconds={seconds}"]
        where = [app.url, f"--address={app.address}"]
        command = [sys.executable, MOLECULE / "load" / "client.py", *where, *limits, *options, "--report", path]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
            try:
                assert client.stdout.readline() == "ready\n"
                yield report
            finally:
                client.terminate()
                client.wait()
                report.update(json.loads(path.read_text()))
                request.config.stash.setdefault(REPORTS, []).append((path, report))

    return run


def pytest_terminal_summary(terminalreporter, config):
    for path, report in config.stash.get(REPORTS, []):
        terminalreporter.section(os.path.relpath(path, PROJECT))
        for key, value in report["summary"].items():
            terminalreporter.write_line(f"{key:18} {value}")
