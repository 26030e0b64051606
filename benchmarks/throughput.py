"""Measure messages a second and their latency in a closed loop, and the proxies' system calls for a message."""

import contextlib
import itertools
import pathlib
import signal
import subprocess

import proxies
from tools import cpu_ns, in_turn, load, say, until

SIZES = (32, 1024, 16384, 65536)
CLIENTS = (50, 500)
PEERS = (
    proxies.direct,
    proxies.project,
    proxies.documentation_nginx,
    proxies.haproxy,
    proxies.caddy,
    proxies.documentation,
)


def measure(quick):
    rounds, seconds = (1, 0.1) if quick else (5, 1)
    sizes, counts = (SIZES[::3], CLIENTS[:1]) if quick else (SIZES, CLIENTS)
    rows, calls = [], []
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(peer()) for peer in PEERS]
        for size, clients in itertools.product(sizes, counts):
            say(f"  {size} bytes, {clients} clients")
            for number, peer in in_turn(peers, rounds):
                rows.append({**echo(peer, size, clients, seconds), "clients": clients, "round": number})
        say("  system calls")
        for size, peer in itertools.product(sizes, peers):
            if peer.pid:
                calls.append({"peer": peer.name, "size": size, "calls": calls_per_echo(peer, size)})
    return {"rows": rows, "system_calls": calls}


def echo(peer, size, clients, seconds):
    pids = peer.proxy_pids
    before = cpu_ns(pids)
    result = load("echo", *peer.target, "--size", size, "--clients", clients, "--seconds", seconds)
    # CPU time and messages are those of the whole run, with warm-up, handshakes and closes.
    cost = (cpu_ns(pids) - before) / max(result["messages"], 1) / 1000
    return {"peer": peer.name, "size": size, **result, "proxy_cpu_us": round(cost, 2)}


def calls_per_echo(peer, size, clients=50):
    """Return the system calls for a message: the difference of two runs, so that handshakes and closes do not count."""
    few, many = (
        _calls(peer, ["echo", *peer.target, "--size", size, "--clients", clients, "--messages", messages])
        for messages in (5, 25)
    )
    return (many - few) / (20 * clients)


def _calls(peer, arguments):
    pids, table = peer.proxy_pids, proxies.SCRATCH / "strace"
    attach = itertools.chain.from_iterable(("-p", str(pid)) for pid in pids)
    strace = subprocess.Popen(["strace", "-f", "-c", "-q", "-o", table, *attach], stderr=subprocess.DEVNULL)
    until(lambda: not any("TracerPid:\t0" in _status(pid) for pid in pids), "strace", 10)
    load(*arguments)
    strace.send_signal(signal.SIGINT)
    strace.wait(10)
    lines = [line.split() for line in table.read_text().splitlines()]
    return sum(int(line[3]) for line in lines if len(line) > 4 and line[3].isdigit() and line[-1] != "total")


def _status(pid):
    return pathlib.Path(f"/proc/{pid}/status").read_text()
