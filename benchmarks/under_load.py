"""The cost of a deploy for new clients: handshakes on a schedule before, during and after it."""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

import hosts

RATE, HELD = 100, 400
TARGET = ["--connect", "127.0.0.1:8000"]
LOG = "/run/benchmark/handshakes"


def measure(inventory, quick):
    """Return the figures of all rounds.

    The control node is the same machine. It runs with the lowest priority, and a run with nothing to do shows its share
    of the cost.
    """
    (container,) = hosts.containers(inventory).values()
    rounds, quiet = (1, 2) if quick else (2, 15)
    return {"rate": RATE, "held": HELD, "rounds": [_round(inventory, container, quiet) for _ in range(rounds)]}


def _round(inventory, container, quiet):
    with tempfile.TemporaryDirectory() as folder:
        code = pathlib.Path(folder) / "echo"
        shutil.copytree(hosts.ROOT / "files/echo", code)
        # It would last longer than any round; the round ends it by its process id.
        load = ["load", "handshakes", *TARGET, "--rate", str(RATE), "--seconds", "300", "--log", LOG]
        holding = _inside(container, ["load", "idle", *TARGET, "--count", str(HELD), "--return"])
        holding.stdout.readline()
        coming = _inside(container, ["sh", "-c", f"echo $$; exec {' '.join(load)}"])
        pid = coming.stdout.readline().strip()
        phases = []

        def phase(name, action):
            started = time.time()
            action()
            phases.append((name, started, time.time()))

        def deploy():
            arguments = ["-e", json.dumps({"websockets_src": str(code)})]
            hosts.playbook(inventory, hosts.ROOT / "playbooks/site.yml", arguments=arguments, nice=19)

        phase("before", lambda: time.sleep(quiet))
        phase("nothing to do", deploy)
        phase("between", lambda: time.sleep(quiet))
        with open(code / "app.py", "a") as app:
            app.write(f"# {time.time()}\n")
        phase("deploy", deploy)
        phase("after", lambda: time.sleep(quiet))
        _run(container, ["kill", pid])
        coming.wait()
        log = _run(container, ["cat", LOG])
        ended = json.loads(holding.communicate("")[0].splitlines()[-1])
    return {"held": ended, **_evaluate(log, phases)}


def _evaluate(log, phases):
    handshakes = [line.split() for line in log.splitlines()]
    # The last line may be cut off.
    handshakes = [
        (float(when), int(us), result) for when, us, result in (line for line in handshakes if len(line) == 3)
    ]
    start = phases[0][1]
    found = {"phases": [], "seconds": []}
    for name, begin, end in phases:
        found["phases"].append(
            {"name": name, "from": begin - start, "to": end - start, **_figures(handshakes, begin, end)}
        )
    for second in range(int(phases[-1][2] - start)):
        found["seconds"].append({"at": second, **_figures(handshakes, start + second, start + second + 1)})
    return found


def _figures(handshakes, begin, end):
    times = sorted(us for when, us, result in handshakes if begin <= when < end and result == "101")
    failed = sum(result != "101" for when, _, result in handshakes if begin <= when < end)
    if not times:
        return {"handshakes": 0, "failed": failed}
    at = statistics.median_low(times), times[int(0.99 * (len(times) - 1))], times[-1]
    return {"handshakes": len(times), "failed": failed, **dict(zip(("p50_us", "p99_us", "max_us"), at, strict=True))}


def _inside(container, command):
    return subprocess.Popen(
        [os.environ["TEST_HOSTS_ENGINE"], "exec", "-i", container, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _run(container, command):
    return _inside(container, command).communicate()[0]
