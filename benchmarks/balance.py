"""Measure how evenly the app's processes share the connections after most clients have left, each at its own time."""

import time

import proxies
from tools import hold, in_turn, per_process, say, until

PEERS = (proxies.project, proxies.documentation, proxies.haproxy, proxies.caddy)


def measure(quick):
    count, rows = 500 if quick else 10000, []
    for number, start in in_turn(PEERS[:2] if quick else PEERS, 1 if quick else 3):
        with start() as peer:
            say(f"  {count} connections, a fifth of them stays: {peer.name}")
            with hold("balance", *peer.target, "--count", count, "--stay", 20) as held:
                time.sleep(0.5)  # the last clients may still be leaving
                connections = per_process(peer.sockets)
            until(lambda: not sum(per_process(peer.sockets)), "all have left")
        rows.append({"peer": peer.name, "round": number, **held.report, "per_process": connections})
    return {"rows": rows}
