"""Measure handshakes a second, and a storm: many clients that connect at once."""

import contextlib
import functools

import proxies
from throughput import PEERS
from tools import hold, in_turn, load, per_process, say, until

STORM = (
    proxies.project,
    functools.partial(proxies.documentation, as_published=True),
    proxies.documentation,
    proxies.documentation_nginx,
    proxies.haproxy,
    proxies.caddy,
)


def measure(quick):
    rounds, count = (1, 200) if quick else (5, 3000)
    rows = []
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(peer()) for peer in PEERS]
        for number, peer in in_turn(peers, rounds):
            rows.append({"peer": peer.name, "round": number, **load("handshakes", *peer.target, "--count", count)})
    storms = []
    for number, peer in in_turn(STORM[:3] if quick else STORM, 1 if quick else 3):
        storms.append({"round": number, **storm(peer, 300 if quick else 5000)})
    return {"rows": rows, "storms": storms}


def storm(start, count):
    with start() as peer:
        say(f"  {count} clients at once: {peer.name}")
        with hold("storm", *peer.target, "--count", count) as held:
            until(lambda: sum(per_process(peer.sockets)) <= held.report["opened"], "no connection without a client")
            result = {"peer": peer.name, "count": count, **held.report, "per_process": per_process(peer.sockets)}
        until(lambda: not sum(per_process(peer.sockets)), "all have left")
    return result
