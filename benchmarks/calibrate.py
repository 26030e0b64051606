"""Measure the load client's own ceiling, against a server that only moves bytes."""

import subprocess

from tools import load, until


def measure(quick):
    rows = []
    for where, target in (
        ("/run/benchmark/ceiling.sock", "unix:/run/benchmark/ceiling.sock"),
        ("9100", "127.0.0.1:9100"),
    ):
        server = subprocess.Popen(["load", "serve", where])
        try:
            until(lambda to=target: not load("handshakes", "--connect", to, "--count", 1)["failed"], "the server", 5)
            for size in (32, 1024, 16384, 65536):
                for clients in (50, 500):
                    options = ["--clients", clients, "--size", size, "--seconds", 0.2 if quick else 2]
                    result = load("echo", "--connect", target, *options)
                    rows.append({"target": target.split(":")[0], "size": size, "clients": clients, **result})
            result = load("handshakes", "--connect", target, "--count", 1000 if quick else 20000)
            rows.append({"target": target.split(":")[0], **result})
        finally:
            server.terminate()
            server.wait()
    return {"rows": rows}
