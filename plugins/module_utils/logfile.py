"""A log of the role's own, beside those of an app's processes."""

from __future__ import annotations

import os
from typing import TextIO


def begin(path: str) -> TextIO:
    """Return a new log to write, of which each line is in the file at once. Root and the group of its folder can read it."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
    file = os.fdopen(handle, "w", encoding="utf-8", buffering=1)
    os.fchmod(handle, 0o640)
    os.fchown(handle, -1, os.stat(os.path.dirname(path)).st_gid)
    return file
