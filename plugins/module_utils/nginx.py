"""nginx's configuration: nginx tests a copy as a whole, then the files are put in place."""

from __future__ import annotations

import contextlib
import glob
import grp
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping

from . import paths
from .unix import Account

Texts = dict[str, str | None]
"""{path: text, None if the file does not exist}"""

# A comment in the host's own configuration may be in any encoding; its bytes stay as they are.
_AS_BYTES = "surrogateescape"


class NginxError(Exception):
    """nginx refused a configuration; the message is nginx's."""


def tune(text: str, connections: int, descriptors: int, shutdown: int | None = None) -> str:
    """Return nginx.conf with at least this many ``worker_connections`` and ``worker_rlimit_nofile``.

    Larger numbers stay, and so does everything else.

    :param descriptors: number of file descriptors of one worker
    :param shutdown: seconds of ``worker_shutdown_timeout``, 0 for nginx's own; None leaves it as it is
    """
    if shutdown is not None:
        text = _shut_down_in(text, shutdown)
    # Without the directive, nginx's own number is 512.
    text = _raise(text, "worker_connections", connections) or re.sub(
        r"(?m)^([ \t]*events\s*\{)", rf"\1\n    worker_connections {max(connections, 512)};", text, count=1
    )
    return _raise(text, "worker_rlimit_nofile", descriptors) or re.sub(
        r"(?m)^(?=[ \t]*events\b)", f"worker_rlimit_nofile {descriptors};\n\n", text, count=1
    )


def _shut_down_in(text: str, seconds: int) -> str:
    there = r"(?m)^[ \t]*worker_shutdown_timeout\b[^;]*;"
    if not seconds:
        return re.sub(there + r"\n*", "", text)
    directive = f"worker_shutdown_timeout {seconds}s;"
    if re.search(there, text):
        return re.sub(there, directive, text)
    return re.sub(r"(?m)^(?=[ \t]*events\b)", f"{directive}\n\n", text, count=1)


def _raise(text: str, directive: str, number: int) -> str | None:
    """Return the text with a directive raised to this number, None if it does not have the directive."""
    match = re.search(rf"(?m)^[^#\n]*?\b{directive}\s+(\d+)\s*;", text)
    if not match or int(match[1]) >= number:
        return text if match else None
    return text[: match.start(1)] + str(number) + text[match.end(1) :]


def read(path: str) -> str | None:
    """Return a file's text, or None if it does not exist."""
    try:
        with open(path, encoding="utf-8", errors=_AS_BYTES) as file:
            return file.read()
    except FileNotFoundError:
        return None


def account() -> Account | None:
    """Return the user as which nginx connects to the processes, None if the host has no nginx, or one without that user."""
    main = read(paths.NGINX_MAIN)
    if main is None:
        return None
    # Without the directive, nginx's own user is nobody. Without a group, it is the group of the user's name.
    said = re.search(r"(?m)^\s*user\s+([^;\s]+)(?:\s+([^;\s]+))?\s*;", main)
    user = said[1] if said else "nobody"
    try:
        entry = pwd.getpwnam(user)
        gid = grp.getgrnam(said[2] or user).gr_gid if said else entry.pw_gid
    except KeyError:
        return None
    return Account(user, entry.pw_uid, gid, os.getgrouplist(user, gid))


def test(files: Mapping[str, str | None], to_come: Mapping[str, str] | None = None) -> str:
    """Have nginx test its whole configuration with these files.

    nginx tests a copy of its configuration folder, in which every mention of the folder means the copy. The files that
    nginx works with are not touched.

    :param files: {path: text, None to leave the file out}
    :param to_come: {path: text of a stand-in} of files elsewhere that will exist later, such as a certificate
    :return: nginx's output, which may have warnings
    :raises NginxError: if nginx refuses it
    """
    with tempfile.TemporaryDirectory(prefix="websockets-nginx-", dir=paths.SCRATCH) as scratch:
        copy = os.path.join(scratch, "nginx")
        shutil.copytree(paths.NGINX, copy, ignore_dangling_symlinks=True)
        places = {f"{paths.NGINX}/": f"{copy}/"}
        for number, (path, stand_in) in enumerate((to_come or {}).items()):
            places[path] = os.path.join(scratch, f"stand-in-{number}")
            with open(places[path], "w", encoding="utf-8") as file:
                file.write(stand_in)
        for path, text in files.items():
            place = copy + path.removeprefix(paths.NGINX)
            if text is None:
                os.unlink(place)
            else:
                os.makedirs(os.path.dirname(place), exist_ok=True)
                with open(place, "w", encoding="utf-8", errors=_AS_BYTES) as file:
                    file.write(text)
        for parent, _folders, names in os.walk(copy):
            for name in names:
                _point_at(os.path.join(parent, name), places)
        command = ["nginx", "-t", "-c", os.path.join(copy, "nginx.conf")]
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    words = result.stderr.replace(copy, paths.NGINX).strip()
    if result.returncode != 0:
        raise NginxError(words)
    return words


def upstreams_to_come(files: Mapping[str, str | None]) -> dict[str, str]:
    """Return {path: text} of stand-ins for the sites of apps to which these files pass requests on, and which are not there.

    Only a check needs them: a run deploys those apps before.
    """
    apps = {app for text in files.values() for app in re.findall(r"proxy_pass http://websockets_([\w-]+);", text or "")}
    stand_ins = {paths.site_file(app): f"upstream websockets_{app} {{ server unix:/nowhere; }}\n" for app in apps}
    return {path: text for path, text in stand_ins.items() if path not in files and not os.path.exists(path)}


def _point_at(path: str, places: Mapping[str, str]) -> None:
    with open(path, "rb") as file:
        content = pointed = file.read()
    for there, here in places.items():
        # Only this path, not a longer one that ends like it.
        pointed = re.sub(rb"(?<![\w.}-])" + re.escape(there.encode()), here.encode(), pointed)
    if pointed != content:
        with open(path, "wb") as file:
            file.write(pointed)


def write(files: Mapping[str, str | None], modes: Mapping[str, int] | None = None) -> None:
    """Put files in place, each by one rename. If the disk is full, no file changes.

    :param files: {path: text, None to remove the file}
    :param modes: {path: mode}; without one, everybody may read a file that is no key
    """
    beside, modes = {}, modes or {}
    try:
        for path, text in files.items():
            if text is not None:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                # What includes *.conf never reads this name.
                handle, beside[path] = tempfile.mkstemp(prefix=".websockets-", dir=os.path.dirname(path))
                with os.fdopen(handle, "w", encoding="utf-8", errors=_AS_BYTES) as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                os.chmod(beside[path], modes.get(path, 0o600 if path.endswith(paths.KEY) else 0o644))
    except OSError:
        for path in beside.values():
            os.unlink(path)
        raise
    for path, text in files.items():
        if text is None:
            os.unlink(path)
        else:
            os.rename(beside[path], os.path.realpath(path))


def reload(timeout: float = 15.0) -> None:
    """Have nginx read its configuration again; connections stay. Return when no old worker takes new connections.

    :param timeout: seconds to wait for that
    :raises NginxError: if nginx refuses, or old workers still take connections after that time
    """
    old = _workers()
    result = subprocess.run(["nginx", "-s", "reload"], capture_output=True, text=True, errors="replace", check=False)
    if result.returncode != 0:
        raise NginxError(result.stderr.strip())
    deadline = time.monotonic() + timeout
    while old & _workers():
        if time.monotonic() > deadline:
            raise NginxError(f"nginx still works with its old configuration. Its error log ends:\n{last_errors()}")
        time.sleep(0.01)


def _workers(title: str = "nginx: worker process") -> set[str]:
    """Return the pids of nginx's workers that take connections, none if nginx does not run.

    :param title: what such a worker calls itself
    """
    pid_file = re.search(r"(?m)^\s*pid\s+([^;\s]+)", read(paths.NGINX_MAIN) or "")
    master = (read(pid_file[1] if pid_file else "/run/nginx.pid") or "").strip()
    found = set()
    for pid in (read(f"/proc/{master}/task/{master}/children") or "").split():
        with contextlib.suppress(ProcessLookupError):  # the process has ended meanwhile
            if (read(f"/proc/{pid}/cmdline") or "").rstrip("\0 ") == title:
                found.add(pid)
    return found


def old_workers() -> list[dict[str, int]]:
    """Return the workers from before a reload that stay until their last client has left, the oldest first.

    Each has ``pid``, ``uptime`` in seconds, ``connections`` of clients, and ``memory``: the bytes that end with it.
    """
    found = []
    for pid in _workers("nginx: worker process is shutting down"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            ticks = int((read(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()[19])  # starttime, proc(5)
            up = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
            private = re.findall(r"(?m)^Private_\w+: +(\d+) kB", read(f"/proc/{pid}/smaps_rollup") or "")
            memory = 1024 * sum(map(int, private))
            found.append({"pid": int(pid), "uptime": int(up), "connections": _clients(pid), "memory": memory})
    return sorted(found, key=lambda worker: (-worker["uptime"], worker["pid"]))


def _clients(pid: str) -> int:
    """Return how many connections a worker has at ports at which nginx listens."""
    mine = {os.readlink(link).removeprefix("socket:[").rstrip("]") for link in glob.glob(f"/proc/{pid}/fd/*")}
    rows = [line.split() for table in ("tcp", "tcp6") for line in (read(f"/proc/net/{table}") or "").splitlines()[1:]]
    established, listening = "01", "0A"
    ports = {row[1].rpartition(":")[2] for row in rows if row[3] == listening}
    return sum(row[3] == established and row[9] in mine and row[1].rpartition(":")[2] in ports for row in rows)


def last_errors(path: str = paths.NGINX_LOG, lines: int = 5) -> str:
    """Return the last lines of nginx's error log, empty if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            file.seek(max(0, os.path.getsize(path) - 4096))
            return "".join(file.readlines()[-lines:]).strip()
    except OSError:
        return ""


def is_pending() -> bool:
    """Tell whether an earlier run has put files in place and was stopped before nginx's reload."""
    return os.path.exists(paths.PENDING)


def apply(files: Mapping[str, str | None], stale: bool = False) -> bool:
    """Put files in place and reload nginx; return whether it was reloaded.

    nginx is also reloaded if an earlier run has put files in place and was stopped before its reload.

    :param files: {path: text, None to remove the file}
    :param stale: whether nginx has to be reloaded for another reason, such as a new certificate
    :raises NginxError: if the reload fails
    """
    if not files and not stale and not is_pending():
        return False
    with open(paths.PENDING, "w", encoding="utf-8"):
        write(files)
        reload()
    os.unlink(paths.PENDING)
    return True
