"""Measure: bin/benchmark runs this. It makes a test host, deploys this project to it, and measures on it.

Most parts run on the host, in its network namespace (inside.py); the last ones run on the control node.
"""

import contextlib
import datetime
import importlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import figures
import hosts
import report
import scheduling
import under_load
import versions
from tools import AUTOGROUP

HERE = pathlib.Path(__file__).resolve().parent
INSIDE = ("calibrate", "throughput", "message_size", "handshakes", "balance", "idle", "apps", "numprocs")
PARTS = (*INSIDE, "tls", "scheduling", "under_load", "deploy", "versions")


def inside(inventory, part, quick):
    (container,) = hosts.containers(inventory).values()
    command = [os.environ["TEST_HOSTS_ENGINE"], "exec", container, "python3", "/opt/benchmarks/inside.py", part]
    done = subprocess.run([*command, *(["--quick"] if quick else [])], stdout=subprocess.PIPE, timeout=1500)
    if done.returncode:
        sys.exit(f"The part {part} failed.")
    return json.loads(done.stdout)


def tls(inventory, quick):
    """Measure TLS, with which the site is deployed only for that time."""
    site = hosts.ROOT / "playbooks/site.yml"
    hosts.playbook(inventory, site, arguments=["--extra-vars", "websockets_tls=self-signed"])
    found = inside(inventory, "tls", quick)
    hosts.playbook(inventory, site)
    return found


def deploy(quick):
    """Measure deploys, on more hosts that it makes and removes."""
    with hosts.made(fleet(2 if quick else 10)) as inventory:
        return importlib.import_module("deploy").measure(inventory, 1 if quick else 2)


def fleet(count):
    """Write an inventory of so many hosts; return its folder."""
    one = {"test_host_release": "trixie", "test_host_init": "systemd", "ansible_python_interpreter": "/usr/bin/python3"}
    inventory = {"websockets": {"hosts": {f"web{number}": one for number in range(1, count + 1)}}}
    (HERE / "fleet/inventory").mkdir(parents=True, exist_ok=True)
    # JSON is YAML, too.
    (HERE / "fleet/inventory/hosts.yml").write_text(json.dumps(inventory))
    return HERE / "fleet"


@contextlib.contextmanager
def without_autogroup(setting):
    """Have the kernel divide its time among processes, not among sessions, until the end of the block.

    A process keeps the group in which it begins, so this comes before the hosts.
    """
    try:
        before = setting.read_text()
        setting.write_text("0\n")
    except OSError:
        # This machine does not allow it: the results say so.
        yield
        return
    try:
        yield
    finally:
        setting.write_text(before)


def measure(parts, quick, path):
    """Measure part by part. The other parts keep their figures and their dates."""
    began = time.monotonic()
    older = json.loads(path.read_text()) if path.exists() else {"parts": {}}
    results = {"quick": quick, **{key: older[key] for key in ("minutes",) if key in older}}
    # A part that there is no more has no figures either.
    results["parts"] = {part: found for part, found in older["parts"].items() if part in PARTS}
    with hosts.made(HERE, prepare=HERE / "prepare.yml") as inventory:
        hosts.playbook(inventory, hosts.ROOT / "playbooks/site.yml")
        results["machine"] = inside(inventory, "machine", quick)
        for part in parts:
            print(f"== {part}", file=sys.stderr, flush=True)
            started = time.monotonic()
            if part in INSIDE:
                found = inside(inventory, part, quick)
            else:
                found = {
                    "tls": lambda: tls(inventory, quick),
                    "scheduling": lambda: scheduling.measure(inventory, quick),
                    "under_load": lambda: under_load.measure(inventory, quick),
                    "deploy": lambda: deploy(quick),
                    "versions": lambda: versions.measure(quick),
                }[part]()
            if found:
                date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
                took = round(time.monotonic() - started)
                results["parts"][part] = {"date": date, "took_seconds": took, **found}
                results["summary"] = report.summary(results["parts"])
                path.write_text(report.dump(results) + "\n")
            print(f"== {part}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    if set(parts) == set(PARTS):
        results["minutes"] = round((time.monotonic() - began) / 60, 1)
        path.write_text(report.dump(results) + "\n")
    return results


def main(arguments):
    quick = "--quick" in arguments
    parts = [argument for argument in arguments if argument != "--quick"] or PARTS
    if not set(parts) <= set(PARTS):
        sys.exit(f"Usage: bin/benchmark [--quick] [{' | '.join(PARTS)} ...]")
    path = HERE / ("quick.json" if quick else "results.json")
    if quick:
        path.unlink(missing_ok=True)
    with contextlib.nullcontext() if quick else without_autogroup(AUTOGROUP):
        results = measure(parts, quick, path)
    if not quick:
        figures.write()
    print("\n\n".join(report.tables(results).values()))


if __name__ == "__main__":
    for end in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(end, signal.default_int_handler)
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. The test hosts are removed.")
