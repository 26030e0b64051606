"""How long a deploy takes with this version and with an earlier commit.

    .venv/bin/python molecule/hosts/engine.py .venv/bin/python benchmarks/versions.py COMMIT [ROUNDS]

It makes a host. The earlier version deploys to it first. Then both deploy the same app, in turn: a run with nothing to do,
one of new code, and a rollback. It prints the medians: seconds, CPU seconds on the control node, and the recap's tasks.
bin/benchmark does not run it.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

import hosts
from deploy import HERE, PROJECT, Deploy, hosts_of, median

STEPS = ("noop", "code", "rollback")


def rounds(inventory, repeats, commit):
    """Yield the figures of each run of each version."""
    (host, *_), cwd = hosts_of(inventory), PROJECT
    with tempfile.TemporaryDirectory() as scratch:
        folder, earlier = pathlib.Path(scratch, "app"), pathlib.Path(scratch, "earlier")
        shutil.copytree(PROJECT / "files/echo", folder, ignore=shutil.ignore_patterns("__pycache__"))
        packed = subprocess.run(["git", "archive", commit], cwd=cwd, stdout=subprocess.PIPE, check=True).stdout
        earlier.mkdir()
        subprocess.run(["tar", "-x"], cwd=earlier, input=packed, check=True)
        versions = [Deploy("this", inventory, host, folder), Deploy(commit, inventory, host, folder, earlier)]
        versions[1].first()
        for step in STEPS:
            for number in range(repeats):
                for version in versions if number % 2 else reversed(versions):
                    yield {"step": step, "way": version.way, **getattr(version, step)()}


def main(commit, repeats="5"):
    with hosts.made(HERE) as inventory:
        taken = list(rounds(inventory, int(repeats), commit))
    for step in STEPS:
        this, earlier = (
            {key: median(taken, key, step=step, way=way) for key in ("seconds", "cpu", "ok", "changed")}
            for way in ("this", commit)
        )
        print(f"{step}: this {this}, {commit} {earlier}, ratio {this['seconds'] / earlier['seconds']:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
