"""Measure the echo app without a proxy, by event loop and compression."""

import contextlib
import os
import pathlib
import subprocess
import time

import proxies
from tools import hold, in_turn, load, memory, per_process, say, until

APP = pathlib.Path("/srv/websockets/echo/live")
VARIANTS = [(loop, compression) for compression in ("off", "on") for loop in ("asyncio", "uvloop")]


@contextlib.contextmanager
def app(loop, compression):
    name = f"{loop}, compression {compression}"
    # This is the code of the live release.
    code = pathlib.Path("/srv/websockets/echo/releases") / APP.readlink().name / "app/app.py"
    sockets = [f"/run/benchmark/{loop}-{compression}-{number}.sock" for number in range(len(proxies.live_sockets()))]
    command = [f"{proxies.PYTHON}/python", str(proxies.FILES / "echo.py"), loop, compression, str(code)]
    env = {**os.environ, "LOG_LEVEL": "warning", "WEBSOCKETS_BACKLOG": "4096"}
    processes = [subprocess.Popen([*command, socket], env=env) for socket in sockets]
    try:
        connect = ",".join(f"unix:{socket}" for socket in sockets)
        peer = proxies.Peer(name, connect, sockets, deflate=compression == "on")
        until(peer.answers, name, 10)
        yield peer, [process.pid for process in processes]
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)


def measure(quick):
    rounds, seconds, count = (1, 0.2, 200) if quick else (3, 1, 3000)
    rows, bytes_each = [], []
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(app(*variant))[0] for variant in VARIANTS]
        for number, peer in in_turn(peers, rounds):
            result = load("handshakes", *peer.target, "--count", count)
            rows.append({"peer": peer.name, "round": number, "what": "handshakes", **result})
        for size in (32, 1024, 65536):
            say(f"  {size} bytes")
            for number, peer in in_turn(peers, rounds):
                result = load("echo", *peer.target, "--size", size, "--clients", 500, "--seconds", seconds)
                rows.append({"peer": peer.name, "round": number, "what": "messages", "size": size, **result})
    for variant in VARIANTS:
        with app(*variant) as (peer, pids):
            empty = memory(pids)
            with hold("idle", *peer.target, "--count", count) as held:
                time.sleep(0.5)
                idle = (memory(pids) - empty) / max(held.report["opened"], 1)
            until(lambda peer=peer: not sum(per_process(peer.sockets)), "all have left")
        bytes_each.append({"peer": peer.name, "app_idle": idle})
    return {"rows": rows, "memory": bytes_each}
