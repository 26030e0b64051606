"""The app's code on the control node: its folder or git revision, its digests and its archive."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .inputs import InputError, no_password, problem
from .record import from_dict, readable, to_dict
from .release import Findings, Revision, describe, digest

_LEFT_OUT = {".git", ".hg", ".svn", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox", ".venv"}

# The start of what Git LFS has in a repository instead of a file.
_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
_PRIVATE_KEY = re.compile(rb"(?m)^-----BEGIN [A-Z ]*PRIVATE KEY-----")
# More bytes than that are worth a warning.
LARGE = 200_000_000
# The largest file of which a diff shows the lines, in bytes.
SHOWN = 1 << 16

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


@dataclass(frozen=True)
class Scan:
    """An app's code, as the hosts of one task get it.

    :param files: what :func:`scan` has found
    :param revision: what git says of the folder
    :param doubts: warnings about files that a release is better without
    """

    files: Findings
    revision: Revision
    doubts: list[str]


def scan_once(folder: str, cache: str, key: str, exclude: Sequence[str] = ()) -> str:
    """Return a file inside ``cache`` with a :class:`Scan`; all hosts of a task share it.

    :param key: the task's own id
    :param exclude: as for :func:`scan`
    """

    def write(path: str) -> None:
        files = scan(folder, exclude)
        known = to_dict(revision(folder, files, exclude))
        with open(path, "w", encoding="utf-8") as file:
            json.dump([files, known, doubtful(folder, files, exclude)], file)

    return once(os.path.join(cache, f"websockets-scan-{digest([folder, key, *exclude])}"), write)


def load(path: str) -> Scan:
    """Return what is in a file of :func:`scan_once`."""
    with open(path, encoding="utf-8") as file:
        files, known, doubts = json.load(file)
    found = {path: (kind, value) for path, (kind, value) in files.items()}
    return Scan(found, from_dict(Revision, known), doubts)


def archive_once(folder: str, found: Findings, cache: str) -> str:
    """Return the :func:`archive` of these files inside ``cache``; hosts that need the same files share it."""
    path = os.path.join(cache, f"websockets-{digest([folder, found])}.tar.gz")
    return once(path, lambda partial: archive(folder, found, partial))


def scan(folder: str, exclude: Sequence[str] = ()) -> Findings:
    """Return {relative path: (kind, value)} of the files in a release of this folder, see :func:`release.describe`.

    Empty folders are not part of a release.

    :param exclude: patterns of gitignore(5) of files that are left out
    :raises InputError: for a file that cannot be part of a release
    """
    found: Findings = {}
    pointers = []
    names = list(_files(folder))
    left_out = {name for name, pattern in _matched(names, exclude).items() if not pattern.startswith("!")}
    for relative in names:
        if relative in left_out:
            continue
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
        elif _head(path, 1024).startswith(_POINTER):
            pointers.append(relative)
        found[relative] = what
    if pointers:
        raise InputError(
            f"websockets_src has {few(pointers)}: Git LFS has put pointers there instead of the files. Install git-lfs on"
            " the control node and run git lfs install, and in a folder git lfs pull; or leave them out"
            " (websockets_exclude)."
        )
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


def _matched(names: Sequence[str], patterns: Sequence[str]) -> dict[str, str]:
    """Return {name: the pattern that decides about it}, without the names about which no pattern decides.

    The patterns mean what they mean in a .gitignore: git itself reads them, in a repository that has nothing else.
    """
    if not patterns:
        return {}
    with tempfile.TemporaryDirectory() as empty:
        _git("init", "--quiet", "--template=", empty, needed_by="websockets_exclude")
        os.mkdir(os.path.join(empty, ".git", "info"))
        with open(os.path.join(empty, ".git", "info", "exclude"), "w", encoding="utf-8") as file:
            file.write("".join(f"{pattern}\n" for pattern in patterns))
        asked = ["-C", empty, "-c", "core.excludesFile=", "check-ignore", "--no-index", "--verbose", "-z", "--stdin"]
        told = _git(*asked, check=False, stdin="".join(f"{name}\0" for name in names)).stdout.split("\0")
    # source, line, pattern and path of each
    return dict(zip(told[3::4], told[2::4], strict=False))


def doubtful(folder: str, found: Findings, exclude: Sequence[str]) -> list[str]:
    """Return warnings about files that are seldom meant to be in a release.

    :param exclude: the patterns of :func:`scan`; a file that one of them names with ``!`` is meant to be in it
    """
    meant = _matched(list(found), exclude)
    paths = [path for path in found if path not in meant]
    secret = [path for path in paths if is_secret(folder, path, found[path][0])]
    modules = {path[: path.index("node_modules/")] + "node_modules" for path in paths if "node_modules/" in path}
    sizes = {path: os.lstat(os.path.join(folder, path)).st_size for path in paths}
    doubts = []
    if secret:
        doubts.append(f"has {few(secret)}, which look like secrets; they belong into websockets_secrets")
    if modules:
        doubts.append(f"has {few(sorted(modules))}, which a Python app seldom needs")
    if sum(sizes.values()) > LARGE:
        largest = few(sorted(sizes, key=lambda path: sizes[path], reverse=True), 3)
        doubts.append(f"has {size(sum(sizes.values()))}, the most of it in {largest}; every host gets them")
    remedy = (
        "List them in websockets_exclude to leave them out, or with a ! in front to keep them without this warning."
    )
    return [f"The app's folder {doubt}. {remedy}" for doubt in doubts]


def is_secret(folder: str, path: str, kind: str) -> bool:
    """Tell whether a file looks like one with passwords, or has a private key."""
    name = os.path.basename(path)
    if re.fullmatch(r"\.env(\.(?!example|sample|template|dist).*)?", name):
        return True
    return kind != "link" and bool(_PRIVATE_KEY.search(_head(os.path.join(folder, path), 16384)))


def comparable(folder: str, found: Findings, was: Mapping[str, str]) -> list[str]:
    """Return the changed files of which a diff can show the lines: small ones without secrets.

    :param was: the ``files`` of the live release
    """
    return [
        path
        for path in _changes(found, was)["changed"]
        if not was[path].startswith("link ")
        and found[path][0] != "link"
        and not is_secret(folder, path, found[path][0])
        and os.path.getsize(os.path.join(folder, path)) <= SHOWN
    ][:10]


def differences(folder: str, found: Findings, was: Mapping[str, str], texts: Mapping[str, str]) -> list[dict[str, str]]:
    """Return what a release changes, for Ansible's diff: lists of files, and the lines of some of them.

    :param was: as above; empty if no release is live
    :param texts: {path: text} of the live release's files that are compared line by line
    """
    if not was:
        total = sum(os.lstat(os.path.join(folder, path)).st_size for path in found)
        return [{"prepared": f"{len(found)} files, {size(total)}\n"}]
    lists = {what: few(names, 20) for what, names in _changes(found, was).items() if names}
    diffs = [{"prepared": "".join(f"{what}: {names}\n" for what, names in lists.items()) or "no file differs\n"}]
    for path, before in texts.items():
        with open(os.path.join(folder, path), "rb") as file:
            content = file.read()
        if b"\0" not in content and not _PRIVATE_KEY.search(before.encode()):
            after = content.decode("utf-8", "backslashreplace")
            heads = {"before_header": f"{few([path])} (live)", "after_header": f"{few([path])} (new)"}
            diffs.append({**heads, "before": before, "after": after})
    return diffs


def _changes(found: Findings, was: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the sorted paths of the files that are added, changed and removed."""
    now = {path: f"{kind} {value}" for path, (kind, value) in found.items()}
    return {
        "added": sorted(set(now) - set(was)),
        "changed": sorted(path for path in set(now) & set(was) if now[path] != was[path]),
        "removed": sorted(set(was) - set(now)),
    }


def few(names: Sequence[str], most: int = 5) -> str:
    """Return the first of these names, and how many there are beside them."""
    further = f" and {len(names) - most} more" if len(names) > most else ""
    # A name may have a line break, or a code that colours a terminal.
    shown = [re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\x{ord(found[0]):02x}", name) for name in names[:most]]
    return ", ".join(shown) + further


def size(number: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("bytes", "KB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def _head(path: str, largest: int) -> bytes:
    """Return the content of a file that has at most this size, nothing of a larger one."""
    if os.path.getsize(path) > largest:
        return b""
    with open(path, "rb") as file:
        return file.read()


def revision(folder: str, found: Findings, exclude: Sequence[str] = ()) -> Revision:
    """Return what git says of a folder; nothing if no repository has the folder's files.

    :param found: the folder's files
    :param exclude: as for :func:`scan`
    :raises InputError: if a submodule is empty
    """
    if not shutil.which("git"):
        return Revision()
    listed = _git("-C", folder, "ls-files", "--stage", "-z", check=False)
    if listed.returncode != 0 or not listed.stdout:
        return Revision()
    submodules = _submodules(listed.stdout)
    inside = _matched([f"{path}/x" for path in submodules], exclude)
    empty = [path for path in submodules if f"{path}/x" not in inside and _is_empty(os.path.join(folder, path))]
    if empty:
        raise InputError(
            f"websockets_src has {few(empty)}: this git submodule is empty. Run git submodule update --init --recursive"
            " in the folder, or leave it out (websockets_exclude)."
        )
    head = _git("-C", folder, "rev-parse", "--show-prefix", "HEAD", check=False)
    if head.returncode != 0:
        return Revision()
    prefix, commit = head.stdout.splitlines()
    tag = _git("-C", folder, "describe", "--tags", "--exact-match", "HEAD", check=False)
    status = _git(
        "--no-optional-locks", "-C", folder, "status", "--porcelain", "--no-renames", "-z", "--", ".", check=False
    )
    changes = [(entry[:2], entry[3:].removeprefix(prefix)) for entry in status.stdout.split("\0") if entry]
    # Of what git does not know, only what is part of a release; git names a folder with its slash.
    there = {*found, *(f"{parent}/" for path in found for parent in _parents(path))}
    return Revision(commit, readable(tag.stdout.strip()), any(kind != "??" or name in there for kind, name in changes))


def _parents(path: str) -> Iterator[str]:
    while path := os.path.dirname(path):
        yield path


def _submodules(stages: str) -> list[str]:
    """Return the paths of the submodules in the output of ``git ls-files --stage -z``."""
    return [entry.partition("\t")[2] for entry in stages.split("\0") if entry.startswith("160000 ")]


def _is_empty(folder: str) -> bool:
    return os.path.isdir(folder) and not os.listdir(folder)


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
            parts.append(code_text(found))
    return "\n".join(parts)


def code_text(found: Findings) -> str:
    """Return the app's code as a part of the text that decides what is installed."""
    return repr(sorted(found.items()))


def text_once(text: str, cache: str) -> str:
    """Return a file inside ``cache`` that has this text."""

    def write(path: str) -> None:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    return once(os.path.join(cache, f"websockets-text-{digest(text)}"), write)


def checkout(repo: str, version: str, cache: str, src: str = "", exclude: Sequence[str] = ()) -> str:
    """Return a folder inside ``cache`` that is a work tree of a revision; all hosts of a run share it.

    :param version: a branch, tag or commit
    :param src: the app's folder in it: submodules beside it are not fetched
    :param exclude: as for :func:`scan`
    :raises InputError: if git cannot read the repository or a submodule, or does not know the revision
    """
    name = digest([repo, version, src, *exclude])
    return once(
        os.path.join(cache, f"websockets-{name}"), lambda folder: _check_out(repo, version, folder, src, exclude)
    )


def _check_out(repo: str, version: str, folder: str, src: str, exclude: Sequence[str]) -> None:
    _git("init", "--quiet", "--template=", folder)
    # A submodule's relative address starts at this one, and git-lfs asks it for the files.
    _git("-C", folder, "config", "remote.origin.url", repo)
    # A git server sends a single branch or tag; for a commit git may have to fetch everything. By the name that the
    # revision gets here, the server sends the tags of its commit too.
    found = "refs/websockets/version"
    shallow = _git("-C", folder, "fetch", "--quiet", "--depth=1", "--", repo, f"+{version}:{found}", check=False)
    if shallow.returncode != 0:
        found = version
        whole = _git("-C", folder, "fetch", "--quiet", "--update-head-ok", "--", repo, "+refs/*:refs/*", check=False)
        if whole.returncode != 0:
            raise InputError(problem("websockets_repo", no_password(repo), f"git cannot read it: {_words(whole)}"))
    parsed = _git("-C", folder, "rev-parse", "--verify", "--quiet", f"{found}^{{commit}}", check=False)
    if parsed.returncode != 0:
        remedy = f"{no_password(repo)} has no such branch, tag or commit; push it, or name another."
        raise InputError(problem("websockets_version", version, remedy))
    made = _git("-C", folder, "checkout", "--quiet", "--force", "--detach", parsed.stdout.strip(), check=False)
    if made.returncode != 0:
        raise InputError(problem("websockets_version", version, f"git cannot check it out: {_words(made)}"))
    top = os.path.normpath(src)
    submodules = _submodules(_git("-C", folder, "ls-files", "--stage", "-z").stdout)
    mine = {os.path.relpath(path, top): path for path in submodules if top == "." or _overlap(path, top)}
    left_out = _matched([f"{path}/x" for path in mine], exclude)
    wanted = [path for relative, path in mine.items() if f"{relative}/x" not in left_out]
    if wanted:
        asked = ["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1", "--", *wanted]
        fetched = _git("-C", folder, *asked, check=False)
        if fetched.returncode != 0:
            remedy = f"git cannot fetch its submodules ({few(wanted)}): {_words(fetched)}"
            raise InputError(problem("websockets_repo", no_password(repo), remedy))


def _overlap(one: str, other: str) -> bool:
    """Tell whether one of two relative paths is inside the other."""
    return os.path.commonpath([one, other]) in (one, other)


def _words(done: subprocess.CompletedProcess[str]) -> str:
    """Return what git has said, without passwords."""
    return str(readable(no_password(done.stderr).strip()))


def _git(
    *arguments: str, check: bool = True, stdin: str = "", needed_by: str = "websockets_repo"
) -> subprocess.CompletedProcess[str]:
    # A git hook that runs a deploy exports its own repository.
    environment = {name: value for name, value in os.environ.items() if name not in _REPOSITORY}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    # A revision has the same bytes on every control node, whatever its user has set.
    command = ["git", "-c", "core.autocrlf=false", "-c", "core.eol=lf", *arguments]
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
            env=environment,
        )
    except FileNotFoundError:
        raise InputError(f"{needed_by} needs git on the control node; install it.") from None
    if check and done.returncode != 0:
        raise InputError(f"git {' '.join(arguments[:3])} has failed on the control node: {_words(done)}")
    return done
