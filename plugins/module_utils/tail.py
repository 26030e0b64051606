"""What is new in the logs of a host's apps. The action ``logs`` sends this text to the host's Python, so it imports nothing else of the collection."""

from __future__ import annotations

import glob
import json
import os
import re
import select
import sys
import time
from typing import Any, BinaryIO

# The most that one look reads of one file, in bytes.
CHUNK = 1 << 18


class Tail:
    """One look at the logs.

    :param given: ``programs``, ``srv`` and ``log``, the folders of Supervisor's programs, of the apps and of their logs;
        ``app``, empty for all; ``lines``, the number of lines that a first look returns of each log; ``follow``, whether
        there is another look; ``seen``, of the look before, None for the first
    """

    def __init__(self, given: dict[str, Any]) -> None:
        self.given, self.first = given, given["seen"] is None
        self.before: dict[str, list[Any]] = given["seen"] or {}

    def look(self) -> dict[str, Any]:
        """Return the apps of the host, the release of each with the traffic, the new text, and what has been seen."""
        found = self.logs()
        seen, chunks = {}, []
        for path, (process, id) in sorted(found.items()):
            seen[path], texts = self.read(path, process, id)
            chunks += [[process, id, text] for text in texts if text]
        for path in sorted(set(self.before) - set(found)):  # what a release wrote before it was retired
            process, id = self.before[path][2:]
            chunks += [[process, id, text] for text in self.read(path, process, id)[1] if text]
        apps = sorted({path.split("/")[-2] for path in glob.glob(f"{self.given['srv']}/*/releases")})
        return {"apps": apps, "live": {app: self.live(app) for app in apps}, "chunks": chunks, "seen": seen}

    def live(self, app: str) -> str:
        try:
            return os.path.basename(os.readlink(f"{self.given['srv']}/{app}/live"))
        except OSError:
            return ""

    def logs(self) -> dict[str, tuple[str, str]]:
        """Return {path: (process, id of its release)} of the logs of all releases that supervisord runs."""
        found = {}
        for path in glob.glob(f"{self.given['programs']}/websockets-*.conf"):
            match = re.fullmatch(r"websockets-(.+)-([0-9a-f]{12})\.conf", os.path.basename(path))
            if not match or self.given["app"] not in ("", match[1]):
                continue
            app, id = match[1], match[2]
            for log in glob.glob(f"{glob.escape(self.given['log'])}/{app}/{app}[._]*-{id}.log"):
                found[log] = (os.path.basename(log)[: -len(f"-{id}.log")], id)
        return found

    def read(self, path: str, process: str, id: str) -> tuple[list[Any], list[str]]:
        """Return what has now been seen of a log, and its new texts; supervisord renames a log that is full to ``.1``."""
        inode, offset = self.before.get(path, [0, 0])[:2]
        texts = []
        try:
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                if inode and inode != status.st_ino:
                    texts.append(rest(f"{path}.1", inode, offset))
                if inode != status.st_ino or status.st_size < offset:
                    offset = last_lines(file, self.given["lines"]) if self.first else 0
                file.seek(offset)
                data = file.read(CHUNK)
        except OSError:
            return [inode, offset, process, id], []
        # A line that is not whole yet waits for its end, if there is another look.
        whole = data[: data.rfind(b"\n") + 1] if self.given["follow"] else data
        if len(data) == CHUNK:
            whole = whole or data
        return [status.st_ino, offset + len(whole), process, id], [*texts, whole.decode("utf-8", "replace")]


def rest(path: str, inode: int, offset: int) -> str:
    """Return what a log had beyond the offset when it was renamed; empty if this is another log."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_ino != inode:
                return ""
            file.seek(offset)
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def last_lines(file: BinaryIO, lines: int) -> int:
    """Return the offset of the last lines of a file, or of as many of them as fit into one look."""
    end = file.seek(0, os.SEEK_END)
    start = max(0, end - CHUNK)
    file.seek(start)
    data = file.read()
    end_of_line = len(data) - 1 if data.endswith(b"\n") else len(data)
    for _ in range(lines):
        end_of_line = data.rfind(b"\n", 0, end_of_line)
        if end_of_line < 0:
            return start
    return start + (end_of_line + 1 if lines else len(data))


def main(given: dict[str, Any]) -> None:
    """Print one look as JSON; wait for something new, but no longer than ``given["wait"]`` seconds."""
    deadline = time.monotonic() + given["wait"]
    output = select.poll()
    output.register(sys.stdout, 0)
    while True:
        found = Tail(given).look()
        news = found["chunks"] or found["live"] != given["live"]
        # If nobody reads the output any more, bin/logs has ended.
        if news or time.monotonic() > deadline or output.poll(200):
            break
    print(f"\n{json.dumps(found)}")
