"""Which apps the variables describe: one by plain variables, or several by ``websockets_apps``, each by its own mapping."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from .inputs import HIDDEN, PREFIX, SECRET, problem

APPS, ONLY = f"{PREFIX}apps", f"{PREFIX}only"
# Variables of a run, and not of an app.
OF_RUN = ("apps", "only", "serial")
# Inputs that make sense for one app only. Beside websockets_apps they are refused: each of its apps would get them.
OWN = (
    *("app", "src", "exclude", "repo", "version", "command", "environment", "secrets", "user", "replaces"),
    *("before_start", "workers", "packages", "path"),
    *("gate_path", "gate_headers", "gate_message", "server_name", "nginx_server", "nginx_locations"),
    *("origins", "origin_required", "auth_request"),
)


def with_apps(variables: Mapping[str, Any], template: Callable[[str], Any]) -> Mapping[str, Any]:
    """Return the variables with a mapping in :data:`APPS`, which one template may stand for.

    The values in the mapping stay as they are: each is a template for its own app.
    """
    apps = variables.get(APPS)
    return {**variables, APPS: template(apps)} if isinstance(apps, str) else variables


def described(variables: Mapping[str, Any]) -> list[str]:
    """Return the names of the apps of :data:`APPS`, none if plain variables describe the app."""
    apps = variables.get(APPS)
    return list(apps) if isinstance(apps, Mapping) else []


def variables_of(app: str, variables: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    """Return the variables as they are for one app: its own mapping goes before plain ones, the command line before both.

    :param given: names of the variables that the command line has
    """
    own = variables[APPS][app] if app in described(variables) else {}
    mine = {f"{PREFIX}{name}": value for name, value in own.items()}
    return {**variables, **{name: value for name, value in mine.items() if name not in given}, f"{PREFIX}app": app}


def problems(variables: Mapping[str, Any], given: Collection[str], spec: Mapping[str, Any]) -> Iterator[str]:
    """Yield a message for each problem of what :data:`APPS` is made of, whatever its values are.

    :param spec: {variable: its option in the argument specs}
    """
    apps = variables[APPS]
    if not isinstance(apps, Mapping):
        on_the_line = f", which on the command line is -e '{{\"{APPS}\": {{...}}}}'" if isinstance(apps, str) else ""
        yield f"{APPS} is {_kind(apps)}: use a mapping from each app's name to its inputs{on_the_line}."
        return
    for app, own in apps.items():
        if not isinstance(own, Mapping):
            yield f"{APPS}.{app} is {_kind(own)}: use a mapping of its inputs, such as {{src: ~/{app}}}."
            continue
        for name in own:
            yield from _unknown(app, str(name), spec)
    if not apps:
        return
    names = ", ".join(map(str, apps))
    for name in OWN:
        variable = f"{PREFIX}{name}"
        if variables[variable] == spec[variable]["default"] or (
            variable in given and name != "app" and variables[ONLY]
        ):
            continue
        value = SECRET if name in HIDDEN else variables[variable]
        if name == "app":
            yield problem(
                variable, value, f"{APPS} has the names ({names}); leave it out. For one of them, use --app NAME."
            )
        else:
            yield problem(
                variable, value, f"it is for one app; with {APPS}, set it there as {name} of an app ({names})."
            )


def label(message: str, app: str, variables: Mapping[str, Any]) -> str:
    """Return a message with the names of variables as they are in :data:`APPS`, where they have to be set."""
    if app not in described(variables):
        return message
    message = re.sub(rf"(?m)^{PREFIX}app is", f"The name of {APPS}.{app} is", message)
    own = {*variables[APPS][app], *OWN} - {"app"}
    return re.sub(
        rf"\b{PREFIX}(\w+)", lambda match: f"{APPS}.{app}.{match[1]}" if match[1] in own else match[0], message
    )


def _unknown(app: str, name: str, spec: Mapping[str, Any]) -> Iterator[str]:
    known = [option.removeprefix(PREFIX) for option in spec]
    short = name.removeprefix(PREFIX)
    if short == "app" or (short in OF_RUN and name in known):
        yield f"{APPS}.{app}.{name} is not an input of one app: leave it out here."
    elif name not in known:
        near = difflib.get_close_matches(short, known, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}?" if near else "see docs/variables.md for the inputs."
        yield f"{APPS}.{app}.{name} is not an input: {hint}"


def _kind(value: object) -> str:
    """Return what a value is, without its content, which may be secret."""
    if value is None:
        return "empty"
    names = {str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return next((name for kind, name in names.items() if isinstance(value, kind)), "a list")
