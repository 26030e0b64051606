"""The number of open connections of Unix sockets, from the kernel's table."""

from __future__ import annotations

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
            found.setdefault(path, 0)
            if not int(columns[3], 16) & _LISTENING and columns[5] == _CONNECTED:
                found[path] += 1
    return found
