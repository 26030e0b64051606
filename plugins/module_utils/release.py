"""The one fact that everything is derived from: a release, its id, its folders, its program, its processes."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shlex
import shutil

BASE = "/srv/websockets"
RUN = "/run/websockets"
LOG = "/var/log/websockets"
PROGRAMS = "/etc/supervisor/conf.d"
# Inside the role: what its templates program.conf.j2 and run.j2 make of a process, as text that is part of every id. It
# is their first text, so that the releases of older hosts keep their ids. A change of what the templates mean is
# another file, with another number.
PROCESS = "files/process-1.json"
# Last thing written into a virtual environment: one without it was interrupted, and is made again.
COMPLETE = ".complete"
# Written into a release when it gets the traffic: the id that had it before. Its date is when.
_PREVIOUS = "previous"


def digest(value):
    """Return 12 hexadecimal digits (48 bits) of the sha256 of a value made of JSON's types."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def derive(inputs, found, requirements, python, role):
    """Return the release that the inputs describe.

    :param inputs: dict of all inputs, typed
    :param found: the app's files, from :func:`source.scan`
    :param requirements: text that decides the packages, from :func:`source.requirements`
    :param python: version of the interpreter on the host, such as ``3.13``
    :param role: what the role itself makes the processes of (its templates), as text
    """
    app = inputs["websockets_app"]
    venv = digest([requirements, inputs["websockets_python"], python, inputs["websockets_pip_args"]])
    release = digest(
        [
            found,
            venv,
            role,
            {
                name: inputs[f"websockets_{name}"]
                for name in (
                    "command",
                    "environment",
                    "secrets",
                    "user",
                    "numprocs",
                    "stopwaitsecs",
                    "ping_interval",
                    "drain_rate",
                    "max_connections",
                )
            },
        ]
    )
    names = of(app, release)
    numbers = [f"{app}_{number:02d}" for number in range(inputs["websockets_numprocs"])]
    return {
        **names,
        "user": inputs["websockets_user"],
        "venv": f"{names['base']}/venvs/{venv}",
        "numprocs": inputs["websockets_numprocs"],
        "processes": [
            {
                "name": name,
                "socket": f"{names['sockets']}/{name}.sock",
                "peer": f"{names['live']}/{name}.sock",
                "log": f"{names['logs']}/{name}-{release}.log",
            }
            for name in numbers
        ],
    }


def describe(path):
    """Return what of a file is part of a release, as ``(kind, value)``; None if it is neither a file nor a link.

    ``kind`` is ``file`` or ``executable`` (value: sha256 of the content) or ``link`` (value: its target).
    """
    if os.path.islink(path):
        return "link", os.readlink(path)
    if not os.path.isfile(path):
        return None
    content = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            content.update(block)
    return "executable" if os.stat(path).st_mode & 0o100 else "file", content.hexdigest()


def of(app, release):
    """Return what every release is called on a host, from the names alone."""
    base = f"{BASE}/{app}"
    return {
        "app": app,
        "id": release,
        "base": base,
        "path": f"{base}/releases/{release}",
        "code": f"{base}/releases/{release}/app",
        "live": f"{base}/live",
        "run": f"{RUN}/{app}",
        "sockets": f"{RUN}/{app}/{release}",
        "logs": f"{LOG}/{app}",
        "program": f"{app}-{release}",
        "program_file": f"{PROGRAMS}/websockets-{app}-{release}.conf",
        "upstream": f"websockets_{app}",
    }


def shell_word(text, placeholders):
    """Return a word of a shell script that means ``text`` with its placeholders replaced, and nothing else.

    :param placeholders: {name: value}; ``{socket}`` is the one that only the process knows: it becomes the script's ``$1``
    """
    text = str(text)
    for name, value in placeholders.items():
        text = text.replace(f"{{{name}}}", str(value))
    quoted = [shlex.quote(part) if part else "" for part in text.split("{socket}")]
    return '"$1"'.join(quoted) or "''"


def programs(app):
    """Return the sorted ids of the app's releases that supervisord is told to run."""
    names = (os.path.basename(path) for path in glob.glob(f"{PROGRAMS}/websockets-*.conf"))
    pattern = re.compile(rf"websockets-{re.escape(app)}-([0-9a-f]{{12}})\.conf")
    return sorted(match[1] for name in names if (match := pattern.fullmatch(name)))


def live(base):
    """Return the id of the release that gets the traffic, empty if there is none yet."""
    try:
        return os.path.basename(os.readlink(f"{base}/live"))
    except FileNotFoundError:
        return ""


def point(link, target):
    """Make a symbolic link name ``target`` by one rename(2): there is no moment without it."""
    beside = f"{link}.new"
    if os.path.lexists(beside):
        os.unlink(beside)
    os.symlink(target, beside)
    os.rename(beside, link)


def on_disk(base):
    """Return {id: record} of the app's releases, with ``previous`` and ``since`` (seconds) of those that have been live.

    ``previous`` is the release that was live before this one was deployed, empty for the first.
    """
    found = {}
    for path in glob.glob(f"{glob.escape(base)}/releases/*/release.json"):
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        try:
            marker = f"{record['path']}/{_PREVIOUS}"
            with open(marker, encoding="utf-8") as file:
                record.update(previous=file.read().strip(), since=os.stat(marker).st_mtime)
        except FileNotFoundError:
            pass
        found[record["id"]] = record
    return found


def venvs(base):
    """Return the paths of the app's virtual environments that are whole."""
    return [os.path.dirname(path) for path in glob.glob(f"{glob.escape(base)}/venvs/*/{COMPLETE}")]


def went_live(path, previous):
    """Note that a release has got the traffic; ``previous`` is None when that was by a rollback."""
    marker = f"{path}/{_PREVIOUS}"
    if previous is None:
        os.utime(marker)
        return
    with open(marker, "w", encoding="utf-8") as file:
        file.write(f"{previous}\n")


def surplus(base, keep):
    """Return what no rollback needs, as ids and as paths: releases beyond the newest ``keep``, those that never were
    live, and their packages and logs. The live release and the one before it stay."""
    found = on_disk(base)
    now = live(base)
    newest = sorted((i for i in found if "since" in found[i]), key=lambda i: found[i]["since"], reverse=True)
    kept = {now, found.get(now, {}).get("previous"), *newest[:keep]}
    ids = sorted(set(found) - kept)
    paths = glob.glob(f"{glob.escape(base)}/releases/.*.partial")
    for identity in ids:
        paths += [found[identity]["path"], *glob.glob(f"{glob.escape(found[identity]['logs'])}/*-{identity}.log*")]
    used = {os.path.basename(found[identity]["venv"]) for identity in set(found) & kept}
    paths += [venv for venv in glob.glob(f"{glob.escape(base)}/venvs/*") if os.path.basename(venv) not in used]
    return ids, paths


def prune(base, keep):
    """Remove the surplus, and return the removed ids."""
    ids, paths = surplus(base, keep)
    for path in paths:
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    return ids
