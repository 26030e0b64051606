"""The app's code on the control node: a folder or a git revision, its digest and its archive."""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterable

from .inputs import InputError, problem
from .release import Findings, describe, digest

_LEFT_OUT = {".git", ".hg", ".svn", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox", ".venv"}

# How a caller's git tells where its repository is (git rev-parse --local-env-vars).
_REPOSITORY = {
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"),
    *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH", "GIT_SHALLOW_FILE", "GIT_PREFIX"),
}


def once(path: str, make: Callable[[str], None]) -> str:
    """Have ``make(path)`` make a file or a folder, unless another process of this run has; return its path."""
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            partial = f"{path}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            make(partial)
            os.rename(partial, path)
    return path


def scan_once(folder: str, cache: str, key: str) -> str:
    """Return a file inside ``cache`` with the findings of :func:`scan`; the hosts of one task share it by its ``key``."""

    def write(path: str) -> None:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(scan(folder), file)

    return once(os.path.join(cache, f"websockets-scan-{digest([folder, key])}"), write)


def load(path: str) -> Findings:
    """Return what :func:`scan_once` has written."""
    with open(path, encoding="utf-8") as file:
        return {path: (kind, value) for path, (kind, value) in json.load(file).items()}


def archive_once(folder: str, found: Findings, cache: str) -> str:
    """Return the :func:`archive` of these files inside ``cache``; hosts that lack the same ones share it."""
    path = os.path.join(cache, f"websockets-{digest([folder, found])}.tar.gz")
    return once(path, lambda partial: archive(folder, found, partial))


def scan(folder: str) -> Findings:
    """Return {relative path: (kind, value)} of what a release of this folder contains.

    They are what :func:`release.describe` says. Folders without files are not part of it. Raises :class:`InputError`
    for what cannot be released.
    """
    found: Findings = {}
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if name not in _LEFT_OUT and not os.path.exists(os.path.join(parent, name, "pyvenv.cfg"))
        )
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        for name in sorted(files + links):
            path = os.path.join(parent, name)
            relative = os.path.relpath(path, folder)
            if name.endswith(".pyc") or name in _LEFT_OUT:
                continue
            what = describe(path)
            if what is None:
                raise InputError(problem("websockets_src", path, "it is neither a file nor a link; leave it out."))
            kind, target = what
            if kind == "link":
                inside = os.path.normpath(os.path.join(os.path.dirname(relative), target))
                if os.path.isabs(target) or inside.split(os.sep)[0] == os.pardir:
                    raise InputError(
                        problem("websockets_src", path, f"it is a link to {target}, outside the app; copy the file.")
                    )
            found[relative] = what
    return found


def lacking(found: Findings, releases: Iterable[dict[str, str]]) -> Findings:
    """Return those of :func:`scan`'s findings whose content is in none of the releases (their ``files``), and links."""
    there = {what.partition(" ")[2] for files in releases for what in files.values()}
    return {path: (kind, value) for path, (kind, value) in found.items() if kind == "link" or value not in there}


def archive(folder: str, found: Findings, path: str) -> None:
    """Write a gzipped tar of :func:`scan`'s findings that depends on nothing but them."""
    with (
        open(path, "wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for relative, (kind, _value) in sorted(found.items()):
            info = tar.gettarinfo(os.path.join(folder, relative), relative)
            if info.islnk():  # a second name of a file: pack it as a file of its own
                info.type, info.linkname = tarfile.REGTYPE, ""
                info.size = os.path.getsize(os.path.join(folder, relative))
            info.uid = info.gid = info.mtime = 0
            info.uname = info.gname = "root"
            info.mode = 0o755 if kind == "executable" else 0o644
            if info.isreg():
                with open(os.path.join(folder, relative), "rb") as file:
                    tar.addfile(info, file)
            else:
                tar.addfile(info)


def requirements(folder: str, found: Findings, name: str = "requirements.txt", seen: tuple[str, ...] = ()) -> str:
    """Return the text that decides what is installed: requirements.txt and what it includes.

    Empty where there is no such file. Where a requirement is a path inside the app, the code itself is part of
    the text. Raises :class:`InputError` for editable requirements, which would tie the packages to one release.
    """
    if name not in found:
        return ""
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        text = file.read()
    parts = [text]
    for line in text.splitlines():
        line = line.strip()
        if line.startswith(("-e", "--editable")):
            raise InputError(
                problem("websockets_src", f"{name}: {line}", "an editable requirement cannot be released; drop -e.")
            )
        included = re.match(r"(?:-r|-c|--requirement|--constraint)[\s=]*(\S+)", line)
        if included and "://" not in included[1]:
            path = os.path.normpath(os.path.join(os.path.dirname(name), included[1]))
            if path not in found:
                raise InputError(
                    problem("websockets_src", f"{name}: {line}", f"there is no {path} in the app's folder.")
                )
            if path not in (*seen, name):  # a circle is pip's to refuse
                parts.append(requirements(folder, found, path, (*seen, name)))
        elif line.startswith((".", "/", "file:")) or " @ file:" in line:
            parts.append(repr(sorted(found.items())))
    return "\n".join(parts)


def checkout(repo: str, version: str, cache: str) -> str:
    """Return a folder inside ``cache`` with the files of a revision; hosts of one run share it.

    Raises :class:`InputError` where git cannot read the repository or does not know the revision.
    """
    name = hashlib.sha256(f"{repo}\0{version}".encode()).hexdigest()[:16]
    return once(os.path.join(cache, f"websockets-{name}"), lambda folder: _export(repo, version, folder))


def _export(repo: str, version: str, folder: str) -> None:
    bare = f"{folder}.git"
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(shutil.rmtree, bare, ignore_errors=True)
        _git("init", "--quiet", "--bare", bare)
        # Servers give a branch or tag by itself; a bare commit may need everything.
        shallow = _git("-C", bare, "fetch", "--quiet", "--depth=1", "--", repo, version, check=False)
        if shallow.returncode == 0:
            revision = "FETCH_HEAD"
        else:
            whole = _git("-C", bare, "fetch", "--quiet", "--", repo, "+refs/*:refs/*", check=False)
            if whole.returncode != 0:
                raise InputError(
                    problem("websockets_repo", _no_password(repo), f"git cannot read it: {_no_password(whole.stderr)}")
                )
            revision = version
        parsed = _git("-C", bare, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", check=False)
        if parsed.returncode != 0:
            raise InputError(
                problem(
                    "websockets_version",
                    version,
                    f"{_no_password(repo)} has no such branch, tag or commit; push it, or name another.",
                )
            )
        os.makedirs(folder)
        _git("--git-dir", bare, "--work-tree", folder, "checkout", "--quiet", "--detach", parsed.stdout.strip())


def _git(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    # A git hook that deploys exports its own repository to us.
    environment = {name: value for name, value in os.environ.items() if name not in _REPOSITORY}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=check, env=environment)
    except FileNotFoundError:
        raise InputError("websockets_repo needs git on the control node; install it.") from None


def _no_password(text: str) -> str:
    # A token can stand where the user's name is, and a careless password can contain a slash or an @.
    return re.sub(r"://\S*@", "://***@", text).strip()
