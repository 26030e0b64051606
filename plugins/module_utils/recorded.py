"""What cut-overs have recorded on this host as JSON, in each app's folder: its site, and its inputs. And its maintenance."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from . import legacy, paths
from .inputs import APP_NAME
from .record import from_dict, load, stamp, to_dict
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
        site = from_dict(Site, record) if record["digest"] == digest(text) else legacy.site_of(app, text)
    except (OSError, ValueError, TypeError, KeyError):
        site = legacy.site_of(app, text)
    # Another app's deploy compares the addresses of these servers with its own.
    return dataclasses.replace(site, servers=[server for server in site.servers if _has_address(server.listen)])


def shutdown(site: Site) -> int | None:
    """Return nginx's ``worker_shutdown_timeout``: the largest of all apps, None to leave it to others.

    :param site: the site that an app is to have
    """
    others = sites()
    was = others.pop(site.app, None)
    largest = max(one.worker_shutdown_timeout for one in (site, *others.values()))
    return largest if largest or (was and was.worker_shutdown_timeout) else None


def maintenance(app: str) -> str:
    """Return when an app's maintenance began, in the host's time; empty without one."""
    try:
        return stamp(os.stat(paths.maintenance(app)).st_mtime)
    except OSError:
        return ""


def has(app: str) -> bool:
    """Tell whether this host has anything of an app, such as what a removal that failed has left."""
    places = (f"{paths.RUN}/{app}", f"{paths.LOG}/{app}", paths.tmpfiles(app), paths.site_file(app))
    return bool(app) and any(map(os.path.lexists, (paths.app_base(app), *places)))


def served_files(app: str) -> dict[str, None]:
    """Return {path: None} of nginx's files of an app, as those that take the app out of nginx."""
    return {path: None for path in (paths.site_file(app), paths.next_file(app)) if app and os.path.exists(path)}


def digests(files: Iterable[str]) -> dict[str, str]:
    """Return {path: digest of its text} of the files that exist."""
    texts = {path: _read(path) for path in files}
    return {path: digest(text) for path, text in texts.items() if text is not None}


def write(site: Site, text: str) -> None:
    """Record a site.

    :param text: the text of its file
    """
    _write(paths.site_record(site.app), of_site(site, text))


def of_site(site: Site, text: str) -> str:
    """Return the record of a site.

    :param text: the text of its file
    """
    return _json({**to_dict(site), "digest": digest(text)})


def inputs_of(app: str) -> dict[str, Any]:
    """Return the inputs of an app's last deploy, empty if an older version has deployed it, which recorded none."""
    try:
        found = load(paths.inputs_record(app))
    except (OSError, ValueError):
        return {}
    whole = isinstance(found, dict) and isinstance(found.get("gate_headers"), dict)
    return found if whole else {}


def fill_headers(module: Any, app: str) -> None:
    """Give a module the recorded headers of the gate, which may be secret, if its parameter ``headers`` has none."""
    if module.params["headers"] is None:
        headers = inputs_of(app).get("gate_headers", {})
        module.no_log_values.update(map(str, headers.values()))
        module.params["headers"] = headers


def write_inputs(site: Site, inputs: Mapping[str, Any], gate_headers: Mapping[str, Any]) -> None:
    """Record the inputs that an app's later rollback, restart and removal need.

    :param inputs: those that a result may have
    """
    _write(paths.inputs_record(site.app), of_inputs(site, inputs, gate_headers), mode=0o600)


def has_inputs(site: Site, inputs: Mapping[str, Any], gate_headers: Mapping[str, Any]) -> bool:
    """Tell whether these inputs are recorded, see :func:`write_inputs`."""
    return _read(paths.inputs_record(site.app)) == of_inputs(site, inputs, gate_headers)


def of_inputs(site: Site, inputs: Mapping[str, Any], gate_headers: Mapping[str, Any]) -> str:
    """Return the record of an app's inputs."""
    record = {**inputs, "gate_headers": gate_headers}
    if site.certificate and site.certificate.mode == "files":
        # By their paths on the host, also where the inputs have their texts.
        record |= {"tls_certificate": site.certificate.path, "tls_key": site.certificate.key}
    return _json(record)


def _json(record: Mapping[str, Any]) -> str:
    return json.dumps(record, indent=1, sort_keys=True)


def _write(path: str, text: str, mode: int = 0o644) -> None:
    if _read(path) == text:
        return
    with open(f"{path}.new", "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(text)
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


def digest(text: str) -> str:
    """Return the digest of a file's text."""
    return hashlib.sha256(text.encode()).hexdigest()
