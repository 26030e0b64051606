"""Measure nginx, supervisord and the app's processes as SCHED_OTHER, the kernel's default, and as SCHED_BATCH.

One deployment serves both: the class of its processes is changed between two measurements, and put back at the end. The
control node does what a container may not: it switches autogroup scheduling for the moment of a measurement, and it runs
the load client in a container of its own, whose network leads to the host as that of another machine does.
"""

import contextlib
import importlib
import json
import os
import subprocess
import sys

import proxies
import tools
from tools import AUTOGROUP

CLASSES = {"other": os.SCHED_OTHER, "batch": os.SCHED_BATCH}
SIZES = (32, 1024, 16384, 65536)
# Seconds after which everything ends that a measurement starts beside itself, whatever becomes of the measurement.
PATIENCE = "300"


# On the control node


def measure(inventory, quick):
    """Return the rows of all conditions, and {condition: why it was left out}."""
    (container,) = importlib.import_module("hosts").containers(inventory).values()  # it needs more than the host has
    rows, left_out = [], {}
    switched = f"autogroup {'on' if _read(AUTOGROUP) == '0' else 'off'}"
    for condition, way in {**WAYS, switched: _switched_autogroup}.items():
        try:
            with way(container) as load:
                rows += _inside(container, condition, quick, load)
        except OSError as error:
            tools.say(f"  {condition} is left out: {error}")
            left_out[condition] = str(error)
    return {"rows": rows, "left_out": left_out}


def _read(path):
    return path.read_text().strip() if path.exists() else ""


def _engine(*arguments):
    done = subprocess.run([os.environ["TEST_HOSTS_ENGINE"], *arguments], stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode:
        raise OSError(done.stderr.decode().strip())
    return done.stdout.decode().strip()


def _inside(container, condition, quick, load):
    """Measure on the host; ``load`` runs the load client for it, unless it is None."""
    tools.say(f"  {condition}")
    command = ["python3", "/opt/benchmarks/scheduling.py", json.dumps([condition, quick])]
    with subprocess.Popen(
        [os.environ["TEST_HOSTS_ENGINE"], "exec", "-i", container, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stdout:
            said = json.loads(line)
            if "rows" in said:
                return said["rows"]
            process.stdin.write(load(*said["load"]) + "\n")
            process.stdin.flush()
    return sys.exit(f"The measurement with {condition} failed.")


@contextlib.contextmanager
def _as_it_is(_container):
    yield None


@contextlib.contextmanager
def _switched_autogroup(container):
    """Switch autogroup: a process keeps the group in which it starts, so the app starts anew, and so does nginx."""
    before = AUTOGROUP.read_text()
    AUTOGROUP.write_text("1" if before.strip() == "0" else "0")
    try:
        _engine("exec", container, "supervisorctl", "restart", "all")
        yield None
    finally:
        AUTOGROUP.write_text(before)
        _engine("exec", container, "supervisorctl", "restart", "all")


@contextlib.contextmanager
def _remote(container):
    """Run the load client in a second container, on the same network."""
    name, image = f"{container}-client", _engine("inspect", "--format", "{{.Image}}", container)
    address = _engine("exec", container, "hostname", "-I").split()[0]
    binary = _engine("exec", container, "base64", "-w0", "/usr/local/bin/load")
    _engine("run", "--detach", "--rm", "--name", name, "--entrypoint", "sleep", image, PATIENCE)
    try:
        put = f"echo {binary} | base64 -d > /usr/local/bin/load && chmod +x /usr/local/bin/load"
        _engine("exec", name, "sh", "-c", put)
        yield lambda *command: _engine("exec", name, "load", *(one.replace("0.0.0.0", address) for one in command))
    finally:
        _engine("kill", name)


WAYS = {
    "nothing else": _as_it_is,
    "a busy program": _as_it_is,
    "a second app": _as_it_is,
    "a remote client": _remote,
}


# On the host


def main(condition, quick):
    proxies.SCRATCH.mkdir(exist_ok=True)
    all_sizes = condition == "nothing else"
    rounds, seconds = (1, 0.1) if quick else (4 if all_sizes else 3, 0.6)
    works, rows = _works(seconds, SIZES if all_sizes else SIZES[1:2]), []
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(_peer(condition))]
        if condition == "a busy program":
            stack.enter_context(_busy())
        if condition == "a second app":
            peers.append(stack.enter_context(_second_app()))
        # It comes back in the class in which it was deployed.
        stack.callback(_use, peers, proxies.own_policy())
        for number, name in tools.in_turn(list(CLASSES), rounds):
            _use(peers, CLASSES[name])
            for what, (command, *arguments) in works.items():
                figures = _cost(peers[0], _asked if condition == "a remote client" else tools.load, command, *arguments)
                rows.append({"peer": name, "condition": condition, "what": what, "round": number, **figures})
    print(json.dumps({"rows": rows}))


def _peer(condition):
    if condition == "a remote client":
        # The deployed nginx listens at 127.0.0.1.
        return proxies.variant("remote", address="0.0.0.0")
    return proxies.variant("new") if condition.startswith("autogroup") else proxies.project()


def _works(seconds, sizes):
    """Return {what: the load client's arguments}."""
    return {
        **{size: ("echo", "--size", size, "--clients", 500, "--seconds", seconds) for size in sizes},
        "handshakes": ("handshakes", "--count", round(2000 * seconds)),
        "one client": ("echo", "--size", 32, "--clients", 1, "--seconds", seconds),
        "100 a second": ("handshakes", "--rate", 100, "--seconds", max(1, round(2 * seconds))),
    }


def _cost(peer, load, command, *arguments):
    """Return rate, latency and the processor time of each operation, with its share of connections and closes."""
    pids = {"proxy": peer.proxy_pids, "app": tools.tree(peer.supervisord)}
    before = {name: tools.cpu_ns(them) for name, them in pids.items()}
    found = load(command, *peer.target, *arguments)
    count = found["messages"] or found["opened"] or 1
    cpu = {f"{name}_us": round((tools.cpu_ns(them) - before[name]) / count / 1000, 2) for name, them in pids.items()}
    return {
        "per_second": found["messages_per_second" if command == "echo" else "handshakes_per_second"],
        **{key: found[key] for key in ("p50_us", "p99_us", "failed")},
        **cpu,
    }


def _asked(*arguments):
    """Have the control node run the load client."""
    print(json.dumps({"load": [str(one) for one in arguments]}), flush=True)
    return json.loads(sys.stdin.readline())


def _use(peers, policy):
    """Change the class of these peers' proxies and apps; what they start inherits it."""
    for peer in peers:
        peer.policy = policy
        peer.take_turn()


@contextlib.contextmanager
def _busy():
    """Another program, which keeps each core busy."""
    loop = ["timeout", PATIENCE, "sh", "-c", "while :; do :; done"]
    loops = [subprocess.Popen(loop, start_new_session=True) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for one in loops:
            one.terminate()
            one.wait(10)


@contextlib.contextmanager
def _second_app():
    """Another proxy with its app, and 50 clients that send it messages without a pause."""
    with proxies.documentation() as peer:
        command = ["load", "echo", *peer.target, "--size", "1024", "--clients", "50", "--seconds", PATIENCE]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as clients:
            try:
                yield peer
            finally:
                clients.terminate()


if __name__ == "__main__":
    main(*json.loads(sys.argv[1]))
