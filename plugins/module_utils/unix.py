"""Unix sockets: how many connections they have, and whether another user may connect to them."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

_LISTENING = 0x10000  # __SO_ACCEPTCON, in the column Flags (proc_net(5))
_CONNECTED = "03"


def connections(folder: str, table: str = "/proc/net/unix") -> dict[str, int]:
    """Return {path: number of open connections} of the listening sockets in a folder.

    :param table: the kernel's table, see proc_net(5)
    """
    found: dict[str, int] = {}
    with open(table, encoding="utf-8", errors="replace") as file:
        next(file)
        for line in file:
            columns = line.split(maxsplit=7)
            path = columns[7].rstrip("\n") if len(columns) == 8 else ""
            if not path.startswith(f"{folder}/"):
                continue
            # Some servers, such as Sanic, bind x.sock.1a2b and rename that: the kernel goes on with the first name.
            path = re.sub(r"\.sock\.[^/]*$", ".sock", path)
            found.setdefault(path, 0)
            if not int(columns[3], 16) & _LISTENING and columns[5] == _CONNECTED:
                found[path] += 1
    return found


@dataclass(frozen=True)
class Account:
    """A user with the groups that its processes have.

    :param groups: ids of all of its groups
    """

    user: str
    uid: int
    gid: int
    groups: list[int]


@contextlib.contextmanager
def acting_as(account: Account | None) -> Iterator[None]:
    """Have the kernel decide as for another user what this process may open. Only root can; for others nothing changes.

    :param account: the user, None for no other
    """
    if account is None or os.geteuid() != 0:
        yield
        return
    gid, groups = os.getegid(), os.getgroups()
    try:
        os.setgroups(account.groups)
        os.setegid(account.gid)
        os.seteuid(account.uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


def refusal(path: str, account: Account) -> str:
    """Return which folder or socket does not let a user connect, with its mode and owner, and what to do about it.

    :param path: a Unix socket, or a link to one, to which the user may not connect
    """
    socket = os.path.realpath(path)
    folders = dict.fromkeys(str(folder) for end in (path, socket) for folder in reversed(PurePath(end).parents))
    with acting_as(account):
        closed = [folder for folder in folders if not os.access(folder, os.X_OK, effective_ids=True)]
    place = closed[0] if closed else socket
    found = os.stat(place)
    acl = ", and an ACL" if "system.posix_acl_access" in os.listxattr(place) else ""
    if closed:
        remedy = f"Make the app give that folder the mode 0750 and the group {_group(account.gid)}"
    elif found.st_gid not in account.groups:
        remedy = (
            f"Make the app leave the socket in the group {_group(account.gid)}, as its folder has it, or give it the mode 0666:"
            " the folder lets in nobody else (in gunicorn: leave out --umask)"
        )
    else:
        remedy = (
            "Leave the umask at 007, with which the app is started, or make the app give the socket the mode 0660"
            " (in tornado: bind_unix_socket(path, mode=0o660))"
        )
    return (
        f"{place} has mode {stat.S_IMODE(found.st_mode):04o}, owner {_user(found.st_uid)}, group {_group(found.st_gid)}{acl};"
        f" nginx connects as {account.user}, which is in {', '.join(map(_group, account.groups))}. {remedy}"
    )


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a container may have files of users that it does not know
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
