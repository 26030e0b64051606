"""Wheels that the control node gets for the hosts of one kind, so that these need no package index."""

from __future__ import annotations

import glob
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import source
from .inputs import InputError, no_password, problem
from .release import OWN_WHEEL, Findings, digest

# pip chooses wheels for another Python, but answers a requirement's marker with the Python that runs it.
_PIP = """
import json, runpy, sys
from pip._vendor.packaging import markers
there = json.loads(sys.argv.pop(1))
markers.default_environment = lambda: dict(there)
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
_LACKING = re.compile(r"No matching distribution found for ([^\s(]+)")


@dataclass(frozen=True)
class Needed:
    """What the wheels are for.

    :param folder: the app's code, where pip runs
    :param found: its files
    :param text: the text that decides what is installed
    :param requirements: file with the requirements of its lock, empty for requirements.txt
    :param installs_itself: whether pip installs code of the app too
    """

    folder: str
    found: Findings
    text: str
    requirements: str
    installs_itself: bool


def archive_once(
    needed: Needed, markers: Mapping[str, str], cache: str, index_url: str, pip_args: Sequence[str]
) -> str:
    """Return an archive inside ``cache`` with the wheels for a host; hosts of one kind share it.

    :param markers: the host's interpreter, from :func:`system.markers`
    :raises InputError: if a package has no wheel for it
    """
    if markers["implementation_name"] != "cpython" or not markers["glibc"]:
        what = f"{markers['platform_python_implementation']} {markers['python_version']}"
        _refuse(f"wheels can be chosen for CPython with glibc only, and the host has {what}")
    if importlib.util.find_spec("pip") is None:
        how = f"install it there ({sys.executable} -m ensurepip, or Debian's python3-pip)"
        _refuse(f"the Python that runs Ansible on the control node, {sys.executable}, has no pip; {how}")
    if needed.installs_itself and not needed.requirements:
        _refuse("requirements.txt has a path of the app's own code; make the app a project with a lock")
    key = digest([needed.text, markers, index_url, *pip_args])

    def make(path: str) -> None:
        with tempfile.TemporaryDirectory(dir=cache) as house:
            _download(needed, markers, house, index_url, pip_args)
            if needed.installs_itself:
                _build(needed, house, cache, index_url, pip_args)
            with tarfile.open(path, "w") as tar:
                tar.add(house, ".")

    return source.once(os.path.join(cache, f"websockets-wheels-{key}.tar"), make)


def chosen(markers: Mapping[str, str]) -> list[str]:
    """Return the arguments by which pip chooses wheels for this interpreter."""
    machine, (major, minor) = markers["platform_machine"], map(int, markers["glibc"].split(".")[:2])
    # The earlier names stand for glibc 2.17, 2.12 and 2.5.
    platforms = [f"manylinux_{major}_{older}_{machine}" for older in range(minor, 4, -1)]
    platforms += [f"{name}_{machine}" for name in ("manylinux2014", "manylinux2010", "manylinux1", "linux")]
    version = ["--implementation", "cp", "--python-version", markers["python_full_version"].rstrip("+")]
    return [*version, *(word for platform in platforms for word in ("--platform", platform))]


def _download(needed: Needed, markers: Mapping[str, str], house: str, index_url: str, pip_args: Sequence[str]) -> None:
    requirements, exact = "requirements.txt", []
    if needed.requirements:
        # The host gets this copy: what is built here has a hash of its own.
        requirements = shutil.copy(needed.requirements, os.path.join(house, requirements))
        exact = ["--require-hashes", "--no-deps"]
    elif requirements not in needed.found:
        return
    environment = json.dumps({name: value for name, value in markers.items() if name != "glibc"})
    command = [sys.executable, "-c", _PIP, environment, "download", "--only-binary=:all:", "--dest", house]
    command += [*chosen(markers), *exact, *pip_args, "--find-links", house, "-r", requirements]
    there = f"Python {markers['python_version']} on {markers['platform_machine']} with glibc {markers['glibc']}"
    tried: set[str] = set()
    while (done := _run(command, needed.folder, index_url)).returncode != 0:
        lacking = set(_LACKING.findall(done.stdout)) - tried
        if not lacking:
            _refuse(f"pip on the control node has failed for {there}", done.stdout)
        for package in sorted(lacking):
            made = _make(package, requirements if exact else "", house, index_url, pip_args)
            if not made.endswith("-none-any.whl"):
                why = f"pip on the control node finds no wheel of {package} for {there}, and makes none that fits"
                _refuse(f"{why} every machine; use a version that has one", done.stdout)
        tried |= lacking


def _make(package: str, locked: str, house: str, index_url: str, pip_args: Sequence[str]) -> str:
    """Make a wheel of a package that has none; return its name, empty if that fails.

    :param package: a requirement such as ``docopt==0.6.2``
    :param locked: file with requirements and hashes, which gets the hash of the wheel; empty if there are no hashes
    """
    with tempfile.TemporaryDirectory(dir=house) as folder:
        what = ["--no-deps", package]
        if locked:
            with open(locked, encoding="utf-8") as file:
                text = file.read()
            found = re.search(rf"(?m)^{re.escape(package)}(?= ).*(\n +--hash.*)*", text)
            if not found:
                return ""
            entry = found[0]
            one = os.path.join(folder, "one.txt")
            with open(one, "w", encoding="utf-8") as file:
                file.write(entry)
            what = ["--no-deps", "--require-hashes", "-r", one]
        done = _run([sys.executable, "-m", "pip", "wheel", *pip_args, "--wheel-dir", folder, *what], folder, index_url)
        (made,) = [*glob.glob(os.path.join(folder, "*.whl")), ""][:1]
        if done.returncode != 0 or not made:
            return ""
        name = os.path.basename(made)
        if locked:
            with open(made, "rb") as wheel, open(locked, "w", encoding="utf-8") as file:
                hashed = hashlib.sha256(wheel.read()).hexdigest()
                file.write(text.replace(entry, f"{entry} \\\n    --hash=sha256:{hashed}"))
        os.rename(made, os.path.join(house, name))
        return name


def _build(needed: Needed, house: str, cache: str, index_url: str, pip_args: Sequence[str]) -> None:
    """Make a wheel of the app itself, in a copy of its code."""
    with tempfile.TemporaryDirectory(dir=cache) as copy:
        with tarfile.open(source.archive_once(needed.folder, needed.found, cache)) as code:
            code.extractall(copy)
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--ignore-requires-python", *pip_args]
        done = _run([*command, "--wheel-dir", os.path.join(house, OWN_WHEEL), "."], copy, index_url)
    if done.returncode != 0:
        _refuse("pip on the control node cannot make a wheel of the app itself", done.stdout)
    for path in glob.glob(os.path.join(house, OWN_WHEEL, "*")):
        if not path.endswith("-none-any.whl"):
            _refuse(
                f"the wheel of the app itself, {os.path.basename(path)}, is only for machines like the control node"
            )


def _run(command: Sequence[str], folder: str, index_url: str) -> subprocess.CompletedProcess[str]:
    index = {"PIP_INDEX_URL": index_url} if index_url else {}
    quiet = {"PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **quiet, **index},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        check=False,
    )


def _refuse(why: str, said: str = "") -> None:
    """Refuse to build wheels.

    :raises InputError: always
    """
    words = "\n".join(no_password(said).strip().splitlines()[-10:])
    remedy = f"{why}, or use host." + (f" pip says:\n{words}" if words else "")
    raise InputError(problem("websockets_wheels", "build", remedy))
