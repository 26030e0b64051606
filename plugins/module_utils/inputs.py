"""The inputs of one app: the role's variables, typed. The role's meta/argument_specs.yml says what they mean."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PREFIX = "websockets_"
APP_NAME = re.compile(r"[a-z][a-z0-9_-]*")
# Inputs that may hold a password. No result of a task has them.
HIDDEN = ("secrets", "pip_index_url", "gate_headers", "repo", "tls_key")
# Messages have this instead of a value that may be a password.
SECRET = "(hidden)"


class InputError(Exception):
    """The role cannot use one or more inputs; the message has a line for each problem."""


@dataclass(frozen=True)
class Inputs:
    """All inputs, without the prefix of their variables, in the order of the specs. No code changes them."""

    app: str
    src: str
    repo: str
    version: str
    exclude: list[str]
    command: str
    before_start: str
    before_start_on: str
    before_start_at_rollback: bool
    workers: dict[str, Any]
    environment: dict[str, Any]
    secrets: dict[str, Any]
    user: str
    numprocs: str
    stopwaitsecs: int
    replaces: str
    packages: list[str]
    python: str
    wheels: str
    pip_index_url: str
    pip_args: list[str]
    gate_path: str
    gate_headers: dict[str, Any]
    gate_message: str
    gate_timeout: int
    drain_timeout: int
    drain_interval: int
    drain_rate: int
    keep_releases: int
    rollback_to: str
    listen: list[str]
    server_name: list[str]
    path: str
    sticky: str
    ping_interval: int
    proxy_timeout: int
    message_size: int
    header_size: int
    nginx_server: str
    nginx_locations: dict[str, Any]
    access_log: str
    tls: str
    tls_certificate: str
    tls_key: str
    acme_directory: str
    acme_email: str
    listen_plain: list[str]
    hsts: int
    origins: list[str]
    origin_required: bool
    auth_request: str
    connections_per_address: int
    handshakes_per_address: int
    handshake_timeout: int
    body_size: int
    trusted_proxies: list[str]
    proxy_protocol: bool
    max_connections: int
    worker_shutdown_timeout: int
    sandbox: str
    cpu_scheduling: str
    serial: Any

    @classmethod
    def of(cls, variables: Mapping[str, Any]) -> Inputs:
        """Return the inputs from {variable: typed value}."""
        return cls(**{name.removeprefix(PREFIX): value for name, value in variables.items()})

    def shown(self) -> dict[str, Any]:
        """Return {name: value} of the inputs that a result may have: all but :data:`HIDDEN`."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in HIDDEN}


def no_password(text: str) -> str:
    """Return a text without the user names and passwords of its URLs."""
    # A token can be in the place of the user's name, and a password can contain a slash or an @.
    return re.sub(r"://\S*@", "://***@", text)


def problem(variable: str, value: object, remedy: str) -> str:
    """Return the message for an input that the role cannot use.

    :param remedy: what the role accepts, or what to do
    """
    return f"{variable} is {value!r}: {remedy}"


def stop_at(problems: Iterable[str]) -> None:
    """Raise an :class:`InputError` with these messages, if there are any."""
    if found := list(problems):
        raise InputError("\n".join(found))


def unknown(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return a message for each name that is not an input, with the input that is most like it."""
    problems = []
    short = {name.removeprefix(PREFIX): name for name in known}  # with the prefix, all names would be alike
    for name in sorted(set(names) - set(known)):
        near = difflib.get_close_matches(name.removeprefix(PREFIX), short, n=1, cutoff=0.6)
        hint = f"did you mean {short[near[0]]}?" if near else "see docs/variables.md for the inputs."
        problems.append(
            f"{name} is not an input of the role websockets: {hint}"
            " A variable of your own needs another prefix than websockets_."
        )
    return problems
