"""Measure one part on the test host: ``inside.py PART|machine [--quick]`` prints its figures as JSON."""

import importlib
import json
import os
import pathlib
import re
import subprocess
import sys

import proxies
from tools import AUTOGROUP


def machine():
    versions = {
        "nginx": ["nginx", "-v"],
        "haproxy": ["haproxy", "-v"],
        "caddy": ["caddy", "version"],
        "python": ["python3", "--version"],
        "supervisor": ["supervisord", "--version"],
    }
    packages = (proxies.FILES / "requirements.txt").read_text().split()
    return {
        "cpu": re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())[1],
        "cores": len(os.sched_getaffinity(0)),
        "kernel": os.uname().release.split("-")[0],
        "autogroup": AUTOGROUP.exists() and AUTOGROUP.read_text().strip() == "1",
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "descriptors": proxies.DESCRIPTORS,
        "debian": pathlib.Path("/etc/debian_version").read_text().strip(),
        **{name: _version(command) for name, command in versions.items()},
        **dict(package.split("==") for package in packages),
    }


def _version(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return re.search(r"\d+(\.\d+)+", done.stdout)[0]


if __name__ == "__main__":
    proxies.SCRATCH.mkdir(exist_ok=True)
    quick = "--quick" in sys.argv
    print(json.dumps(machine() if sys.argv[1] == "machine" else importlib.import_module(sys.argv[1]).measure(quick)))
