"""Measure what several values of websockets_message_size cost and gain: nginx's time, its system calls, and memory."""

import functools

import idle
import proxies
from throughput import SIZES, calls_per_echo, echo
from tools import in_turn, say

# Messages that take more than one piece with some of them.
LARGE = SIZES[2:]


def measure(quick):
    rounds, seconds, count = (1, 0.1, 200) if quick else (3, 0.4, 1000)
    values = list(proxies.BUFFERS)[: 2 if quick else None]
    starts = [nginx(value, 8120 + number) for number, value in enumerate(values)]
    rows, calls = [], []
    with proxies.running((proxies.direct, *starts)) as peers:
        for size in SIZES[::3] if quick else SIZES:
            say(f"  {size} bytes")
            for number, peer in in_turn(peers, rounds):
                rows.append({**echo(peer, size, 500, seconds), "round": number})
        for size in LARGE:
            calls += [{"peer": peer.name, "size": size, "calls": calls_per_echo(peer, size)} for peer in peers[1:]]
    return {"rows": rows, "system_calls": calls, "memory": [idle.per_connection(start, count) for start in starts]}


def nginx(value, port):
    """Return the deployed nginx as it is with this websockets_message_size."""
    return functools.partial(proxies.variant, str(value), proxies.BUFFERS[value], port)
