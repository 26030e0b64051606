"""Measure handshakes: processor time, how many a second, and a storm of many clients that connect at once."""

import functools
import time

import proxies
from throughput import MORE, PEERS, per_operation
from tools import cpu_ns, hold, in_turn, load, per_process, say, until

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
    with proxies.running((*PEERS, *MORE)) as peers:
        rows = [{"round": number, **handshakes(peer, count)} for number, peer in in_turn(peers, rounds)]
    storms = []
    for number, peer in in_turn(STORM[:3] if quick else STORM, 1 if quick else 3):
        storms.append({"round": number, **storm(peer, 300 if quick else 5000)})
    return {"rows": rows, "storms": storms}


def handshakes(peer, count, *arguments):
    peer.take_turn()
    before = {who: cpu_ns(pids) for who, pids in peer.processes.items()}
    result = load("handshakes", *peer.target, "--count", count, *arguments)
    until(lambda: not sum(per_process(peer.sockets)), "all have left")
    time.sleep(0.3)  # the app writes the last lines a little later, and supervisord has to read them
    used = {who: (cpu_ns(pids) - before[who]) / 1e9 for who, pids in peer.processes.items()}
    return {"peer": peer.name, **result, **per_operation(result, used, count)}


def storm(start, count):
    with start() as peer:
        peer.take_turn()
        say(f"  {count} clients at once: {peer.name}")
        with hold("storm", *peer.target, "--count", count) as held:
            until(lambda: sum(per_process(peer.sockets)) <= held.report["opened"], "no connection without a client")
            result = {"peer": peer.name, "count": count, **held.report, "per_process": per_process(peer.sockets)}
        until(lambda: not sum(per_process(peer.sockets)), "all have left")
    return result
