"""Measure TLS: handshakes, messages and memory of the deployed site, HAProxy and Caddy, with the same certificate.

run.py has deployed the project's site with ``websockets_tls: self-signed`` before.
"""

import idle
import proxies
from handshakes import handshakes
from throughput import echo
from tools import in_turn, say

# What the load client offers. In "resumed" the first handshake of each of the 50 clients is a full one.
KINDS = {
    "full": ["--tls", "full"],
    "full, X25519": ["--tls", "full", "--groups", "X25519"],
    "resumed": ["--tls", "resumed"],
}
PEERS = (proxies.project, proxies.haproxy, proxies.caddy)


def measure(quick):
    rounds, count, seconds, held = (1, 200, 0.1, 200) if quick else (5, 2000, 0.8, 3000)
    rows, messages = [], []
    with proxies.running(PEERS) as peers:
        for kind, arguments in KINDS.items():
            say(f"  handshakes: {kind}")
            for number, peer in in_turn(peers, rounds):
                rows.append({"kind": kind, "round": number, **handshakes(peer, count, *arguments)})
        say("  messages")
        for number, peer in in_turn(peers, rounds):
            messages.append({"round": number, **echo(peer, 1024, 50, seconds)})
    memory = [idle.per_connection(peer, held) for peer in (idle.project, *PEERS[1:])]
    return {"rows": rows, "messages": messages, "memory": memory}
