"""The lock file of an app - uv.lock, poetry.lock or pylock.toml - as requirements with hashes, which every pip can read.

Only the control node reads it: the hosts get the requirements.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from .inputs import InputError, no_password, problem
from .release import Findings

# {lock file: the command that makes it}
COMMANDS = {"uv.lock": "uv lock", "poetry.lock": "poetry lock", "pylock.toml": "pip lock ."}
# The command that makes a requirements.txt of what is in no package index.
_EXPORTS = {
    "uv.lock": "uv export --no-dev --no-emit-project --no-hashes --output-file requirements.txt",
    "poetry.lock": "poetry export --without-hashes --output requirements.txt",
    "pylock.toml": "pip freeze > requirements.txt",
}
# What asks for an extra or a group. A lock's markers may; pip's requirements do not know them.
_OPTIONAL = re.compile(
    r"""extra\s*(?P<is>==|!=)\s*(['"])[^'"]*\2|(['"])(?P<name>[^'"]*)\3\s+(?P<in>in|not\s+in)\s+(?P<what>extras|dependency_groups)"""
)
_TRUE, _FALSE = "python_version > '0'", "python_version < '0'"


@dataclass(frozen=True)
class Package:
    """A package of a lock: pip installs it where its marker is true, if its file has one of the hashes."""

    name: str
    version: str
    marker: str
    hashes: list[str]

    def __str__(self) -> str:
        """Return it as a requirement of pip's."""
        marker = f" ; {self.marker}" if self.marker else ""
        return " \\\n    ".join([f"{self.name}=={self.version}{marker}", *(f"--hash={one}" for one in self.hashes)])


@dataclass(frozen=True)
class Lock:
    """What a lock file says.

    :param name: the file
    :param python: the versions of Python that it is for, such as ``>=3.11``; empty if it does not say
    :param project: whether pip installs the app itself too
    """

    name: str
    packages: list[Package]
    python: str
    project: bool

    @property
    def text(self) -> str:
        """The requirements."""
        return "".join(f"{package}\n" for package in self.packages)

    def check(self, python: str) -> list[str]:
        """Return a message if the lock is not for this version of Python, such as ``3.13``."""
        try:
            wanted = SpecifierSet(self.python)
        except InvalidSpecifier:  # Poetry has others, such as ^3.11
            return []
        if any(wanted.contains(f"{python}.{patch}") for patch in range(100)):
            return []
        remedy = (
            f"it is for Python {self.python}, and the app would run with {python}; name another in websockets_python"
        )
        return [
            problem("websockets_src", self.name, f"{remedy}, or change requires-python and run {COMMANDS[self.name]}.")
        ]


def read(folder: str, found: Findings) -> Lock | None:
    """Return the lock of an app, None if it has none, or a requirements.txt, which goes before it.

    :raises InputError: if the role cannot use the lock, or a pyproject.toml has dependencies and there is none
    """
    if "requirements.txt" in found:
        return None
    project = _toml(folder, "pyproject.toml") if "pyproject.toml" in found else {}
    try:
        direct, is_package = list(_direct(project)), _is_package(project)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(problem("websockets_src", "pyproject.toml", f"{error}; correct it.")) from None
    there = [name for name in COMMANDS if name in found]
    if not there:
        if direct:
            commands = ", ".join(f"{command} ({name})" for name, command in COMMANDS.items())
            remedy = (
                f"it has dependencies, and there is no lock and no requirements.txt beside it; make one: {commands}."
            )
            raise InputError(problem("websockets_src", "pyproject.toml", remedy))
        return None
    if len(there) > 1:
        remedy = "these are several locks, and one decides what is installed; list the others in websockets_exclude."
        raise InputError(problem("websockets_src", ", ".join(there), remedy))
    name = there[0]
    lock = _toml(folder, name)
    try:
        packages, python = _FORMATS[name](lock)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        remedy = f"it cannot be read as a lock ({type(error).__name__}: {error}); make it again: {COMMANDS[name]}."
        raise InputError(problem("websockets_src", name, remedy)) from None
    for package in packages:
        if not package.hashes:
            _refuse(name, f"{package.name} {package.version} has no hash in it")
    _see_fresh(name, direct, packages)
    return Lock(name, sorted(packages, key=lambda one: (one.name, one.version)), python, is_package)


def _toml(folder: str, name: str) -> dict[str, Any]:
    try:
        with open(os.path.join(folder, name), "rb") as file:
            return tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(problem("websockets_src", name, f"it is not TOML ({error}); correct it.")) from None


def _refuse(name: str, why: str) -> None:
    """Refuse what is not a package of an index.

    :raises InputError: always
    """
    remedy = f"{why}, and the role installs only packages of an index; use a release of it, or a requirements.txt: {_EXPORTS[name]}."
    raise InputError(problem("websockets_src", name, remedy))


def _is_package(project: Mapping[str, Any]) -> bool:
    """Tell whether a project is a package itself, as uv and Poetry decide it."""
    tool = project.get("tool", {})
    told = tool.get("uv", {}).get("package", tool.get("poetry", {}).get("package-mode"))
    return bool("build-system" in project if told is None else told)


def _direct(project: Mapping[str, Any]) -> Iterator[Requirement]:
    """Yield what a project itself asks for."""
    for text in project.get("project", {}).get("dependencies", []):
        yield Requirement(text)
    for name, wanted in project.get("tool", {}).get("poetry", {}).get("dependencies", {}).items():
        if name != "python":
            # Poetry's own words for versions are its matter. A mapping may say that only some hosts need it.
            yield Requirement(name if isinstance(wanted, str) else f"{name}; {_TRUE}")


def _see_fresh(name: str, direct: Iterable[Requirement], packages: Iterable[Package]) -> None:
    """Refuse a lock that lacks what the project asks for.

    :raises InputError: for the first one that it lacks
    """
    there: dict[str, list[str]] = {}
    for package in packages:
        there.setdefault(canonicalize_name(package.name), []).append(package.version)
    for wanted in direct:
        versions = there.get(canonicalize_name(wanted.name), [])
        if not wanted.marker and not any(wanted.specifier.contains(version, prereleases=True) for version in versions):
            has = f"{wanted.name} {' and '.join(versions)}" if versions else f"no {wanted.name}"
            remedy = f"pyproject.toml asks for {wanted}, and the lock has {has}; run {COMMANDS[name]}."
            raise InputError(problem("websockets_src", name, remedy))


def _without_optional(marker: str, groups: Iterable[str] = ()) -> str:
    """Return a marker without questions for extras and groups: no extra is installed, and only these groups."""

    def answer(match: re.Match[str]) -> str:
        if match["is"]:
            return _FALSE if match["is"] == "==" else _TRUE
        wanted = match["what"] == "dependency_groups" and match["name"] in groups
        return _TRUE if wanted == (match["in"] == "in") else _FALSE

    return _OPTIONAL.sub(answer, marker)


# uv


def _uv(lock: Mapping[str, Any]) -> tuple[list[Package], str]:
    _see_version(lock["version"], 1)
    by_name: dict[str, list[dict[str, Any]]] = {}
    roots = []
    for package in lock.get("package", []):
        by_name.setdefault(package["name"], []).append(package)
        if {"virtual": ".", "editable": "."}.items() & package["source"].items():
            roots.append(package)
    members = lock.get("manifest", {}).get("members", [])
    if len(members) > 1 or len(roots) != 1:
        _refuse("uv.lock", f"it is the lock of a workspace ({', '.join(members)})")
    found = []
    for package, marker in _reached(roots[0], by_name):
        if package is roots[0]:
            continue
        if "registry" not in package["source"]:
            _refuse("uv.lock", f"{package['name']} is from {_pairs(package['source'])}")
        files = [*([package["sdist"]] if "sdist" in package else []), *package.get("wheels", [])]
        hashes = [file["hash"] for file in files if "hash" in file]
        found.append(Package(package["name"], package["version"], marker, hashes))
    return found, lock.get("requires-python", "")


def _reached(root: dict[str, Any], by_name: Mapping[str, list[dict[str, Any]]]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each package that a project needs, with the marker of the environments in which it does.

    A package is needed if all markers on one of the ways to it are true.
    """
    ways: dict[tuple[str, str, str], set[frozenset[str]]] = {}
    packages = {(name, one.get("version", "")): one for name, several in by_name.items() for one in several}
    start = (root["name"], root.get("version", ""), "")
    ways[start] = {frozenset()}
    to_do = [start]
    while to_do:
        name, version, extra = to_do.pop()
        package = packages[name, version]
        needs = package.get("optional-dependencies", {}).get(extra, []) if extra else package.get("dependencies", [])
        for needed in needs:
            marker = {_without_optional(needed["marker"])} if "marker" in needed else set()
            more = {way | marker for way in ways[name, version, extra]}
            of = needed.get("version") or by_name[needed["name"]][0].get("version", "")
            for wanted in ("", *needed.get("extra", [])):
                node = (needed["name"], of, wanted)
                known = ways.get(node, set())
                if (shortest := _shortest(known | more)) != known:
                    ways[node] = shortest
                    to_do.append(node)
    for (name, version), package in packages.items():
        if (name, version, "") in ways:
            yield package, _either(ways[name, version, ""])


def _shortest(ways: set[frozenset[str]]) -> set[frozenset[str]]:
    """Return the ways without those that ask for more than another one."""
    return {way for way in ways if not any(other < way for other in ways)}


def _either(ways: Iterable[frozenset[str]]) -> str:
    """Return the marker that is true if all markers of one of these ways are."""
    each = [" and ".join(f"({marker})" for marker in sorted(way)) for way in ways]
    return " or ".join(sorted(each)) if all(each) else ""


# Poetry


def _poetry(lock: Mapping[str, Any]) -> tuple[list[Package], str]:
    metadata = lock["metadata"]
    _see_version(metadata["lock-version"], 2)
    if metadata["lock-version"] == "2.0":
        raise ValueError("Poetry before 2.0 has made it")
    found = []
    for package in lock.get("package", []):
        if "main" not in package["groups"]:
            continue
        if package.get("source", {}).get("type", "legacy") != "legacy":  # an index other than PyPI
            _refuse("poetry.lock", f"{package['name']} is from {_pairs(package['source'])}")
        markers = package.get("markers", "")
        marker = markers if isinstance(markers, str) else markers.get("main", "")
        hashes = [file["hash"] for file in package["files"]]
        found.append(Package(package["name"], package["version"], _without_optional(marker), hashes))
    return found, metadata["python-versions"]


# PEP 751


def _pylock(lock: Mapping[str, Any]) -> tuple[list[Package], str]:
    _see_version(lock["lock-version"], 1)
    found = []
    for package in lock.get("packages", []):
        others = {key: package[key] for key in ("vcs", "directory", "archive") if key in package}
        if others.get("directory", {}).get("path") == ".":
            continue  # the app itself
        if others:
            (key, where), *_ = others.items()
            _refuse("pylock.toml", f"{package['name']} is from {key} {_pairs(where)}")
        files = [*([package["sdist"]] if "sdist" in package else []), *package.get("wheels", [])]
        hashes = [f"{kind}:{value}" for file in files for kind, value in file["hashes"].items()]
        marker = _without_optional(package.get("marker", ""), lock.get("default-groups", []))
        found.append(Package(package["name"], package["version"], marker, hashes))
    return found, lock.get("requires-python", "")


def _see_version(version: object, known: int) -> None:
    if str(version).split(".")[0] != str(known):
        raise ValueError(f"its version is {version}, and the role knows {known}")


def _pairs(source: Mapping[str, Any]) -> str:
    """Return where a package is from, for people."""
    return no_password(" ".join(f"{key} {value}" for key, value in source.items() if isinstance(value, str)))


_FORMATS = {"uv.lock": _uv, "poetry.lock": _poetry, "pylock.toml": _pylock}
