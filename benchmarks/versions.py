"""What this version costs beside an earlier commit.

    .venv/bin/python molecule/hosts/engine.py .venv/bin/python benchmarks/versions.py COMMIT [ROUNDS]

Deploys: it makes a host. The earlier version deploys to it first. Then both deploy the same app, in turn: a run with
nothing to do, one of new code, and a rollback. It prints the medians: seconds, CPU seconds on the control node, and the
recap's tasks. bin/benchmark does not run this half.

Serving: it makes two hosts, of which each version deploys to one, with its own echo app. It measures them in turn:
the processor time of nginx, app and supervisord for a handshake and an echo, and the memory of a connection. This is
the part ``versions`` of bin/benchmark, with COMMIT as below.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import hosts
import report
import yaml
from deploy import HERE, PROJECT, Deploy, hosts_of, median, play

STEPS = ("noop", "code", "rollback")
# Version 1.1.0, with what came after it and changed nothing in serving.
COMMIT = "027847c"
# The load comes from a single address.
LIMITS = {
    "websockets_app": "echo",
    "websockets_listen": "127.0.0.1:8000",
    "websockets_max_connections": 8000,
    "websockets_connections_per_address": 8000,
    "websockets_handshakes_per_address": 100000,
}


def has(commit):
    """Return whether this clone has a commit; a shallow one may lack it."""
    command = ["git", "cat-file", "-e", f"{commit}^{{commit}}"]
    return subprocess.run(command, cwd=PROJECT, stderr=subprocess.DEVNULL, check=False).returncode == 0


@contextlib.contextmanager
def checkout(commit):
    """Yield a folder with the files of a commit."""
    if not has(commit):
        sys.exit(f"This clone has no commit {commit}. If it is a shallow one, run: git fetch --unshallow")
    packed = subprocess.run(["git", "archive", commit], cwd=PROJECT, stdout=subprocess.PIPE, check=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["tar", "-x"], cwd=folder, input=packed, check=True)
        yield pathlib.Path(folder)


# Deploys


def deploys(repeats, commit):
    """Yield the figures of each run of each version."""
    with hosts.made(HERE) as inventory, checkout(commit) as earlier, tempfile.TemporaryDirectory() as scratch:
        (host, *_), folder = hosts_of(inventory), pathlib.Path(scratch, "app")
        shutil.copytree(PROJECT / "files/echo", folder, ignore=shutil.ignore_patterns("__pycache__"))
        versions = [Deploy("this", inventory, host, folder), Deploy(commit, inventory, host, folder, earlier)]
        versions[1].first()
        for step in STEPS:
            for number in range(repeats):
                for version in versions if number % 2 else reversed(versions):
                    yield {"step": step, "way": version.way, **getattr(version, step)()}


# Serving


def pair():
    """Write an inventory of two hosts, each like the one of benchmarks/inventory; return its folder."""
    text = (HERE / "inventory/hosts.yml").read_text().replace("{{ inventory_dir }}/..", str(HERE))
    (like,) = yaml.safe_load(text)["websockets"]["hosts"].values()
    host = {**like, "ansible_python_interpreter": "/usr/bin/python3"}
    (HERE / "pair/inventory").mkdir(parents=True, exist_ok=True)
    # JSON is YAML, too.
    inventory = {"websockets": {"hosts": {"earlier": host, "this": host}}}
    (HERE / "pair/inventory/hosts.yml").write_text(json.dumps(inventory))
    return HERE / "pair"


def measure(quick, rounds=5, commit=COMMIT):
    """Return the figures of serving; none if this clone lacks the commit."""
    if not has(commit):
        print(f"  This clone has no commit {commit}: nothing to compare with.", file=sys.stderr, flush=True)
        return {}
    rows, memory = [], []
    with checkout(commit) as earlier, hosts.made(pair(), prepare=HERE / "prepare.yml") as inventory:
        containers, projects = hosts.containers(inventory), {"earlier": earlier, "this": PROJECT}
        with concurrent.futures.ThreadPoolExecutor() as threads:
            list(threads.map(lambda host: deploy(projects[host], inventory, host), projects))
        for number in range(1 if quick else rounds):
            for host in sorted(containers, reverse=number % 2):
                for row in inside(containers[host], "round", quick):
                    rows.append({**row, "peer": host, "round": number})
        for host in containers:
            memory.append({**inside(containers[host], "memory", quick), "peer": host})
    return {"commit": commit, "rows": rows, "memory": memory}


def deploy(project, inventory, host):
    app = {"websockets_src": str(project / "files/echo")}
    play(project / "playbooks/site.yml", inventory, host, project, **LIMITS, **app)


def inside(container, what, quick):
    command = [os.environ["TEST_HOSTS_ENGINE"], "exec", container, "python3", "/opt/benchmarks/serving.py", what]
    done = subprocess.run([*command, *(["--quick"] if quick else [])], stdout=subprocess.PIPE, timeout=600, check=True)
    return json.loads(done.stdout)


def main(commit, repeats="5"):
    found = report.versions_summary(measure(False, int(repeats), commit))
    print(report.versions({"versions": found})["versions"], flush=True)
    taken = list(deploys(int(repeats), commit))
    for step in STEPS:
        this, earlier = (
            {key: median(taken, key, step=step, way=way) for key in ("seconds", "cpu", "ok", "changed")}
            for way in ("this", commit)
        )
        print(f"{step}: this {this}, {commit} {earlier}, ratio {this['seconds'] / earlier['seconds']:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
