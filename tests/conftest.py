"""Real programs for the tests, each with its own files. They read and change nothing else on the machine."""

import contextlib
import fcntl
import os
import platform
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import hypothesis.configuration
import pytest
import role
from ansible_collections.websockets.deploy.plugins.module_utils import handshake, nginx, paths, supervisor
from ansible_collections.websockets.deploy.plugins.module_utils.probe import Probe

hypothesis.configuration.set_hypothesis_home_dir(role.ROOT / ".pytest_cache" / "hypothesis")
# Every run has the same examples, so that a failure can be repeated.
hypothesis.settings.register_profile("tests", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("tests")


def pytest_configure(config):
    # supervisor 4.2.5 imports it; requirements/test.in pins a setuptools that has it.
    config.addinivalue_line("filterwarnings", "ignore:pkg_resources is deprecated:UserWarning")


@pytest.fixture(autouse=True)
def _no_git_of_the_caller(monkeypatch):
    """A git hook that runs the tests exports its own repository to them."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_nginx_of_the_machine(tmp_path, monkeypatch):
    """The user of the machine's own nginx says nothing about the tests' processes."""
    monkeypatch.setattr(paths, "NGINX_MAIN", f"{tmp_path}/nginx.conf")


@pytest.fixture
def short_path():
    """A temporary folder whose name leaves room for Unix sockets: their paths have at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="ws-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def free_port():
    """Return a TCP port of 127.0.0.1 that is free until it is used, as a function.

    A port of the kernel's own choice is soon another worker's or a client's. These are below the kernel's range, and each
    of xdist's workers has its share of them.
    """
    end = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = list(range(10000 + worker, end, workers))
    random.Random(os.getpid()).shuffle(ports)  # the tests of another checkout may run at the same time

    def choose():
        while True:
            port = ports.pop()
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
                return port

    return choose


@pytest.fixture
def eventually():
    """Wait until a condition holds, and return what it returned."""

    def wait(condition, timeout=10.0):
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            assert time.monotonic() < deadline, "it has not happened"
            time.sleep(0.01)
        return value

    return wait


# supervisord


@pytest.fixture
def host(short_path, monkeypatch):
    """Have the role's fixed places on a host be in a temporary folder."""
    monkeypatch.setattr(paths, "SRV", f"{short_path}/srv")
    monkeypatch.setattr(paths, "RUN", f"{short_path}/run")
    monkeypatch.setattr(paths, "LOG", f"{short_path}/log")
    monkeypatch.setattr(paths, "LIB", f"{short_path}/lib")
    monkeypatch.setattr(paths, "SUPERVISOR", str(short_path))
    monkeypatch.setattr(paths, "LOCK", f"{short_path}/lock")
    monkeypatch.setattr(paths, "SUPERVISOR_SOCKET", f"{short_path}/supervisor.sock")
    (short_path / "conf.d").mkdir()
    return short_path


@pytest.fixture
def supervisord(host):
    """Run a supervisord for the ``conf.d`` of ``host``, and return its process."""
    with run_supervisord(host) as process:
        yield process


@contextlib.contextmanager
def run_supervisord(host):
    """Run a supervisord, as the fixture ``supervisord`` does, in a ``with`` block."""
    config = host / "supervisord.conf"
    config.write_text(f"""
[unix_http_server]
file = {paths.SUPERVISOR_SOCKET}
[supervisord]
nodaemon = true
minfds = 256
logfile = {host}/supervisord.log
pidfile = {host}/supervisord.pid
childlogdir = {host}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[include]
files = {host}/conf.d/*.conf
""")
    # As on Debian, it starts with fewer file descriptors than any test asks for.
    limited = ["prlimit", "--nofile=256:", sys.executable, "-W", "ignore", "-m", "supervisor.supervisord"]
    # What a service has in its environment; that of a developer may have Python's own variables.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with subprocess.Popen([*limited, "-c", config], stdout=subprocess.DEVNULL, env=env) as process:
        try:
            supervisor.Supervisor().wait()
            yield process
        finally:
            process.kill()
            _kill_all_of(host)


def _kill_all_of(host):
    """Kill everything that a supervisord of ``host`` has started: an orderly end would take seconds."""
    mark = f"SUPERVISOR_SERVER_URL=unix://{paths.SUPERVISOR_SOCKET}".encode()
    while True:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended
                if mark in (folder / "environ").read_bytes() or os.readlink(folder / "cwd").startswith(f"{host}/"):
                    os.kill(int(folder.name), signal.SIGKILL)
                    found.append(folder.name)
        if not found:
            return
        time.sleep(0.01)


# nginx

_REMEDY = """
These tests need Debian's or Ubuntu's nginx: they have apt-get fetch a private copy, once, into .pytest_cache (nothing is
installed). This has failed; see that apt-get reaches its mirror, or run them on Debian or Ubuntu.
"""


@pytest.fixture(scope="session")
def nginx_package(request):
    """Return a folder with the distribution's nginx as its packages have it, not installed."""
    try:
        system = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
        place = Path(request.config.cache.mkdir("nginx")) / f"{system}-{platform.machine()}"
        with open(place.parent / "lock", "w") as lock_file:
            # If several workers come at once, the first one does the work.
            fcntl.flock(lock_file, fcntl.LOCK_EX)
            if not place.exists():
                with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
                    _fetch_nginx(Path(scratch))
                    (Path(scratch) / "root").rename(place)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.fail(f"{_REMEDY}\n{error}\n{getattr(error, 'stderr', '')}", pytrace=False)
    return place


def _fetch_nginx(scratch):
    def apt_get(*arguments):
        command = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", *arguments]
        return subprocess.run(command, cwd=scratch, check=True, capture_output=True, text=True)

    packages = ["nginx", "nginx-common"]
    try:
        apt_get("download", *packages)
    except subprocess.CalledProcessError:  # the machine's package lists are empty or old: use other lists
        own = ["-o", f"Dir::State={scratch}/state", "-o", f"Dir::Cache={scratch}/cache"]
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (scratch / folder).mkdir(parents=True)
        apt_get(*own, "update")
        apt_get(*own, "download", *packages)
    for package in scratch.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, scratch / "root"], check=True, capture_output=True, text=True)


@pytest.fixture
def nginx_folder(nginx_package, short_path, monkeypatch):
    """Have ``nginx`` be the distribution's, with its configuration, logs and pid in a temporary folder; return /etc/nginx."""
    folder = short_path / "etc" / "nginx"
    shutil.copytree(nginx_package / "etc" / "nginx", folder, symlinks=True)
    for name in ("conf.d", "sites-enabled", "modules-enabled"):
        (folder / name).mkdir(exist_ok=True)
    (short_path / "log").mkdir(exist_ok=True)
    main = folder / "nginx.conf"
    text = main.read_text()
    for theirs, ours in {
        "/etc/nginx": folder,
        "/var/log/nginx": short_path / "log",
        "/run/nginx": short_path / "nginx",
    }.items():
        text = re.sub(rf"(?<=\s){theirs}", str(ours), text)
    # Its workers have to reach sockets of processes that run as the tests' user.
    main.write_text(text.replace("user www-data;", "user root;" if os.getuid() == 0 else ""))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    (folder / "conf.d" / "temporary.conf").write_text(
        "".join(f"{kind}_temp_path {short_path}/{kind};\n" for kind in kinds)
    )
    command = short_path / "bin" / "nginx"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {nginx_package}/usr/sbin/nginx -e stderr -c {main} "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(paths, "NGINX", str(folder))
    monkeypatch.setattr(paths, "NGINX_MAIN", str(main))
    monkeypatch.setattr(paths, "NGINX_ACCESS_LOG", f"{short_path}/log/access.log")
    monkeypatch.setattr(paths, "SCRATCH", str(short_path))
    monkeypatch.setattr(paths, "PENDING", f"{short_path}/pending")
    return folder


@pytest.fixture
def nginxs_user(short_path):
    """Have nginx run as a user of its own, as on a host, and return the user's name. Only root can start it so."""
    main = Path(paths.NGINX_MAIN)
    main.write_text((main.read_text() if main.exists() else "user root;\n").replace("user root;", "user www-data;"))
    short_path.chmod(0o711)
    return "www-data"


@pytest.fixture
def served(nginx_folder, host, eventually, free_port):
    """Put an app behind an nginx with the role's configuration; return the addresses and processes of both."""
    with contextlib.ExitStack() as stack:

        def serve(app=role.ECHO / "app.py", numprocs=2, listen="127.0.0.1:{port}", **inputs):
            port = free_port()
            planned = role.plan(listen=listen.format(port=port), numprocs=numprocs, **inputs)
            os.makedirs(planned["release"]["live_link"])
            log = stack.enter_context(open(host / "app.log", "w+"))
            peers = [process["peer"] for process in planned["release"]["processes"]]
            commands = [[sys.executable, app, peer] for peer in peers] + [["nginx", "-g", "daemon off;"]]
            connections = planned["sizes"]["worker_connections"]
            main = nginx.tune(nginx.read(paths.NGINX_MAIN), connections, connections)
            nginx.write({paths.NGINX_MAIN: main, **role.nginx_files(planned, nginx_folder)})
            processes = []
            for command in commands:
                processes.append(stack.enter_context(subprocess.Popen(command, stderr=log)))
                stack.callback(processes[-1].terminate)
            children = Path(f"/proc/{processes[-1].pid}/task/{processes[-1].pid}/children")
            eventually(lambda: not any(handshake.fault(peer, Probe(), {}) for peer in peers))
            eventually(lambda: len(children.read_text().split()) == os.cpu_count())
            return SimpleNamespace(
                port=port,
                planned=planned,
                processes=processes,
                workers=lambda: children.read_text().split(),
                log=lambda: (host / "app.log").read_text(),
            )

        yield serve
