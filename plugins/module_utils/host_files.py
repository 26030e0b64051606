"""The host's own files, which belong to no release. The role writes those that differ from their templates."""

from __future__ import annotations

import glob
import grp
import os
import pwd
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from . import paths


@dataclass(frozen=True)
class HostFile:
    """One file.

    :param src: its template in the role
    :param dest: its path on the host
    :param mode: its mode, as four octal digits
    :param init: the inits that need it, of ``systemd`` and ``sysv``
    """

    src: str
    dest: str
    mode: str
    init: tuple[str, ...] = ("systemd",)


def of(app: str) -> list[HostFile]:
    """Return the files of a host that has this app."""
    return [
        HostFile("nginx.service.conf.j2", paths.drop_in("nginx"), "0644"),
        HostFile("supervisor.service.conf.j2", paths.drop_in("supervisor"), "0644"),
        HostFile("nginx.sandbox.conf.j2", paths.sandbox("nginx"), "0644"),
        HostFile("supervisor.sandbox.conf.j2", paths.sandbox("supervisor"), "0644"),
        HostFile("websockets-tmpfiles.init.j2", paths.init_script("websockets-tmpfiles"), "0755", ("sysv",)),
        HostFile("tmpfiles.conf.j2", paths.tmpfiles(app), "0644", ("systemd", "sysv")),
        HostFile("supervisord.conf.j2", paths.descriptors_file(), "0644", ("systemd", "sysv")),
    ]


def found(files: Iterable[str]) -> dict[str, str]:
    """Return {path: mode and text} of those that exist, such as ``0644 # A file``."""
    there = {}
    for path in files:
        if os.path.exists(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                there[path] = f"{stat.S_IMODE(os.fstat(file.fileno()).st_mode):04o} {file.read()}"
    return there


def texts(*patterns: str) -> Iterable[tuple[str, str]]:
    """Yield path and text of the files that match, in the order in which an include reads them; skip unreadable files."""
    for path in (path for pattern in patterns for path in sorted(glob.glob(pattern))):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            continue
        yield path, text


def folders_are_made(path: str) -> bool:
    """Tell whether all folders of a file in tmpfiles.d exist with the owner, group and mode that it names."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.split() for line in file if line.startswith("d ")]
        for _, folder, mode, user, group in lines:
            made = os.lstat(folder)
            said = (stat.S_IFDIR | int(mode, 8), pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid)
            if (made.st_mode, made.st_uid, made.st_gid) != said:
                return False
    except (FileNotFoundError, KeyError):
        return False
    return True
