"""Measure throughput and memory of nginx for several values of proxy_buffer_size."""

import contextlib
import functools
import itertools

import idle
import proxies
from throughput import SIZES, calls_per_echo, echo
from tools import in_turn, say

BUFFERS = ("4k", "16k", "32k", "64k", "128k")


def measure(quick):
    rounds, seconds, count = (1, 0.2, 200) if quick else (3, 1, 3000)
    starts = [
        functools.partial(proxies.variant, buffer, buffer, 8120 + number)
        for number, buffer in enumerate(BUFFERS[:2] if quick else BUFFERS)
    ]
    rows = []
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(proxies.direct()), *(stack.enter_context(start()) for start in starts)]
        for size in SIZES[:1] if quick else SIZES:
            say(f"  {size} bytes")
            for number, peer in in_turn(peers, rounds):
                rows.append({**echo(peer, size, 500, seconds), "round": number})
        calls = [
            {"peer": peer.name, "size": size, "calls": calls_per_echo(peer, size)}
            for size, peer in itertools.product(SIZES[:1] if quick else SIZES, peers[1:])
        ]
    return {"rows": rows, "system_calls": calls, "memory": [idle.per_connection(start, count) for start in starts]}
