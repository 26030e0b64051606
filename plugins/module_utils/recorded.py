"""The sites that this role has made on this host. Each is recorded as JSON in the app's folder."""

from __future__ import annotations

import glob
import hashlib
import json
import os

from . import legacy, paths
from .record import from_dict, to_dict
from .site import Site


def sites() -> dict[str, Site]:
    """Return {app: its site} of all apps of the role that nginx serves on this host."""
    found = {}
    for path in sorted(glob.glob(paths.site_file("*"))):
        name = os.path.basename(path)
        app = name[len("websockets-") : -len(".conf")]
        if site := site_of(app):
            found[app] = site
    return found


def site_of(app: str) -> Site | None:
    """Return the site that nginx serves for an app, None if it serves none.

    The record counts only if nginx's file still has the text that it was made for. Otherwise the text is read.
    """
    try:
        with open(paths.site_file(app), encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        return None
    try:
        with open(paths.site_record(app), encoding="utf-8") as file:
            record = json.load(file)
    except (FileNotFoundError, ValueError):
        record = {}
    return from_dict(Site, record) if record.get("digest") == _digest(text) else legacy.site_of(app, text)


def write(site: Site, text: str) -> None:
    """Record a site.

    :param text: the text of its file
    """
    record = json.dumps({**to_dict(site), "digest": _digest(text)}, indent=1, sort_keys=True)
    path = paths.site_record(site.app)
    try:
        with open(path, encoding="utf-8") as file:
            if file.read() == record:
                return
    except FileNotFoundError:
        pass
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        file.write(record)
    os.rename(f"{path}.new", path)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
