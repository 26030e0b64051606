"""The app's code on the control node: its folder or git revision, its digests and its archive."""

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
from collections.abc import Callable, Iterable, Iterator

from .inputs import InputError, no_password, problem
from .record import readable
from .release import Findings, describe, digest

_LEFT_OUT = {".git", ".hg", ".svn", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox", ".venv"}

# Variables by which git names a caller's repository (git rev-parse --local-env-vars).
_REPOSITORY = {
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"),
    *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH", "GIT_SHALLOW_FILE", "GIT_PREFIX"),
}


def once(path: str, make: Callable[[str], None]) -> str:
    """Call ``make(path)`` for a file or a folder, unless another process of this run has made it; return its path."""
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            partial = f"{path}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            make(partial)
            os.rename(partial, path)
    return path


def scan_once(folder: str, cache: str, key: str) -> str:
    """Return a file inside ``cache`` with the findings of :func:`scan`; all hosts of a task share it.

    :param key: the task's own id
    """

    def write(path: str) -> None:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(scan(folder), file)

    return once(os.path.join(cache, f"websockets-scan-{digest([folder, key])}"), write)


def load(path: str) -> Findings:
    """Return the findings in a file of :func:`scan_once`."""
    with open(path, encoding="utf-8") as file:
        return {path: (kind, value) for path, (kind, value) in json.load(file).items()}


def archive_once(folder: str, found: Findings, cache: str) -> str:
    """Return the :func:`archive` of these files inside ``cache``; hosts that need the same files share it."""
    path = os.path.join(cache, f"websockets-{digest([folder, found])}.tar.gz")
    return once(path, lambda partial: archive(folder, found, partial))


def scan(folder: str) -> Findings:
    """Return {relative path: (kind, value)} of the files in a release of this folder, see :func:`release.describe`.

    Empty folders are not part of a release.

    :raises InputError: for a file that cannot be part of a release
    """
    found: Findings = {}
    for relative in _files(folder):
        path = os.path.join(folder, relative)
        if not _is_utf8(relative):
            raise InputError(f"websockets_src has {readable(relative)}: this name is not UTF-8; rename it.")
        what = describe(path)
        if what is None:
            raise InputError(
                problem("websockets_src", path, "it is neither a file nor a link; move it out of the app's folder.")
            )
        kind, target = what
        if kind == "link":
            if not _is_utf8(target):
                remedy = "is not UTF-8; rename the file and make the link again."
                raise InputError(f"websockets_src has {relative}: it is a link to {readable(target)}, which {remedy}")
            inside = os.path.normpath(os.path.join(os.path.dirname(relative), target))
            if os.path.isabs(target) or inside.split(os.sep)[0] == os.pardir:
                raise InputError(
                    problem(
                        "websockets_src",
                        path,
                        f"it is a link to {target}, outside the app's folder; copy the file.",
                    )
                )
        found[relative] = what
    return found


def _files(folder: str) -> Iterator[str]:
    """Yield the relative paths of what could be part of a release: files, links, and what is neither."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if name not in _LEFT_OUT and not os.path.exists(os.path.join(parent, name, "pyvenv.cfg"))
        )
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        for name in sorted(files + links):
            if not name.endswith(".pyc") and name not in _LEFT_OUT:
                yield os.path.relpath(os.path.join(parent, name), folder)


def _is_utf8(name: str) -> bool:
    """Tell whether a file's name is UTF-8. Ansible cannot send any other name, and JSON has none."""
    return bool(readable(name) == name)


def lacking(found: Findings, releases: Iterable[dict[str, str]]) -> Findings:
    """Return those of :func:`scan`'s findings that no release has: all links, and files with new content.

    :param releases: the ``files`` of each release
    """
    there = {what.partition(" ")[2] for files in releases for what in files.values()}
    return {path: (kind, value) for path, (kind, value) in found.items() if kind == "link" or value not in there}


def archive(folder: str, found: Findings, path: str) -> None:
    """Write a gzipped tar of :func:`scan`'s findings; the same findings give the same bytes."""
    with (
        open(path, "wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for relative, (kind, _value) in sorted(found.items()):
            info = tar.gettarinfo(os.path.join(folder, relative), relative)
            if info.islnk():  # a hard link: pack it as a file of its own
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

    The text is empty if there is no such file. If a requirement is a path inside the app, the code is part of the text.

    :param name: the file to read
    :param seen: the files that include it
    :raises InputError: for an editable requirement, which would tie the packages to one release, or a missing file
    """
    if name not in found:
        return ""
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise InputError(
            f"websockets_src has {name}: it is not UTF-8 (byte {error.start + 1}); save it as UTF-8."
        ) from None
    parts = [text]
    for line in text.removeprefix("\ufeff").splitlines():  # an editor's mark of UTF-8
        line = line.strip()
        if line.startswith(("-e", "--editable")):
            raise InputError(
                problem(
                    "websockets_src",
                    f"{name}: {line}",
                    "an editable requirement cannot be part of a release; remove -e.",
                )
            )
        included = re.match(r"(?:-r|-c|--requirement|--constraint)[\s=]*(\S+)", line)
        if included and "://" not in included[1]:
            path = os.path.normpath(os.path.join(os.path.dirname(name), included[1]))
            if path not in found:
                raise InputError(
                    problem("websockets_src", f"{name}: {line}", f"there is no {path} in the app's folder.")
                )
            if path not in (*seen, name):  # pip refuses files that include each other
                parts.append(requirements(folder, found, path, (*seen, name)))
        elif line.startswith((".", "/", "file:")) or " @ file:" in line:
            parts.append(repr(sorted(found.items())))
    return "\n".join(parts)


def checkout(repo: str, version: str, cache: str) -> str:
    """Return a folder inside ``cache`` with the files of a revision; all hosts of a run share it.

    :param version: a branch, tag or commit
    :raises InputError: if git cannot read the repository or does not know the revision
    """
    name = hashlib.sha256(f"{repo}\0{version}".encode()).hexdigest()[:16]
    return once(os.path.join(cache, f"websockets-{name}"), lambda folder: _export(repo, version, folder))


def _export(repo: str, version: str, folder: str) -> None:
    bare = f"{folder}.git"
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(shutil.rmtree, bare, ignore_errors=True)
        _git("init", "--quiet", "--bare", bare)
        # A git server sends a single branch or tag; for a commit git may have to fetch everything.
        shallow = _git("-C", bare, "fetch", "--quiet", "--depth=1", "--", repo, version, check=False)
        if shallow.returncode == 0:
            revision = "FETCH_HEAD"
        else:
            whole = _git("-C", bare, "fetch", "--quiet", "--", repo, "+refs/*:refs/*", check=False)
            if whole.returncode != 0:
                raise InputError(
                    problem(
                        "websockets_repo", no_password(repo), f"git cannot read it: {no_password(whole.stderr).strip()}"
                    )
                )
            revision = version
        parsed = _git("-C", bare, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", check=False)
        if parsed.returncode != 0:
            raise InputError(
                problem(
                    "websockets_version",
                    version,
                    f"{no_password(repo)} has no such branch, tag or commit; push it, or name another.",
                )
            )
        os.makedirs(folder)
        _git("--git-dir", bare, "--work-tree", folder, "checkout", "--quiet", "--detach", parsed.stdout.strip())


def _git(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    # A git hook that runs a deploy exports its own repository.
    environment = {name: value for name, value in os.environ.items() if name not in _REPOSITORY}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=check, env=environment)
    except FileNotFoundError:
        raise InputError("websockets_repo needs git on the control node; install it.") from None
