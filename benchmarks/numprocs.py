"""Measure the app by its number of processes, behind nginx and under supervisord as they are deployed."""

import contextlib
import dataclasses

import proxies
import supervised
from handshakes import handshakes
from throughput import echo
from tools import in_turn, memory, say

NUMBERS = (1, 2, 4, 8)
SIZES = (32, 1024)
CLIENTS = 500


@contextlib.contextmanager
def processes(number):
    command = [f"{supervised.release()['venv']}/bin/python", "app.py"]
    with (
        supervised.running(f"numprocs-{number}", command, number) as direct,
        proxies.variant(f"numprocs_{number}", port=8110 + number, sockets=direct.sockets) as nginx,
    ):
        yield dataclasses.replace(nginx, name=str(number), sockets=direct.sockets, app=direct.app)


def measure(quick):
    rounds, count, seconds = (1, 200, 0.1) if quick else (5, 2000, 0.8)
    rows, sizes = [], []
    for number in NUMBERS:
        with processes(number) as peer:
            sizes.append({"peer": peer.name, "app": memory(peer.app_pids)})
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(processes(number)) for number in NUMBERS]
        say("  handshakes")
        for number, peer in in_turn(peers, rounds):
            result = handshakes(peer, count)
            rows.append({**result, "round": number, "what": "handshakes", "rate": result["handshakes_per_second"]})
        for size in SIZES:
            say(f"  {size} bytes")
            for number, peer in in_turn(peers, rounds):
                result = echo(peer, size, CLIENTS, seconds)
                rows.append({**result, "round": number, "what": "messages", "rate": result["messages_per_second"]})
    return {"rows": rows, "memory": sizes}
