"""Measure an idle connection: the memory of proxy and app, before and after a message of 64 KiB, and the cost of a ping."""

import functools
import time

import proxies
from tools import cpu_ns, hold, load, memory, per_process, say, until

MESSAGE = 65536
# Seconds between the app's pings while memory is measured: what a message has left goes with the next pong.
PING_INTERVAL = 2


def measure(quick):
    few, many, most = (200, 400, 600) if quick else (5000, 15000, proxies.DESCRIPTORS - 100)
    small = functools.partial(proxies.variant, "project_16384", proxies.BUFFERS[16384], 8111)
    others = (proxies.documentation, proxies.documentation_nginx, proxies.haproxy, proxies.caddy, proxies.floor)
    rows = [per_connection(peer, few) for peer in (project, *(() if quick else (small, *others)))]
    rows.append(per_connection(project, many))
    return {"rows": rows, "most": per_connection(project, most)}


def project():
    return proxies.variant("project")


def per_connection(start, count):
    """Return the bytes for a connection, in new processes: old ones keep the memory that they have once had."""
    with proxies.pinging(PING_INTERVAL), start() as peer:
        load(
            "handshakes", *peer.target, "--count", 200
        )  # the first connections also need memory that is not per connection
        until(lambda: not sum(per_process(peer.sockets)), "all have left")
        empty = both(peer)
        with hold("idle", *peer.target, "--count", count, "--size", MESSAGE) as held:
            opened = max(held.report["opened"], 1)
            idle = settled(peer, peer.ping_interval + 1)
            held.talk()
            before = spent(peer, held)
            time.sleep(peer.ping_interval)  # each client has one ping in it
            used = {who: ns - before[who] for who, ns in spent(peer, held).items()}
            after = settled(peer, 1)
        say(f"  {peer.name}: {opened} of {count} held")
        until(lambda: not sum(per_process(peer.sockets)), "all have left")
    row = {"peer": peer.name, "count": count, "opened": held.report["opened"], "failures": held.report["failures"]}
    for what in empty:
        row[f"{what}_idle"] = (idle[what] - empty[what]) / opened
        row[f"{what}_after"] = (after[what] - empty[what]) / opened
    return {**row, **{f"{who}_us": round(ns / opened / 1000, 2) for who, ns in used.items()}}


def spent(peer, held):
    """Return the nanoseconds of processor time of client, proxy, app and supervisord."""
    return {who: cpu_ns(pids) for who, pids in {"client": [held.process.pid], **peer.processes}.items()}


def settled(peer, seconds):
    """Return the memory when for so long nothing more has been given back."""
    lowest, since = both(peer), time.monotonic()
    while time.monotonic() - since < seconds:
        time.sleep(0.25)
        now = both(peer)
        if sum(now.values()) < 0.995 * sum(lowest.values()):
            lowest, since = now, time.monotonic()
    return now


def both(peer):
    return {"proxy": memory(peer.proxy_pids), "app": memory(peer.app_pids)}
