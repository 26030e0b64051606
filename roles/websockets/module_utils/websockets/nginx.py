"""nginx's configuration: tested as a whole beside the working one, then put in its place."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile

FOLDER = "/etc/nginx"
MAIN = f"{FOLDER}/nginx.conf"


class NginxError(Exception):
    """nginx refused a configuration; the message has nginx's own words."""


def tune(text, connections, descriptors):
    """Return nginx.conf with at least this many ``worker_connections`` and ``worker_rlimit_nofile``.

    What is larger already stays, and so does everything else.
    """

    def at_least(number):
        def replace(match):
            return match[0] if int(match["value"]) >= number else f"{match['before']}{number};"

        return replace

    text = re.sub(
        r"(?m)^(?P<before>\s*worker_connections\s+)(?P<value>\d+)\s*;", at_least(connections), text, count=1
    )
    limit = r"(?m)^(?P<before>\s*worker_rlimit_nofile\s+)(?P<value>\d+)\s*;"
    if re.search(limit, text):
        return re.sub(limit, at_least(descriptors), text, count=1)
    return re.sub(r"(?m)^events\b", f"worker_rlimit_nofile {descriptors};\n\nevents", text, count=1)


def read(path):
    """Return a file's text, or None where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None


def test(files, folder=FOLDER):
    """Ask nginx whether its whole configuration would be valid with these files: {path: text, None for no file}.

    A copy of the configuration folder is tested, in which every mention of the folder is the copy's: the files that
    nginx works with are not touched.
    """
    with tempfile.TemporaryDirectory(prefix="websockets-nginx-", dir="/run") as scratch:
        copy = os.path.join(scratch, "nginx")
        shutil.copytree(folder, copy, ignore_dangling_symlinks=True)
        for path, text in files.items():
            place = copy + path.removeprefix(folder)
            if text is None:
                os.unlink(place)
            else:
                os.makedirs(os.path.dirname(place), exist_ok=True)
                with open(place, "w", encoding="utf-8") as file:
                    file.write(text)
        for parent, _folders, names in os.walk(copy):
            for name in names:
                _point_at(os.path.join(parent, name), folder, copy)
        result = subprocess.run(
            ["nginx", "-t", "-c", os.path.join(copy, "nginx.conf")], capture_output=True, text=True, check=False
        )
    words = result.stderr.replace(copy, folder).strip()
    if result.returncode != 0:
        raise NginxError(words)
    return words


def _point_at(path, folder, copy):
    with open(path, "rb") as file:
        content = file.read()
    pointed = content.replace(folder.encode() + b"/", copy.encode() + b"/")
    if pointed != content:
        with open(path, "wb") as file:
            file.write(pointed)


def write(path, text):
    """Put a file in place by one rename, or remove it where the text is None."""
    if text is None:
        os.unlink(path)
        return
    # nginx includes *.conf: it never sees the file before it is whole.
    handle, beside = tempfile.mkstemp(prefix=".websockets-", dir=os.path.dirname(path))
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(beside, 0o644)
    os.rename(beside, path)


def reload():
    """Have nginx read its configuration again; connections stay."""
    result = subprocess.run(["nginx", "-s", "reload"], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise NginxError(result.stderr.strip())


def last_errors(path="/var/log/nginx/error.log", lines=5):
    """Return the last lines of nginx's error log."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            file.seek(max(0, os.path.getsize(path) - 4096))
            return "".join(file.readlines()[-lines:]).strip()
    except OSError:
        return ""
