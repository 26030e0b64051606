"""The peers that are measured, as context managers: each runs on the test host during its block.

``direct`` is the deployed app's sockets, and ``project`` is nginx as deployed. The others run beside it on their own
ports, from the files in ``peers/``, and proxy to the same sockets; only ``documentation`` has its own app.

A peer has a class of scheduling: that of this project's services, or that of all processes by default. While it is measured,
the app has the same: ``take_turn`` sees to it.
"""

import contextlib
import dataclasses
import functools
import glob
import itertools
import os
import pathlib
import pwd
import re
import resource
import shutil
import signal
import subprocess

from tools import load, tree, until

FILES = pathlib.Path(__file__).parent / "peers"
SCRATCH = pathlib.Path("/run/benchmark")
SITE = pathlib.Path("/etc/nginx/conf.d/websockets-echo.conf")
PYTHON = "/opt/peers/bin"
DESCRIPTORS = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
USER = "www-data"
# websockets_message_size: the size of nginx's buffers that the role derives from it (plugins/module_utils/sizing.py).
BUFFERS = {4096: 5120, 16384: 17408, 32768: 33792, 65536: 66560, 131072: 132096}


@dataclasses.dataclass
class Peer:
    name: str
    connect: str
    # Listening sockets of the app, by the names to which they were bound.
    sockets: list
    # Process of the proxy; None for direct.
    pid: int = None
    # The supervisord whose children are the app.
    supervisord: int = None
    # Whether its clients offer compression, as browsers do.
    deflate: bool = False
    # The class of scheduling of proxy and app: os.SCHED_OTHER or os.SCHED_BATCH.
    policy: int = os.SCHED_OTHER
    # Whether it speaks TLS.
    secured: bool = False
    # What the command of the app's processes has.
    app: str = "\0app.py"

    @property
    def target(self):
        """Return the load client's arguments."""
        deflate = ["--deflate"] if self.deflate else []
        return ["--connect", self.connect, *deflate, *(["--tls", "full"] if self.secured else [])]

    @property
    def proxy_pids(self):
        return tree(self.pid) if self.pid else []

    @property
    def app_pids(self):
        return [pid for pid in tree(self.supervisord)[1:] if self.app.encode() in _read(pid, "cmdline")]

    @property
    def ping_interval(self):
        """Return the seconds between the app's pings; without a word in its environment, the 20 of websockets."""
        said = re.search(rb"(?:^|\0)WEBSOCKETS_PING_INTERVAL=([^\0]+)", _read(self.app_pids[0], "environ"))
        return float(said[1]) if said else 20

    @property
    def processes(self):
        """Return the process ids of all that serve a client."""
        return {"proxy": self.proxy_pids, "app": self.app_pids, "supervisord": [self.supervisord]}

    def answers(self):
        return load("handshakes", *self.target, "--count", 8)["failed"] == 0

    def take_turn(self):
        """Have its processes scheduled as they are for this peer: other peers share them."""
        for pid in itertools.chain(*self.processes.values()):
            if os.sched_getscheduler(pid) != self.policy:
                # Their own user may do that, and root in a container may not.
                user = pathlib.Path(f"/proc/{pid}").stat().st_uid
                subprocess.run(["chrt", _option(self.policy), "--pid", "0", str(pid)], user=user, check=True)


def _option(policy):
    return "--batch" if policy == os.SCHED_BATCH else "--other"


def _read(pid, file):
    return pathlib.Path(f"/proc/{pid}/{file}").read_bytes()


def live_sockets():
    return sorted(glob.glob("/srv/websockets/echo/live/*.sock"))


def certificate():
    """Return the paths of certificate and key if the project's site speaks TLS, and else nothing."""
    return re.findall(r"(?m)^ +ssl_certificate(?:_key)? (.*);", SITE.read_text())[:2]


def supervisord():
    return int(pathlib.Path("/run/supervisord.pid").read_text())


@functools.cache
def own_policy():
    """Return the class of scheduling of this project's services, as it was before a peer took its turn."""
    return os.sched_getscheduler(supervisord())


def _deployed(name, connect, pid=None, policy=os.SCHED_OTHER):
    sockets = [os.path.realpath(path) for path in live_sockets()]
    return Peer(name, connect, sockets, pid, supervisord(), policy=policy, secured=bool(pid and certificate()))


@contextlib.contextmanager
def direct():
    yield _deployed("direct", ",".join(f"unix:{path}" for path in live_sockets()), policy=own_policy())


@contextlib.contextmanager
def project(name="project", policy=None):
    listen = re.search(r"listen ([\d.:]+)", SITE.read_text())[1]
    nginx = int(pathlib.Path("/run/nginx.pid").read_text())
    yield _deployed(name, listen, nginx, own_policy() if policy is None else policy)


project_batch = functools.partial(project, "project_batch", os.SCHED_BATCH)


@contextlib.contextmanager
def floor():
    """The least that a proxy does, scheduled as this project's services are."""
    command = ["proxy", "8104", *(os.path.realpath(path) for path in live_sockets())]
    with _running("floor", command, USER, own_policy()) as pid:
        yield _ready(_deployed("floor", "127.0.0.1:8104", pid, own_policy()))


@contextlib.contextmanager
def haproxy(name="haproxy", port=8102, mode="http", policy=os.SCHED_OTHER):
    pem = "".join(pathlib.Path(path).read_text() for path in certificate())
    tls = f"ssl crt {_write(name, 'tls.pem', pem)}" if pem else ""
    text = pathlib.Path(_fill("haproxy.cfg", tls)).read_text().replace(":8102", f":{port}")
    if mode == "tcp":
        text = text.replace("mode http", "mode tcp").replace("    option forwardfor\n", "")
    with _running(name, ["haproxy", "-W", "-f", _write(name, "haproxy.cfg", text)], policy=policy) as pid:
        yield _ready(_deployed(name, f"127.0.0.1:{port}", pid, policy))


haproxy_batch = functools.partial(haproxy, "haproxy_batch", 8105, policy=os.SCHED_BATCH)
haproxy_tcp = functools.partial(haproxy, "haproxy_tcp", 8106, mode="tcp")


@contextlib.contextmanager
def caddy():
    paths = [_write("caddy", pathlib.Path(path).name, pathlib.Path(path).read_text()) for path in certificate()]
    config = _fill("Caddyfile", f"tls {paths[0]} {paths[1]}" if paths else "")
    with _running("caddy", ["caddy", "run", "--adapter", "caddyfile", "--config", config], user=USER) as pid:
        yield _ready(_deployed("caddy", "127.0.0.1:8103", pid))


@contextlib.contextmanager
def documentation_nginx():
    """The documentation's nginx.conf in front of the deployed app."""
    text = _more_connections((FILES / "documentation/nginx.conf").read_text())
    text = re.sub(
        r"( +server unix:\S+;\n)+", "".join(f"        server unix:{path};\n" for path in live_sockets()), text
    )
    config = _write("documentation_nginx", "nginx.conf", text.replace("localhost:8080", "127.0.0.1:8101"))
    with _nginx("documentation_nginx", config, user=USER) as pid:
        yield _ready(_deployed("documentation_nginx", "127.0.0.1:8101", pid))


@contextlib.contextmanager
def documentation(as_published=False):
    """The documentation's nginx, supervisord and app.

    At its 512 worker_connections nginx accepts half as many clients, or fewer. Unless ``as_published`` is set, it gets as
    many as this host has descriptors.
    """
    folder = SCRATCH / "documentation"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(FILES / "documentation", folder)
    if not as_published:
        _write("documentation", "nginx.conf", _more_connections((folder / "nginx.conf").read_text()))
    # Everything belongs to one user, as if you typed the documentation's commands: app and nginx share the sockets.
    _chown(folder)
    with (
        _running("documentation", ["supervisord", "-c", "supervisord.conf", "-n"], user=USER) as supervisord,
        _nginx("documentation", "nginx.conf", user=USER) as pid,
    ):
        sockets = [f"websockets-test_{number:02d}.sock" for number in range(4)]
        name = "documentation_published" if as_published else "documentation"
        yield _ready(Peer(name, "127.0.0.1:8080", sockets, pid, supervisord, deflate=True))


@contextlib.contextmanager
def variant(name, buffer=None, port=8110, sockets=(), address="127.0.0.1"):
    """The deployed nginx again, as another process with another proxy_buffer_size or app, limited only by its descriptors."""
    site = re.sub(r"listen [^;\s]+", f"listen {address}:{port}", SITE.read_text())
    site = re.sub(r"(?m)^\s*limit_conn .*\n", "", site)
    if buffer:
        site = re.sub(r"(?m)^\s*proxy_(buffer_size|buffers|busy_buffers_size) .*\n", "", site)
        # nginx requires that the other two match; it uses neither for a WebSocket.
        sizes = f"proxy_buffer_size {buffer}; proxy_buffers 4 {buffer}; proxy_busy_buffers_size {buffer};"
        site = site.replace("proxy_http_version", f"{sizes}\n        proxy_http_version", 1)
    if sockets:
        servers = "".join(f"    server unix:{path} max_fails=0;\n" for path in sockets)
        site = re.sub(r"(?m)(^ +server unix:.*\n)+", servers, site, count=1)
    path = _write(name, "site.conf", site)
    main = pathlib.Path("/etc/nginx/nginx.conf").read_text()
    main = re.sub(r"(?m)^\s*(include /etc/nginx/sites-enabled.*|pid .*|worker_rlimit_nofile .*)\n", "", main)
    shared = SITE.with_name("websockets.conf")
    main = re.sub(r"include /etc/nginx/conf\.d/[^;]*;", f"include {shared}; include {path};", main)
    main = re.sub(r"worker_connections\s+\d+;", f"worker_connections {DESCRIPTORS};", main)
    config = _write(name, "nginx.conf", f"daemon off;\nworker_rlimit_nofile {DESCRIPTORS};\n{main}")
    with _nginx(name, config, policy=own_policy()) as pid:
        yield _ready(_deployed(name, f"{address}:{port}", pid, own_policy()))


@contextlib.contextmanager
def running(starts):
    """Run several peers side by side, to be measured in turn."""
    with contextlib.ExitStack() as stack:
        stack.callback(_as_deployed)
        yield [stack.enter_context(start()) for start in starts]


def _as_deployed():
    with project() as peer:
        peer.take_turn()


def restart_app():
    """Restart the deployed app: its old processes keep the memory that they have once had."""
    with direct() as peer:
        pass
    group = subprocess.run(["supervisorctl", "status"], stdout=subprocess.PIPE, text=True).stdout.split(":")[0]
    subprocess.run(["supervisorctl", "restart", f"{group}:*"], stdout=subprocess.DEVNULL, check=True)
    _ready(peer)


@contextlib.contextmanager
def pinging(seconds):
    """Have new processes of the deployed app ping each client every so many seconds, until the end of the block."""
    release = os.path.basename(os.readlink("/srv/websockets/echo/live"))
    run = pathlib.Path(f"/srv/websockets/echo/releases/{release}/run")
    text = run.read_text()
    run.write_text(re.sub(r"(?m)^(export WEBSOCKETS_PING_INTERVAL)=.*", rf"\1={seconds}", text))
    try:
        restart_app()
        yield
    finally:
        run.write_text(text)
        restart_app()


def _more_connections(text):
    return text.replace("events {", f"events {{\n    worker_connections {DESCRIPTORS};")


def _write(name, file, text):
    (SCRATCH / name).mkdir(parents=True, exist_ok=True)
    (SCRATCH / name / file).write_text(text)
    return str(SCRATCH / name / file)


def _fill(file, tls=""):
    """Return the path of a peer's file in which the line with SOCKET is repeated for each process of the app."""
    lines = []
    for line in (FILES / file).read_text().replace("# TLS", tls).splitlines():
        sockets = live_sockets() if "SOCKET" in line and not line.startswith("#") else [""]
        lines += [line.replace("SOCKET", path).replace("NAME", pathlib.Path(path).stem) for path in sockets]
    return _write(file.split(".")[0].lower(), file, "\n".join(lines) + "\n")


def _chown(folder):
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, pwd.getpwnam(USER).pw_uid, pwd.getpwnam(USER).pw_gid)


def _ready(peer):
    until(peer.answers, f"a handshake with {peer.name}", 20)
    return peer


def _nginx(name, config, **options):
    # The packaged nginx would use the pid file of the service.
    return _running(name, ["nginx", "-p", ".", "-c", config, "-g", "pid nginx.pid;"], **options)


@contextlib.contextmanager
def _running(name, command, user=None, policy=os.SCHED_OTHER):
    folder = SCRATCH / name
    folder.mkdir(parents=True, exist_ok=True)
    if user:
        _chown(folder)
    # Child processes inherit the class.
    command = ["chrt", _option(policy), "0", *command]
    group = {"user": user, "group": user, "extra_groups": []} if user else {}
    env = {**os.environ, "PATH": f"{PYTHON}:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(folder)}
    with (
        open(folder / f"{command[3]}.log", "ab") as log,
        subprocess.Popen(
            command, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True, **group
        ) as process,
    ):
        try:
            yield process.pid
        finally:
            for sign in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, sign)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                    break
