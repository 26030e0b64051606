"""Measure how long deploys take: the first, one with nothing to do, one of new code, and a rollback.

It compares this project with ``usual/site.yml``, a play for the same job without this project's safety. Both run on the
same hosts with the same Ansible, settings and app, as two apps of other names and ports, and take turns: A B A B.

- ``first``: ``usual/purge.yml`` has removed everything before, so each deploy installs the packages.
- ``noop``: nothing has changed since the last deploy.
- ``code``: a line of ``app.py`` has changed.
- ``rollback``: the line is the earlier one again. This project has a playbook for it; the usual play deploys it.

No client is connected, and the drain does not wait (``websockets_drain_timeout`` and ``_interval`` are 0): the times
contain its task, but no waiting for clients. If the inventory has several hosts, everything is also measured with the
first host alone. ``cpu`` is user and system time on the control node, in seconds.
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
    """A way to deploy an app from a folder to hosts of an inventory: this project, or the usual play."""

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
            self.write(next(self.codes))  # the same work as for new code, and never the same code twice
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
    """Run a playbook of a checkout; return its seconds, its CPU seconds here, and one host's ok and changed."""
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
    return listed.stdout.split()[2:]  # the first two words are "hosts (10):"


def rounds(inventory, limit, repeats, scratch):
    """Yield the figures of each step: the ways take turns, ``repeats`` times, or once if there are several hosts."""
    ways = []
    for way in WAYS:
        folder = scratch / way
        shutil.copytree(PROJECT / "files/echo", folder, ignore=shutil.ignore_patterns("__pycache__"))
        ways.append(Deploy(way, inventory, limit, folder))
    for step in STEPS:
        # Many hosts take minutes, mostly in apt, so they do it once.
        for number in range(1 if "," in limit else repeats):
            for deploy in ways:
                yield {"step": step, "round": number, "way": deploy.way, **getattr(deploy, step)()}
        if step == "first":
            ways[0].noop()  # the purge of the other way has removed this project's app
    play(HERE / "usual/purge.yml", inventory, limit)


def median(results, key, **which):
    values = [one[key] for one in results if which.items() <= one.items()]
    return round(statistics.median(values), 2)


def measure(inventory: pathlib.Path, repeats: int) -> dict:
    """Measure all steps on the hosts of the group ``websockets``, and purge these at the end."""
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
