"""Measure an echo in a closed loop: processor time, messages a second and their latency, and the proxies' system calls."""

import itertools
import pathlib
import signal
import subprocess

import proxies
from tools import in_turn, load, say, until

SIZES = (32, 1024, 16384, 65536)
CLIENTS = (50, 500)
PEERS = (
    proxies.direct,
    proxies.project,
    proxies.documentation_nginx,
    proxies.haproxy,
    proxies.caddy,
    proxies.documentation,
    proxies.floor,
)
# How an echo's cost depends on the class of scheduling and on HTTP: with many clients only.
MORE = (proxies.project_batch, proxies.haproxy_batch, proxies.haproxy_tcp)


def measure(quick):
    seconds, sizes = (0.3, SIZES[:2]) if quick else (0.6, SIZES)
    rows, calls = [], []
    with proxies.running((*PEERS, *MORE)) as peers:
        for size, clients in itertools.product(sizes, CLIENTS):
            say(f"  {size} bytes, {clients} clients")
            few = clients == CLIENTS[0]
            rounds = 1 if quick else 3 if few else 5
            for number, peer in in_turn(peers[: len(PEERS)] if few else peers, rounds):
                rows.append({**echo(peer, size, clients, seconds), "clients": clients, "round": number})
        say("  system calls")
        for size, peer in itertools.product(sizes, peers[: len(PEERS)]):
            if peer.pid:
                calls.append({"peer": peer.name, "size": size, "calls": calls_per_echo(peer, size)})
    return {"rows": rows, "system_calls": calls}


def echo(peer, size, clients, seconds):
    peer.take_turn()
    # The client reads what the others have used, so that handshakes, warm-up and closes do not count.
    watch = ":".join(",".join(map(str, pids)) for pids in peer.processes.values())
    options = ["--size", size, "--clients", clients, "--seconds", seconds, "--watch", watch]
    result = load("echo", *peer.target, *options)
    used = dict(zip(peer.processes, result.pop("watched_cpu_seconds"), strict=True))
    echoes = max(result["messages_per_second"] * result["seconds"], 1)
    return {"peer": peer.name, "size": size, **result, **per_operation(result, used, echoes)}


def per_operation(result, used, count):
    """Return the microseconds of processor time of client, proxy, app and supervisord for each of so many operations."""
    seconds = {"client": result["client_cpu_seconds"], **used}
    return {f"{who}_us": round(1e6 * one / count, 2) for who, one in seconds.items()}


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
