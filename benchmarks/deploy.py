"""How long a deploy takes: first, with nothing to do, of new code, and back; this project's, and the usual play's.

``usual/site.yml`` does the same job as people usually write it, without any of this project's safety. Both run on the
same hosts with the same Ansible, settings and app, as two apps of other names and ports, taking turns: A B A B.

- ``first``: before each one, ``usual/purge.yml`` makes the hosts as good as new, so that each installs the packages.
- ``noop``: the same again.
- ``code``: a line of ``app.py`` is another one.
- ``rollback``: the line is the earlier one again. This project has a playbook for it, the usual way is to deploy it.

No client is connected, and the drain does not pause (``websockets_drain_timeout`` and ``_interval`` are 0): its task
is in the times, waiting for clients is not. With an inventory of several hosts all of it is done with the first host
alone as well. ``cpu`` is user and system time on the control node, in seconds.
"""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent
BIN = pathlib.Path(sys.executable).parent
STEPS = ("first", "noop", "code", "rollback")
WAYS = ("project", "usual")


class Deploy:
    """One way to deploy an app from a folder to hosts of an inventory."""

    def __init__(self, way, inventory, limit, folder, project=PROJECT):
        self.way, self.inventory, self.limit, self.folder, self.project = way, inventory, limit, folder, project
        self.codes = itertools.count(1)

    def first(self):
        play(HERE / "usual/purge.yml", self.inventory, self.limit)
        return self.noop()

    def noop(self):
        if self.way == "usual":
            given = {"src": str(self.folder), "app_port": 8092}
            return play(HERE / "usual/site.yml", self.inventory, self.limit, **given)
        return play(self.project / "playbooks/site.yml", self.inventory, self.limit, self.project, **self.inputs)

    def code(self):
        self.write(next(self.codes))
        return self.noop()

    def rollback(self):
        if self.way == "usual":
            self.write(next(self.codes))  # as much work as the code before, and never the same twice
            return self.noop()
        return play(self.project / "playbooks/rollback.yml", self.inventory, self.limit, self.project, **self.inputs)

    @property
    def inputs(self):
        return {
            "websockets_app": "ours",
            "websockets_src": str(self.folder),
            "websockets_listen": "127.0.0.1:8091",
            "websockets_server_name": ["localhost"],
            "websockets_keep_releases": 100,
            "websockets_drain_timeout": 0,
            "websockets_drain_interval": 0,
        }

    def write(self, code):
        app = (PROJECT / "files/echo/app.py").read_text()
        (self.folder / "app.py").write_text(f"{app}\n# {self.way} {code}\n")


def play(playbook, inventory, limit, project=PROJECT, **variables):
    """Run a playbook of a checkout; return its seconds, its CPU time here, and ok and changed of its recap for one host."""
    command = [BIN / "ansible-playbook", f"--inventory={inventory}", f"--limit={limit}"]
    command += ["--extra-vars", json.dumps(variables), playbook]
    settings = {"ANSIBLE_CONFIG": str(project / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{playbook} has failed:\n{done.stdout}{done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    recap = re.search(r"ok=(\d+) +changed=(\d+)", done.stdout)
    return {"seconds": round(seconds, 2), "cpu": round(cpu, 2), "ok": int(recap[1]), "changed": int(recap[2])}


def hosts_of(inventory):
    listed = subprocess.run(
        [BIN / "ansible", "--inventory", inventory, "websockets", "--list-hosts"],
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.split()[2:]  # after "hosts (10):"


def rounds(inventory, limit, repeats, scratch):
    """Do every step ``repeats`` times, with several hosts once, one way after the other."""
    ways = []
    for way in WAYS:
        folder = scratch / way
        shutil.copytree(PROJECT / "files/echo", folder, ignore=shutil.ignore_patterns("__pycache__"))
        ways.append(Deploy(way, inventory, limit, folder))
    for step in STEPS:
        # Many hosts take minutes, above all apt: once is enough to tell.
        for number in range(1 if "," in limit else repeats):
            for deploy in ways:
                yield {"step": step, "round": number, "way": deploy.way, **getattr(deploy, step)()}
        if step == "first":
            ways[0].noop()  # the other one's purge has taken it along
    play(HERE / "usual/purge.yml", inventory, limit)


def median(results, key, **which):
    values = [one[key] for one in results if which.items() <= one.items()]
    return round(statistics.median(values), 2)


def measure(inventory: pathlib.Path, repeats: int) -> dict:
    """Measure all steps on the hosts of the group ``websockets``, which are given back as good as new."""
    hosts, results = hosts_of(inventory), []
    for count in sorted({1, len(hosts)}):
        with tempfile.TemporaryDirectory() as scratch:
            limit = ",".join(hosts[:count])
            results += [{"hosts": count, **one} for one in rounds(inventory, limit, repeats, pathlib.Path(scratch))]
    counts = sorted({one["hosts"] for one in results})
    medians = {
        str(count): {
            step: {
                way: {
                    key: median(results, key, hosts=count, step=step, way=way)
                    for key in ("seconds", "cpu", "ok", "changed")
                }
                for way in WAYS
            }
            for step in STEPS
        }
        for count in counts
    }

    def seconds(count, step, way):
        return medians[str(count)][step][way]["seconds"]

    return {
        "rounds": results,
        "medians": medians,
        "project_to_usual": {
            str(count): {
                step: round(seconds(count, step, "project") / seconds(count, step, "usual"), 2) for step in STEPS
            }
            for count in counts
        },
        "all_hosts_to_one": {
            step: {way: round(seconds(counts[-1], step, way) / seconds(1, step, way), 2) for way in WAYS}
            for step in STEPS
        },
    }


if __name__ == "__main__":
    print(json.dumps(measure(pathlib.Path(sys.argv[1]), int(sys.argv[2])), indent=1))
