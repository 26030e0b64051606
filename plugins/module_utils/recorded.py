"""The sites that this role has made on this host. Each is recorded as JSON in the app's folder."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import json
import os

from . import legacy, paths
from .inputs import APP_NAME
from .record import from_dict, load, to_dict
from .site import Site, listen_address


def sites() -> dict[str, Site]:
    """Return {app: its site} of all apps of the role that nginx serves on this host."""
    found = {}
    for path in sorted(glob.glob(paths.site_file("*"))):
        name = os.path.basename(path)
        app = name[len("websockets-") : -len(".conf")]
        if APP_NAME.fullmatch(app) and (site := site_of(app)):
            found[app] = site
    return found


def site_of(app: str) -> Site | None:
    """Return the site that nginx serves for an app, None if it serves none.

    The record counts only if nginx's file still has the text that it was made for. Otherwise the text is read.
    """
    text = _read(paths.site_file(app))
    if text is None:
        return None
    try:
        record = load(paths.site_record(app))
        site = from_dict(Site, record) if record["digest"] == _digest(text) else legacy.site_of(app, text)
    except (OSError, ValueError, TypeError, KeyError):
        site = legacy.site_of(app, text)
    # Another app's deploy compares the addresses of these servers with its own.
    return dataclasses.replace(site, servers=[server for server in site.servers if _has_address(server.listen)])


def write(site: Site, text: str) -> None:
    """Record a site.

    :param text: the text of its file
    """
    record = json.dumps({**to_dict(site), "digest": _digest(text)}, indent=1, sort_keys=True)
    path = paths.site_record(site.app)
    if _read(path) == record:
        return
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        file.write(record)
    os.rename(f"{path}.new", path)


def _read(path: str) -> str | None:
    """Return a file's text, None if there is no such file. A person may have written it in another encoding."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _has_address(listen: str) -> bool:
    """Tell whether a server listens at an address. A person may have given it a name or a Unix socket instead."""
    try:
        listen_address(listen)
    except ValueError:
        return False
    return True


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
