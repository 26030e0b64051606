"""Run a command with a container engine at hand: `engine.py COMMAND [ARGUMENT ...]`.

The command finds the engine's name, podman or docker, in $TEST_HOSTS_ENGINE. On an ordinary machine
that is all. The workarounds below come into force only where a check shows that they are needed.
Standard library only: it also runs before the control environment exists.
"""

import ctypes
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

APT_PACKAGES = [
    "podman",
    "runc",
    "netavark",
    "aardvark-dns",
    "iptables",
    "mmdebstrap",
    "openssh-client",
    "ca-certificates",
]

# A mount namespace is found again by the name of its cgroup mount.
MARK = "websockets-test-hosts"
CGROUP = "/sys/fs/cgroup"
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000


def succeeds(*command):
    return shutil.which(command[0]) and not subprocess.run(command, capture_output=True).returncode


def find_engine():
    """The first engine that answers, else None."""
    return next((name for name in ("podman", "docker") if succeeds(name, "info")), None)


def install():
    print("Installing", *APT_PACKAGES, "with apt ...", file=sys.stderr, flush=True)
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *APT_PACKAGES]):
        apt = subprocess.run(
            ["apt-get", "-qq", *arguments], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        if apt.returncode:
            sys.exit(apt.returncode)


def libc(function, *arguments):
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, function)(*arguments):
        errno = ctypes.get_errno()
        raise OSError(errno, f"{function}: {os.strerror(errno)}")


def namespace_process():
    """A process that lives in the test hosts' mount namespace (theirs, if they run), else None."""
    for mounts in Path("/proc").glob("[0-9]*/mounts"):
        try:
            if f"{MARK} {CGROUP} cgroup2 " in mounts.read_text():
                return mounts.parent
        except OSError:  # it has ended meanwhile
            continue
    return None


def enter_cgroup2():
    """Enter a mount namespace of our own, where the cgroup mount is version 2; the machine's own stays as it is.

    All runs share one namespace, because podman keeps its network mounts in it. It lasts as long as a process in it.
    """
    here = os.getcwd()
    lock = os.open(CGROUP, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)
    if process := namespace_process():
        with open(process / "ns/mnt") as namespace:
            libc("setns", namespace.fileno(), CLONE_NEWNS)
        os.chdir(here)
    else:
        libc("unshare", CLONE_NEWNS)
        libc("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        libc("mount", MARK.encode(), CGROUP.encode(), b"cgroup2", 0, None)
    os.close(lock)


def prepare():
    """Make an engine usable by this process and its children, and return its name."""
    root = os.geteuid() == 0
    if root and shutil.which("apt-get"):
        with open(Path(__file__).resolve().with_name("Containerfile")) as lock:
            # Of two scenarios at once, the second one finds it installed.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not find_engine():
                install()
    if root and not succeeds("prlimit", "--nofile=1048576:1048576", "true"):
        os.environ["CONTAINERS_CONF"] = str(Path(__file__).resolve().with_name("containers.conf"))
    if root and shutil.which("podman") and f" {CGROUP} cgroup2 " not in Path("/proc/mounts").read_text():
        enter_cgroup2()
    return find_engine() or sys.exit(
        "Neither podman nor docker answers. Look at the output of: podman info; docker info"
    )


if __name__ == "__main__":
    os.environ["TEST_HOSTS_ENGINE"] = prepare()
    if sys.argv[1:]:
        os.execvp(sys.argv[1], sys.argv[1:])
