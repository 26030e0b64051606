"""What serving costs on this test host, as it is deployed: ``serving.py round|memory [--quick]`` prints it as JSON.

versions.py runs it on two hosts in turn.
"""

import json
import sys

import idle
import proxies
from handshakes import handshakes
from throughput import echo

SIZES = (32, 65536)


def one_round(quick):
    count, seconds = (200, 0.1) if quick else (2000, 0.8)
    with proxies.project() as peer:
        rows = [{"what": "handshake", **handshakes(peer, count)}]
        rows += [{"what": f"echo of {size} B", **echo(peer, size, 100, seconds)} for size in SIZES]
    return rows


def memory(quick):
    return idle.per_connection(idle.project, 200 if quick else 3000)


if __name__ == "__main__":
    proxies.SCRATCH.mkdir(exist_ok=True)
    print(json.dumps({"round": one_round, "memory": memory}[sys.argv[1]]("--quick" in sys.argv)))
