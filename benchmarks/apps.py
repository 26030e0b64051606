"""Measure the echo app without a proxy, by event loop and compression, under supervisord as it is deployed."""

import contextlib
import time

import proxies
import supervised
from handshakes import handshakes
from throughput import echo
from tools import hold, in_turn, memory, per_process, say, until

VARIANTS = [(loop, compression) for compression in ("off", "on") for loop in ("asyncio", "uvloop")]


def app(loop, compression):
    name = f"{loop}-{compression}"
    command = [f"{proxies.PYTHON}/python", str(proxies.FILES / "echo.py"), loop, compression, "app.py"]
    return supervised.running(name, command, len(proxies.live_sockets()), deflate=compression == "on")


def title(loop, compression):
    return f"{loop}, compression {compression}"


def measure(quick):
    rounds, seconds, count = (1, 0.2, 200) if quick else (3, 1, 3000)
    rows, bytes_each = [], []
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(app(*variant)) for variant in VARIANTS]
        titles = {peer.name: title(*variant) for peer, variant in zip(peers, VARIANTS, strict=True)}
        for number, peer in in_turn(peers, rounds):
            rows.append({**handshakes(peer, count), "peer": titles[peer.name], "round": number, "what": "handshakes"})
        for size in (32, 1024, 65536):
            say(f"  {size} bytes")
            for number, peer in in_turn(peers, rounds):
                result = echo(peer, size, 500, seconds)
                rows.append({**result, "peer": titles[peer.name], "round": number, "what": "messages"})
    for variant in VARIANTS:
        with app(*variant) as peer:
            empty = memory(peer.app_pids)
            with hold("idle", *peer.target, "--count", count) as held:
                time.sleep(0.5)
                idle = (memory(peer.app_pids) - empty) / max(held.report["opened"], 1)
            until(lambda peer=peer: not sum(per_process(peer.sockets)), "all have left")
        bytes_each.append({"peer": title(*variant), "app_idle": idle})
    return {"rows": rows, "memory": bytes_each}
