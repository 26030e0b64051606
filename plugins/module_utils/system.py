"""The host's system: distribution, packages, interpreter, users, and the limits of its kernel."""

from __future__ import annotations

import grp
import json
import os
import pwd
import resource
import shutil
import socket
import subprocess
from collections.abc import Collection, Iterable

from .host import Limits

# Where the host's administrator and Debian put programs.
PROGRAMS = "/usr/local/bin:/usr/bin"

# The second one is for a system that has lost the first, which is a link to it (os-release(5)).
OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")


def init() -> str:
    """Return the host's init, ``systemd`` or ``sysv``."""
    return "systemd" if os.path.isdir("/run/systemd/system") else "sysv"  # sd_booted(3)


def os_release() -> str:
    """Return the text of os-release(5), empty if the system has none."""
    for path in OS_RELEASE:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            continue
    return ""


def distribution(text: str, platforms: Collection[str]) -> tuple[str, str]:
    """Return the name of a distribution, such as ``Ubuntu 24.04``, and which of the platforms it is or is like.

    Either is empty if the text does not say it.

    :param text: the text of its os-release(5)
    :param platforms: names such as ``debian-13`` or ``debian``
    """
    pairs = [line.strip().partition("=") for line in text.splitlines()]
    found = {name: value.strip("\"'") for name, _, value in pairs}
    own, version = found.get("ID", ""), found.get("VERSION_ID", "")
    # Only a release that is out has a version.
    pretty = f"{found['NAME']} {version}" if version and "NAME" in found else found.get("PRETTY_NAME", own)
    like = [f"{own}-{version}", own, *found.get("ID_LIKE", "").split()]
    return pretty, next((name for name in like if name in platforms), "")


def ipv6() -> bool:
    """Tell whether the host has IPv6: its kernel and its loopback interface."""
    try:
        with socket.socket(socket.AF_INET6) as attempt:
            attempt.bind(("::1", 0))
    except OSError:
        return False
    return True


def interpreter(python: str) -> str:
    """Return the path of an interpreter.

    :param python: its path, or the version of one in :data:`PROGRAMS`
    """
    if python.startswith("/"):
        return python
    return shutil.which(f"python{python}", path=PROGRAMS) or f"/usr/bin/python{python}"


def python_version(python: str) -> str:
    """Return the interpreter's version, such as ``3.13``; empty if there is none, or it is older than 3.9.

    :param python: as for :func:`interpreter`
    """
    code = "import sys; print('%d.%d' % sys.version_info[:2] if sys.version_info >= (3, 9) else '')"
    try:
        return subprocess.run(
            [interpreter(python), "-c", code], capture_output=True, text=True, errors="replace", check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def markers(python: str) -> dict[str, str]:
    """Return what an interpreter answers to the markers of requirements, and the version of its glibc.

    What says more than which kind of host it is - the kernel's version - is empty.

    :param python: as for :func:`interpreter`
    """
    code = """import json, os, platform, sys
version, release = platform.python_version(), sys.implementation.version
print(json.dumps({
    "implementation_name": sys.implementation.name,
    "implementation_version": "%d.%d.%d" % release[:3],
    "os_name": os.name,
    "platform_machine": platform.machine(),
    "platform_python_implementation": platform.python_implementation(),
    "platform_release": "",
    "platform_system": platform.system(),
    "platform_version": "",
    "python_full_version": version,
    "python_version": ".".join(platform.python_version_tuple()[:2]),
    "sys_platform": sys.platform,
    "glibc": platform.libc_ver()[1] if platform.libc_ver()[0] == "glibc" else "",
}))"""
    try:
        said = subprocess.run(
            [interpreter(python), "-c", code], capture_output=True, text=True, errors="replace", check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return {}
    found: dict[str, str] = json.loads(said)
    return found


def missing(packages: Iterable[str]) -> list[str]:
    """Return the packages that are not installed; of alternatives (``a | b``), the first if none of them is.

    A name may have an architecture, as in ``libpq5:amd64``.
    """
    alternatives = [package.split(" | ") for package in dict.fromkeys(packages)]
    query = ["dpkg-query", "--show", "--showformat", "${Package} ${Architecture} ${db:Status-Status}\n"]
    query += [name.partition(":")[0] for names in alternatives for name in names]
    shown = subprocess.run(query, capture_output=True, text=True, errors="replace", check=False).stdout
    found = [line.split() for line in shown.splitlines() if line.endswith(" installed")]
    installed = {name for package, architecture, _ in found for name in (package, f"{package}:{architecture}")}
    # A package of no architecture (all) serves each.
    return [
        names[0]
        for names in alternatives
        if not any(name in installed or f"{name.partition(':')[0]}:all" in installed for name in names)
    ]


def account(user: str) -> tuple[str, str]:
    """Return the user's primary group and home folder, both empty if the host does not have the user."""
    try:
        entry = pwd.getpwnam(user)
        return grp.getgrgid(entry.pw_gid).gr_name, entry.pw_dir
    except KeyError:
        return "", ""


def owner(path: str) -> str:
    """Return the user to whom a file belongs: the name, or the number if no user has it; empty if there is no file."""
    try:
        user = os.stat(path).st_uid
    except OSError:
        return ""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def no_new_privileges(pid: str) -> bool:
    """Tell whether a process can get no new privileges, as in the role's sandboxes; False if there is no such process."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            return "NoNewPrivs:\t1\n" in file
    except OSError:
        return False


def batch() -> bool:
    """Tell whether a process can be ``SCHED_BATCH``: some containers allow no change of a process's scheduling."""
    usual = os.sched_getscheduler(0)
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        os.sched_setscheduler(0, usual, os.sched_param(0))
    except OSError:
        return False
    return True


def is_batch(pid: str) -> bool:
    """Tell whether a process is ``SCHED_BATCH``; False if there is no such process."""
    try:
        return pid not in ("", "0") and os.sched_getscheduler(int(pid)) == os.SCHED_BATCH
    except OSError:
        return False


def nofile(descriptors: int) -> int:
    """Return how many file descriptors a service on this host can have; it does not try more than ``descriptors``."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < descriptors:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
        except (ValueError, OSError):
            return hard
    return max(hard, descriptors)


def kernel(name: str) -> int:
    """Return a number of the kernel's, such as ``fs.nr_open`` (sysctl(8)); 0 if the kernel does not have it."""
    try:
        with open(f"/proc/sys/{name.replace('.', '/')}", encoding="ascii") as file:
            return int(file.read())
    except FileNotFoundError:
        return 0


def limits(descriptors: int) -> Limits:
    """Return the limits of this host for a service that needs so many file descriptors."""
    return Limits(
        nofile=nofile(descriptors),
        nr_open=kernel("fs.nr_open"),
        somaxconn=kernel("net.core.somaxconn"),
        conntrack=kernel("net.netfilter.nf_conntrack_max"),
    )
