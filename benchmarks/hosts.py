"""Test hosts, made as those of the tests are: ``with hosts.made(folder)``, where the folder has an ``inventory/``."""

import contextlib
import hashlib
import os
import pathlib
import resource
import shutil
import subprocess

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[1]


@contextlib.contextmanager
def made(folder, prepare=None):
    """Make the hosts of an inventory, and always remove them at the end."""
    # molecule/hosts/ expects these. The folder is part of the hosts' label and of their names.
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    ephemeral = cache / "websockets-test-hosts" / hashlib.sha256(bytes(folder)).hexdigest()[:12]
    env = {
        "MOLECULE_SCENARIO_DIRECTORY": str(folder),
        "MOLECULE_EPHEMERAL_DIRECTORY": str(ephemeral),
        "BENCHMARK_NOFILE": limit(resource.RLIMIT_NOFILE, 65536),
        "BENCHMARK_NPROC": limit(resource.RLIMIT_NPROC, 8192),
    }
    inventory = folder / "inventory"
    own = ROOT / "molecule/hosts"
    try:
        # A killed run may have left hosts.
        playbook(inventory, own / "destroy.yml", env=env)
        ephemeral.mkdir(parents=True, exist_ok=True)
        playbook(inventory, own / "create.yml", env=env)
        playbook(inventory, own / "prepare.yml", *([prepare] if prepare else []))
        yield inventory
    finally:
        playbook(inventory, own / "destroy.yml", env=env)
        shutil.rmtree(ephemeral, ignore_errors=True)


def limit(which, enough):
    """Return a limit of ``enough``, or less if this machine does not allow it."""
    hard = resource.getrlimit(which)[1]
    number = enough if hard == resource.RLIM_INFINITY else min(hard, enough)
    return f"{number}:{number}"


def containers(inventory):
    """Return {host: its container}."""
    created = yaml.safe_load((inventory / "created.yml").read_text())
    return {name: host["test_host_container"] for name, host in created["all"]["hosts"].items()}


def playbook(inventory, *playbooks, arguments=(), env=None, nice=0):
    """Run playbooks and return their output; if they fail, exit with it."""
    done = subprocess.run(
        ["nice", "-n", str(nice), "ansible-playbook", "-i", inventory, *arguments, *playbooks],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{done.stdout}\nansible-playbook failed: {' '.join(map(str, playbooks))}")
    return done.stdout
