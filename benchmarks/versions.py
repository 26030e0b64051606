"""Measure how long a deploy takes with this version and an earlier one: ``versions.py INVENTORY ROUNDS COMMIT``.

Both deploy the same app to the same host, and take turns: a run with nothing to do, one of new code, and a rollback.
bin/benchmark does not run this; engine.py and hosts.py of this folder and molecule/ make a host for it.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

from deploy import PROJECT, Deploy, hosts_of, median


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
        for step in ("noop", "code", "rollback"):
            for number in range(repeats):
                for version in versions if number % 2 else reversed(versions):
                    yield {"step": step, "way": version.way, **getattr(version, step)()}


def main(inventory, repeats, commit):
    taken = list(rounds(inventory, int(repeats), commit))
    for step in ("noop", "code", "rollback"):
        this, earlier = (
            {key: median(taken, key, step=step, way=way) for key in ("seconds", "cpu", "ok", "changed")}
            for way in ("this", commit)
        )
        print(f"{step}: this {this}, {commit} {earlier}, ratio {this['seconds'] / earlier['seconds']:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
