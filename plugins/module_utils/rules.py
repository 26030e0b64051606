"""Rules for the inputs that the types in the role's meta/argument_specs.yml cannot express.

The action ``plan`` applies them on the control node, before the role changes a host. Every problem names the variable,
its value and what the role accepts.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import shlex
from collections.abc import Collection, Mapping
from typing import Any

from . import paths, scheduling, sizing
from .host import Host, Replaced
from .inputs import APP_NAME, HIDDEN, PREFIX, SECRET, InputError, Inputs, problem
from .release import MOST_PROCESSES, Release
from .site import (
    DEFAULT_PORTS,
    OF_RELEASE,
    WELL_KNOWN,
    Others,
    Site,
    both_families,
    covers,
    is_address,
    is_loopback,
    is_pem,
    listen_address,
    plain_given,
    tls_mode,
)
from .system import PROGRAMS

PLACEHOLDERS = ("socket", "venv", "release", "data", "ping_interval", "backlog")
# Unix socket paths: sun_path is 108 bytes with its terminating zero (unix(7)).
SOCKET_PATH_MAX = 107

_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")  # useradd(8)
# Debian policy 5.6.1. To apt, a - at the end means to remove the package.
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]*[a-z0-9+.](:[a-z0-9][a-z0-9-]+)?", re.ASCII)
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HOST_NAME = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*")
_HANDSHAKE = {"host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions"}
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# How a browser names the origin of a page (RFC 6454, 6.2).
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:(?P<port>[1-9][0-9]{0,4}))?", re.ASCII
)
# The names below a domain, which has two labels itself.
_ORIGIN_WILD = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://\*(\.[a-z0-9_-]+){2,}(:(?P<port>[1-9][0-9]{0,4}))?", re.ASCII
)
# Of what a token may be made of (RFC 6265, 4.1.1), this is what nginx's variable $cookie_NAME can be.
_STICKY = re.compile(r"none|address|cookie [A-Za-z0-9_]{1,64}")
_NETWORK = re.compile(r"[0-9A-Fa-f:.]+(/[0-9]{1,3})?", re.ASCII)
_EMAIL = re.compile(r"[^@\s,]+@[^@\s,]+\.[^@\s,]+")
_HTTP = r"http://([0-9.]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
_AUTH_URL = re.compile(_HTTP + r"/[\w./~%&=?+-]*", re.ASCII)
# What nginx can pass requests on to: an address, a Unix socket, or the upstream of an app.
_UPSTREAM_URL = re.compile(_HTTP, re.ASCII)
_UPSTREAM_SOCKET = re.compile(r"http://unix:/[\w./@+-]+", re.ASCII)
_UPSTREAM_APP = re.compile(rf"http://websockets_({APP_NAME.pattern})")
_NO_NAME = "nginx does not start if it cannot resolve a name."
# A path for the app, and a folder or a file of its own code.
_PATH = re.compile(r"/([\w.~@+-]+/)*", re.ASCII)
_OF_RELEASE = re.compile(re.escape(OF_RELEASE) + r"[\w./@+-]+", re.ASCII)
# Prefix and exact locations of nginx. "/" is not among them: it is the app's, if it has no other path.
_LOCATION = re.compile(r"((=|\^~) )?/[\w./~%@+-]+|= /", re.ASCII)
# The role replaces only names of this form, so that other braces, such as JSON's, stay as they are.
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
# A part of a command that a shell would take as it is, and what a shell would act on outside such parts.
_QUOTED = re.compile(r"""\\.|'[^']*'|"(?:\\.|[^"\\])*\"""", re.DOTALL)
_SHELL = re.compile(r"[;&|<>]+|`|\$(\{\w*\}?|[\w(@*#?$!]\w*)|(?<!\S)~\S*")
# Commands that are in the shell itself, and that people begin a command line with.
_BUILTINS = {".", "cd", "eval", "exec", "export", "set", "source", "ulimit", "umask", "unset"}

# {input: (its smallest value, its largest value)}. nginx's limit_conn counts no further than 65535.
RANGES = {
    "stopwaitsecs": (1, 86400),
    "gate_timeout": (1, 3600),
    "drain_timeout": (0, 86400),
    "drain_interval": (0, 3600),
    "drain_rate": (1, 100000),
    "keep_releases": (1, 1000),
    "ping_interval": (1, 86400),
    "proxy_timeout": (1, 604800),
    "max_connections": (16, 65535),
    "message_size": (1, 1048576),
    "header_size": (1024, 131072),
    "handshake_timeout": (1, 3600),
    "body_size": (0, 1 << 30),
    "connections_per_address": (1, 65535),
    "handshakes_per_address": (1, 100000),
    "hsts": (0, 315360000),
    "worker_shutdown_timeout": (0, 604800),
}

# Variables that the library websockets reads. The role sets none of them.
OF_THE_LIBRARY = (
    *("WEBSOCKETS_MAX_BODY_SIZE", "WEBSOCKETS_MAX_FRAGMENTS", "WEBSOCKETS_MAX_LINE_LENGTH", "WEBSOCKETS_MAX_LOG_SIZE"),
    *("WEBSOCKETS_MAX_NUM_HEADERS", "WEBSOCKETS_MAX_REDIRECTS", "WEBSOCKETS_SERVER", "WEBSOCKETS_USER_AGENT"),
    *("WEBSOCKETS_BACKOFF_FACTOR", "WEBSOCKETS_BACKOFF_INITIAL_DELAY"),
    *("WEBSOCKETS_BACKOFF_MAX_DELAY", "WEBSOCKETS_BACKOFF_MIN_DELAY"),
)
# Inputs of a rollback or a removal itself. All others are those of the app's last deploy.
OF_A_ROLLBACK = (
    *("gate_timeout", "drain_timeout", "drain_interval", "keep_releases", "rollback_to", "before_start_at_rollback"),
)
# {key of a worker: (its smallest value, its largest value)}
_OF_WORKER = {
    "numprocs": (1, MOST_PROCESSES),
    "stopwaitsecs": RANGES["stopwaitsecs"],
    "runs_for": RANGES["gate_timeout"],
}
_WORKER_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
# {type in the argument specs: what to write}
_TYPES = {"int": "a whole number", "bool": "true or false", "str": "a string", "list": "a list", "dict": "a mapping"}


_OWN_VALUE = object()


class _Problems(list[str]):
    """A list of messages; :meth:`add` makes a message from an input's name without its prefix."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self._inputs = inputs

    def add(self, name: str, remedy: str, value: object = _OWN_VALUE) -> None:
        self.append(problem(PREFIX + name, getattr(self._inputs, name) if value is _OWN_VALUE else value, remedy))


def wrong_type(variable: str, value: object, type: str, elements: str = "") -> str:
    """Return the message for an input of another type than the argument specs say."""
    name = variable.removeprefix(PREFIX)
    low, high = RANGES.get(name, (None, None))
    what = _TYPES[type] + (f" of {low} to {high}" if high else " of strings" if elements else "")
    return problem(variable, SECRET if name in HIDDEN else value, f"use {what}.")


def check_name(app: str) -> list[str]:
    """Return a message if no app can have this name."""
    remedy = "use lower-case letters, digits, - and _, starting with a letter."
    return [] if APP_NAME.fullmatch(app) else [problem(f"{PREFIX}app", app, remedy)]


def check_numbers(inputs: Inputs) -> list[str]:
    """Return a message for each number that is too small or too large."""
    problems = _Problems(inputs)
    for name, (low, high) in RANGES.items():
        if not low <= getattr(inputs, name) <= high:
            problems.add(name, f"use {low} to {high}.")
    return problems


def check_names(inputs: Inputs, names: Collection[str]) -> list[str]:
    """Return a problem if nginx serves the app by other host names than the inputs have, given these names."""
    problems = _Problems(inputs)
    if names and set(names) != {name.lower() for name in inputs.server_name}:
        remedy = f"nginx's site has to stay as it is, and that of {inputs.app} has {', '.join(names)}"
        problems.add("server_name", f"{remedy}; give the variables of its last deploy, or deploy it once more.")
    return problems


def check(inputs: Inputs, code: bool = True) -> list[str]:
    """Return a message for each problem that an input has by itself.

    :param code: whether the app's code is needed
    """
    problems = _Problems(inputs)
    _check_app(inputs, problems)
    problems += check_numbers(inputs)
    if inputs.ping_interval >= inputs.proxy_timeout:
        remedy = f"use more than websockets_ping_interval ({inputs.ping_interval})."
        problems.add("proxy_timeout", f"nginx would cut idle clients between two pings; {remedy}")
    if code:
        _check_code(inputs, problems)
    _check_command(inputs, problems)
    _check_workers(inputs, problems)
    _check_environment(inputs, problems, "environment")
    _check_environment(inputs, problems, "secrets")
    _check_gate(inputs, problems)
    _check_addresses(inputs, problems)
    _check_proxies(inputs, problems)
    _check_own_lines(inputs, problems)
    return problems


def check_replaces(inputs: Inputs, apps: Collection[str]) -> list[str]:
    """Return a message if this app cannot come in the place of another one.

    :param apps: names of the apps that the variables describe
    """
    problems, old = _Problems(inputs), inputs.replaces
    if old and not APP_NAME.fullmatch(old):
        problems.add("replaces", "use the name that the app had: lower-case letters, digits, - and _.")
    elif old == inputs.app:
        problems.add("replaces", "this is the app's own name; use the name that it had, or leave this out.")
    elif old in apps:
        problems.add("replaces", "the variables still describe this app; take it out of websockets_apps.")
    return problems


def check_site(inputs: Inputs, site: Site) -> list[str]:
    """Return a message for each problem of the site that follows from the inputs; :func:`check` has passed them."""
    problems = _Problems(inputs)
    _check_tls(inputs, site, problems)
    _check_origins(inputs, site, problems)
    return problems


def warnings(inputs: Inputs) -> list[str]:
    """Return a message for each input that the role takes, and that is less than it may seem."""
    pages = {
        "null": "every site can make its pages send this origin, by an iframe with the attribute sandbox",
        "file://": "every HTML file sends this origin that a visitor opens from a disk, such as a download",
    }
    remedy = "The app itself has to know its clients, by a token and not by a cookie."
    return [
        problem(f"{PREFIX}origins", origin, f"{why}. {remedy}")
        for origin, why in pages.items()
        if origin in inputs.origins
    ]


def _check_app(inputs: Inputs, problems: _Problems) -> None:
    problems += check_name(inputs.app)
    if not _USER.fullmatch(inputs.user):
        remedy = "use a user name of at most 32 lower-case letters, digits, - and _, starting with a letter."
        problems.add("user", remedy)
    elif inputs.user == "root":
        problems.add("user", "the app must not run as root; name a user of its own.")
    numprocs = inputs.numprocs
    if numprocs != "auto" and not (re.fullmatch("[0-9]{1,3}", numprocs) and 1 <= int(numprocs) <= MOST_PROCESSES):
        problems.add("numprocs", f"use 1 to {MOST_PROCESSES}, or auto for one process per core.")


def _check_code(inputs: Inputs, problems: _Problems) -> None:
    if inputs.repo:
        if not re.match(r"/|~|[^/]+:", inputs.repo):
            problems.add("repo", "use a URL, user@host:path or an absolute path.")
        if not inputs.version:
            problems.add("version", "name a branch, tag or commit of websockets_repo.")
        if inputs.src.startswith("/") or ".." in inputs.src.split("/"):
            problems.add("src", "with websockets_repo, name a folder inside the repository.")
    elif not inputs.src:
        problems.add("src", "name the folder of the app on the control node, or set websockets_repo.")
    elif inputs.version != "HEAD":
        problems.add("version", "a revision needs a repository; set websockets_repo, or leave this out.")
    for pattern in inputs.exclude:
        if re.search(r"[\x00\n]", pattern):
            problems.add("exclude", "use patterns as in a .gitignore, each on one line.", pattern)
    for package in inputs.packages:
        if not _PACKAGE.fullmatch(package):
            remedy = "use names of Debian packages such as libpq5 or libpq5:amd64, without versions and options."
            problems.add("packages", remedy, package)
    if not re.fullmatch(r"/.+|3\.([1-9][0-9]|9)", inputs.python):
        remedy = 'use the absolute path of a Python interpreter on the host, or a version in quotes, such as "3.12".'
        problems.add("python", remedy)
    if inputs.pip_index_url and not re.match(r"(https?|file)://[^\s]+$", inputs.pip_index_url):
        problems.add("pip_index_url", "use an http, https or file URL.", SECRET)
    for argument in inputs.pip_args:
        if "\n" in argument or not argument:
            problems.add("pip_args", "use arguments that are not empty and have no line break.", argument)


def _check_command(inputs: Inputs, problems: _Problems) -> None:
    if inputs.before_start:
        _check_line("before_start", inputs.before_start, PLACEHOLDERS[1:], problems)
    texts = [inputs.command, *map(str, inputs.environment.values())]
    if _check_line("command", inputs.command, PLACEHOLDERS, problems) and not any("{socket}" in text for text in texts):
        remedy = "the app has to know its Unix socket; use {socket} here or in websockets_environment."
        problems.add("command", remedy)


def _check_line(name: str, command: str, placeholders: Collection[str], problems: _Problems) -> bool:
    """Add the problems of a command line; return whether it is one at all.

    :param name: the input that has it
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        problems.add(name, f"it cannot be split into words ({error}); close its quotes.", command)
        return False
    if not words or re.search(r"[\x00\n]", command):
        problems.add(name, "use one line with a program and its arguments.", command)
        return False
    _check_shell(name, command, words[0], problems)
    for placeholder in _PLACEHOLDER.findall(command):
        if placeholder not in placeholders:
            known = ", ".join(f"{{{known}}}" for known in placeholders)
            problems.add(name, f"{{{placeholder}}} is not a placeholder; use {known}.", command)
    return True


def _check_shell(name: str, command: str, program: str, problems: _Problems) -> None:
    """Add a problem for what only a shell understands.

    :param name: the input that has the command
    :param program: its first word
    """
    start = "the role starts the program without a shell"
    unquoted = _QUOTED.sub("_", command)
    variable, equals, _ = unquoted.split()[0].partition("=")
    if equals and _ENVIRONMENT_NAME.fullmatch(variable):
        problems.add(name, f"{start}; put the variable {variable} into websockets_environment.", command)
    elif program == "exec":
        problems.add(name, f"{start}; leave exec out.", command)
    elif found := program if program in _BUILTINS else (match := _SHELL.search(unquoted)) and match[0]:
        problems.add(
            name,
            f"{start}, and {found} means something only to a shell. Write sh -c '...' around the whole line to have one"
            " (with exec before the last program), or quotes around what is a plain argument.",
            command,
        )


def _check_workers(inputs: Inputs, problems: _Problems) -> None:
    known = ("command", *_OF_WORKER)
    for name, worker in inputs.workers.items():
        if not isinstance(name, str) or not _WORKER_NAME.fullmatch(name):
            remedy = "name a worker by at most 32 lower-case letters, digits and _, starting with a letter."
            problems.add("workers", remedy, name)
            continue
        if not isinstance(worker, Mapping):
            problems.add(f"workers.{name}", f"use a mapping of {', '.join(known)}.", worker)
            continue
        for key in worker:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.6)
                hint = f"did you mean {near[0]}?" if near else f"it can have {', '.join(known)}."
                problems.append(f"{PREFIX}workers.{name}.{key} is not an input of a worker: {hint}")
        _check_worker(f"workers.{name}", worker, problems)


def _check_worker(name: str, worker: Mapping[str, Any], problems: _Problems) -> None:
    command = worker.get("command", "")
    if not isinstance(command, str):
        problems.add(f"{name}.command", "use a string.", command)
    elif "{socket}" in command:
        problems.add(f"{name}.command", "a worker serves no clients and has no socket; leave {socket} out.", command)
    else:
        _check_line(f"{name}.command", command, PLACEHOLDERS[1:], problems)
    for key, (low, high) in _OF_WORKER.items():
        number = worker.get(key, low)
        if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
            problems.add(f"{name}.{key}", f"use a whole number of {low} to {high}.", number)


def _check_environment(inputs: Inputs, problems: _Problems, variable: str) -> None:
    for name, value in getattr(inputs, variable).items():
        shown = {name: SECRET if variable == "secrets" else value}
        if not isinstance(name, str) or not _ENVIRONMENT_NAME.fullmatch(name):
            problems.add(variable, "use names of letters, digits and _ that do not start with a digit.", name)
        elif name.startswith(("WEBSOCKETS_", "SUPERVISOR_")) and name not in OF_THE_LIBRARY:
            near = difflib.get_close_matches(name.upper(), OF_THE_LIBRARY, n=1, cutoff=0.8)
            hint = f"did you mean {near[0]}?" if near else "the role or Supervisor sets this name; use another."
            problems.add(variable, hint, name)
        elif isinstance(value, bool) or not isinstance(value, (str, int, float)):
            problems.add(variable, "use a string or a number; put anything else in quotes.", shown)
        elif "\0" in str(value):
            problems.add(variable, "a value cannot contain a zero byte.", shown)
        elif variable == "secrets" and name in inputs.environment:
            problems.add("secrets", "it is in websockets_environment as well; set it in one of them.", name)


def _check_gate(inputs: Inputs, problems: _Problems) -> None:
    path = inputs.gate_path
    if path == inputs.path:
        pass  # the default
    elif not path.startswith("/") or not path.isascii() or re.search(r"[\x00-\x20\x7f]", path):
        problems.add("gate_path", "use a path that starts with / and has no spaces; encode other characters as %XX.")
    elif _is_path(inputs.path) and not f"{path.partition('?')[0]}/".startswith(inputs.path):
        remedy = f"the app gets only what is below websockets_path ({inputs.path}); use a path below it."
        problems.add("gate_path", remedy)
    for name, value in inputs.gate_headers.items():
        if not _HEADER_NAME.fullmatch(str(name)):
            problems.add("gate_headers", "use header names such as Origin.", name)
        elif str(name).lower() in _HANDSHAKE:
            problems.add("gate_headers", "the handshake has this header already; leave it out.", name)
        elif not isinstance(value, (str, int)) or re.search(r"[\x00-\x1f\x7f]", str(value)):
            problems.add("gate_headers", "use a string on one line as a header's value.", {name: SECRET})
    if len(inputs.gate_message.encode()) > 65535:
        problems.add("gate_message", "use at most 65535 bytes.", inputs.gate_message[:20] + "…")


def _check_addresses(inputs: Inputs, problems: _Problems) -> None:
    if not inputs.listen:
        problems.add("listen", "name at least one address, such as 443.")
    plain = plain_given(inputs)
    for name, listens in (("listen", inputs.listen), ("listen_plain", plain if plain != ["none"] else [])):
        for at in listens:
            try:
                listen_address(at)
            except ValueError:
                problems.add(name, "use PORT, ADDRESS:PORT or [ADDRESS]:PORT with a port of 1 to 65535.", at)
    if not inputs.server_name:
        problems.add("server_name", "name at least one host name.")
    for name in inputs.server_name:
        if re.fullmatch(r"[*_.-]+", name):
            remedy = "nginx gives it no meaning, and any other name is refused by a server of the role's own."
            problems.add(
                "server_name", f"{remedy} Name what clients use, such as ws.example.com or *.example.com.", name
            )
        elif re.fullmatch(r"[^:]+:[0-9]+", name):
            problems.add("server_name", "leave out the port, which is that of websockets_listen.", name)
        elif not _HOST_NAME.fullmatch(name) or len(name) > 253:
            problems.add("server_name", "use host names such as ws.example.com or *.example.com.", name)
    if not _STICKY.fullmatch(inputs.sticky):
        remedy = "use none, address, or cookie NAME with a name of at most 64 letters, digits and _ that the app does not use."
        problems.add("sticky", remedy)
    if not _is_path(inputs.path):
        problems.add("path", "use / or a path that starts and ends with /, such as /ws/.")
    if inputs.auth_request and not _is_url(_AUTH_URL, inputs.auth_request):
        problems.add("auth_request", f"use http://ADDRESS:PORT/path with an IP address: {_NO_NAME}")


def _is_path(path: str) -> bool:
    """Tell whether this can be the path of an app. nginx compares it with a request's path, which has no . and .. any more."""
    return bool(_PATH.fullmatch(path)) and not {".", ".."} & {*path.split("/")} and "/.websockets" not in path


def _is_url(pattern: re.Pattern[str], url: str) -> bool:
    """Tell whether this is such a URL, with an IP address and a port."""
    match = pattern.fullmatch(url)
    if not match or not is_address(match[1].strip("[]")):
        return False
    return 1 <= int((match[2] or ":80")[1:]) <= 65535


def _check_proxies(inputs: Inputs, problems: _Problems) -> None:
    for proxy in inputs.trusted_proxies:
        try:
            network = ipaddress.ip_network(proxy if _NETWORK.fullmatch(proxy) else "")
        except ValueError:
            remedy = "use addresses and networks such as 192.0.2.10, 10.0.0.0/8 or 2001:db8::/32."
            problems.add("trusted_proxies", remedy, proxy)
            continue
        if network.prefixlen == 0:
            remedy = "it covers all addresses, so any client could forge its address; use the proxies' own network."
            problems.add("trusted_proxies", remedy, proxy)
    if inputs.proxy_protocol and not inputs.trusted_proxies:
        remedy = "name the proxies that speak it in websockets_trusted_proxies; nginx takes clients' addresses only from them."
        problems.add("proxy_protocol", remedy)


def _check_own_lines(inputs: Inputs, problems: _Problems) -> None:
    mine = {inputs.path, f"^~ {inputs.path}", f"= {inputs.path.rstrip('/')}"} if _is_path(inputs.path) else {"/"}
    for path, value in inputs.nginx_locations.items():
        is_path = isinstance(path, str) and (_LOCATION.fullmatch(path) or path == "/") and "/.websockets" not in path
        if not is_path or path in mine:
            remedy = (
                f"use a path such as /static/, = /robots.txt or = /; the app has {inputs.path} itself, and the role has"
                " /.websockets."
            )
            problems.add("nginx_locations", remedy, path)
        elif not isinstance(value, str) or not value.strip():
            remedy = (
                "use nginx's lines for this location, or the absolute path of a folder of static files on the host."
            )
            problems.add("nginx_locations", remedy, {path: value})
        elif remedy := _wrong_upstream(value.rstrip()) or _wrong_folder(path, value.rstrip()):
            problems.add("nginx_locations", remedy, {path: value})
        elif value.startswith(("/", OF_RELEASE)) and not path.startswith("= ") and not path.endswith("/"):
            # Without it, nginx would serve /static../x from beside the folder.
            problems.add("nginx_locations", "end the path with /, because its value is a folder.", path)


def _wrong_upstream(value: str) -> str:
    """Return the remedy for a value that is a URL which nginx cannot pass requests on to, empty for any other."""
    if not re.match(r"\w+://", value) or _UPSTREAM_SOCKET.fullmatch(value) or _UPSTREAM_APP.fullmatch(value):
        return ""
    if _is_url(_UPSTREAM_URL, value):
        return ""
    if _is_url(_UPSTREAM_URL, value.rstrip("/")):
        return "leave out the last slash: nginx passes on the path that the client has asked for."
    return (
        "use http://ADDRESS:PORT with an IP address and without a path, http://unix:/PATH of a socket, or"
        f" http://websockets_APP for an app on this host: {_NO_NAME}"
    )


def _wrong_folder(path: str, value: str) -> str:
    """Return the remedy for a value that is a folder or a file which nginx cannot serve, empty for any other."""
    if value.startswith("/") and not re.fullmatch(r"[\w./@+-]+", value):
        return "use only letters, digits, _ . / @ + and - in a folder's path; nginx's own lines do not start with /."
    if not value.startswith("{"):
        return ""
    parts = value.removeprefix(OF_RELEASE).rstrip("/").split("/")
    if not _OF_RELEASE.fullmatch(value) or {"", ".", ".."} & {*parts}:
        return (
            "use {release}/ and the path of a folder in the app's folder, such as {release}/public, of letters, digits,"
            " _ . @ + and -."
        )
    if any(part.startswith(".") and part != WELL_KNOWN for part in parts):
        return "nginx serves no name that starts with a dot, such as .env; use another folder."
    if path.startswith("= ") and value.endswith("/"):
        return "a path with = is one file; name it without a slash at its end."
    return ""


def _check_origins(inputs: Inputs, site: Site, problems: _Problems) -> None:
    for origin in inputs.origins:
        match = (_ORIGIN_WILD if "*" in origin else _ORIGIN).fullmatch(origin)
        default = match and str(DEFAULT_PORTS.get(match["scheme"])) == match["port"]
        if origin not in ("*", "null", "file://") and (not match or default or int(match["port"] or 0) > 65535):
            remedy = (
                "use origins as browsers send them, such as https://www.example.com or http://localhost:3000: in lower"
                " case, without a path, and without the scheme's default port."
            )
            if "*" in origin:
                remedy = (
                    "write https://*.example.com for all names below example.com: one * in front of a domain of two labels"
                    " or more, in lower case, without a path, and without the scheme's default port."
                )
            problems.add("origins", remedy, origin)
    any_origin = "*" in inputs.origins
    if any_origin and len(inputs.origins) > 1:
        problems.add("origins", 'use ["*"] alone; it allows the pages of all sites.')
    if any_origin and inputs.origin_required:
        problems.add("origin_required", "websockets_origins allows all origins; list some there, or leave this out.")
    wild = [name for name in inputs.server_name if name.startswith("*")]
    if wild and not inputs.origins:
        remedy = "does not say which pages may connect; list their origins, such as https://*.example.com, or use"
        remedy += ' ["*"] to allow all.'
        problems.add("origins", f"{wild[0]} of websockets_server_name {remedy}")
    for name, value in inputs.gate_headers.items():
        if str(name).lower() == "origin" and not site.lets_in(str(value)):
            allowed = ", ".join(filter(None, site.origins))
            remedy = (
                f"nginx would refuse this origin; use one that it allows ({allowed}), or change websockets_origins."
            )
            problems.add("gate_headers", remedy, {name: value})


def _check_tls(inputs: Inputs, site: Site, problems: _Problems) -> None:
    mode = tls_mode(inputs)
    if not inputs.tls and not all(map(is_loopback, inputs.listen)):
        remedy = (
            f"nginx listens on more than loopback (websockets_listen is {', '.join(inputs.listen)}). Use acme (a certificate from"
            " an authority such as Let's Encrypt), files (a certificate of your own), self-signed (a certificate for"
            " tests), or none (a proxy in front speaks TLS, or you trust the network)."
        )
        problems.add("tls", remedy)
    for name, what in (("tls_certificate", "certificate"), ("tls_key", "key")):
        value = getattr(inputs, name)
        shown = SECRET if what == "key" and value else value
        if mode != "files" and value:
            problems.add(name, "only websockets_tls: files uses it; leave it out.", shown)
        elif mode == "files" and not (is_pem(value) or re.fullmatch(r"/[\w./@+-]+", value)):
            problems.add(name, f"use the {what}'s absolute path on the host, or its PEM text.", shown)
    if mode == "files" and is_pem(inputs.tls_certificate) != is_pem(inputs.tls_key):
        remedy = "give the certificate and its key in the same way, as paths or as PEM text."
        problems.add("tls_key", remedy, SECRET)
    if mode == "none" and plain_given(inputs) not in ([], ["none"]):
        problems.add(
            "listen_plain",
            "without TLS nginx speaks plain HTTP at websockets_listen; leave this out, or set websockets_tls.",
            ", ".join(inputs.listen_plain),
        )
    if mode == "none" and inputs.hsts:
        problems.add("hsts", "it tells browsers to use TLS only; set websockets_tls, or leave this out.")
    secure, plain = both_families(inputs.listen), [server.listen for server in site.plain]
    both = [at for at in plain if listen_address(at) in map(listen_address, secure)]
    if both:
        problems.add("listen_plain", "nginx speaks TLS there (websockets_listen); use another port.", both[0])
    for name, listens, others in (("listen", secure, secure), ("listen_plain", plain, [*secure, *plain])):
        for at in listens:
            # Both have options, for which nginx would bind both, and the kernel lets it bind one.
            for wide in (other for other in others if covers(other, at)):
                problems.add(name, f"{wide} has all addresses of this port already; leave one of them out.", at)
    if not re.fullmatch(r"https://[^\s'\"]+", inputs.acme_directory):
        problems.add("acme_directory", "use the https URL of an authority's directory.")
    if inputs.acme_email and not _EMAIL.fullmatch(inputs.acme_email):
        problems.add("acme_email", "use an address such as ops@example.com.")
    if mode == "acme":
        if not site.plain:
            problems.add("listen_plain", "the authority connects to this host over plain HTTP; use 80.", "none")
        for name in inputs.server_name:
            if name.startswith("*.") or "." not in name or is_address(name):
                remedy = "an authority that asks over HTTP cannot check this name; use one such as ws.example.com."
                problems.add("server_name", remedy, name)


def check_source(inputs: Inputs, site: Site, files: Collection[str]) -> list[str]:
    """Return a message for each problem of the app's files.

    :param files: the relative paths of all of them
    """
    problems = _Problems(inputs)
    if not files:
        problems.add("repo" if inputs.repo else "src", "it has no files for a release; name the folder of the app.")
    workers = {f"workers.{name}.command": worker["command"] for name, worker in inputs.workers.items()}
    for name, command in {"command": inputs.command, **workers}.items():
        for word in shlex.split(command):
            # A word with a space in it is a line for a shell: sh -c 'exec python app.py'.
            if re.fullmatch(r"[^/{-]\S*\.py", word) and word not in files:
                there = ", ".join(sorted(files)[:5])
                remedy = f"there is no {word} in the app's folder ({inputs.src or '.'}), which has {there}."
                problems.add(name, remedy, command)
    # A command before the start may make the others.
    for value, page in site.pages.items() if not inputs.before_start else ():
        if not (page.source in files if page.file else any(file.startswith(f"{page.source}/") for file in files)):
            what = "file" if page.file else "folder"
            remedy = f"there is no {what} {page.source} in the app's folder ({inputs.src or '.'})."
            problems.add("nginx_locations", remedy, value)
    return problems


def check_data(inputs: Inputs, release: Release, host: Host) -> list[str]:
    """Return a message if a release could not use the app's data, because it is another user's."""
    if not release.data:
        return []
    problems = _Problems(inputs)
    if release.user == "data":
        problems.add("user", "the user's home would be the folder of {data}; use another user.", release.user)
    elif host.data_owner not in ("", release.user):
        remedy = (
            f"{release.data}, which is {{data}}, belongs to {host.data_owner}, and only that user may use it. Keep the user, or"
            f" give its files to {release.user} on the host: chown -R {release.user} {release.data}. From then on the"
            " release that is live cannot use them, until this one is."
        )
        problems.add("user", remedy, release.user)
    return problems


def check_paths(inputs: Inputs, release: Release) -> list[str]:
    """Return a message if a Unix socket's path is longer than :data:`SOCKET_PATH_MAX` bytes."""
    problems = _Problems(inputs)
    sockets = [path for process in release.processes for path in (process.socket, process.peer)]
    longest = max(sockets, key=len)
    if len(longest.encode()) > SOCKET_PATH_MAX:
        remedy = (
            f"the path of its Unix socket, {longest}, has {len(longest.encode())} bytes of at most {SOCKET_PATH_MAX}"
        )
        problems.add("app", f"{remedy}; use a shorter name.")
    return problems


def check_upstreams(inputs: Inputs, apps: Collection[str]) -> list[str]:
    """Return a message for each app to which nginx is to pass requests on, and which it does not know.

    :param apps: the apps that nginx serves on this host, or that this run has deployed before
    """
    problems = _Problems(inputs)
    for path, value in inputs.nginx_locations.items():
        other = _UPSTREAM_APP.fullmatch(str(value).rstrip())
        if other and other[1] not in {inputs.app, *apps}:
            remedy = f"{other[1]} is not on this host yet; deploy it first, or name it before {inputs.app} in"
            problems.add("nginx_locations", f"{remedy} websockets_apps.", {path: value})
    return problems


def check_removal(inputs: Inputs, host: Host) -> list[str]:
    """Return a message if nginx passes requests on to the app from elsewhere: nginx would refuse to go on without it."""
    problems = _Problems(inputs)
    if host.used_by:
        users = " and ".join(host.used_by)
        remedy = f"nginx passes requests on to it from {users}; change or remove that first."
        problems.add("app", remedy)
    return problems


def check_run(inputs: Inputs, release: Release, deployed: Mapping[str, str]) -> list[str]:
    """Return a problem if this run has given the name to another app, given {app: release} of what it has planned."""
    problems = _Problems(inputs)
    if deployed.get(inputs.app, release.id) != release.id:
        problems.add("app", "another app of this run has this name; use another name.")
    return problems


def check_platform(distribution: str, platform: str, platforms: Mapping[str, Any]) -> list[str]:
    """Return a message if the role cannot serve a host of this distribution.

    :param platform: which of the platforms it is or is like, empty if none
    :param platforms: the role's platforms; those that the tests run on have a ``name``
    """
    if platform:
        return []
    name = distribution or "A distribution without os-release(5)"
    return [f"{name} is not supported: use {_tested(platforms, 'or')}, or a distribution that is made from Debian."]


def untested(distribution: str, platform: str, platforms: Mapping[str, Any]) -> list[str]:
    """Return a warning if the role serves a host of this distribution without any test on one; parameters as above."""
    if "name" in platforms[platform]:
        return []
    on = _tested(platforms, "and")
    return [f"The role's tests have not run on {distribution}, only on {on}. The role treats it as Debian."]


def _tested(platforms: Mapping[str, Any], word: str) -> str:
    return f" {word} ".join(one["name"] for one in platforms.values() if "name" in one)


def unreadable(host: Host, to_be: Release) -> list[str]:
    """Return a warning if the record of the live release cannot be read, and it gets a new one or is replaced."""
    if not host.live or host.live in host.releases:
        return []
    what = "writes it again" if host.live == to_be.id else f"puts {to_be.id} in its place"
    path = Release.of(to_be.app, host.live).path
    return [
        f"{path}/release.json, the record of the live release, cannot be read. It serves meanwhile; this run {what}."
    ]


def check_host(inputs: Inputs, site: Site, host: Host, numprocs: int) -> list[str]:
    """Return the problems that only the host can tell, if it is to run so many processes."""
    problems = _Problems(inputs)
    if not host.python:
        remedy = "the host has no Python >= 3.9 at this path; install it, or use /usr/bin/python3."
        if not inputs.python.startswith("/"):
            remedy = f"the host has no python{inputs.python} in {' or '.join(PROGRAMS.split(':'))}; install it there"
            remedy += " (docs/packages.md), or give the path of one."
        problems.add("python", remedy)
    _check_neighbours(inputs, site, host, problems)
    if host.certificate.problem:
        problems.append(f"websockets_tls_{host.certificate.about} (on the host): {host.certificate.problem}")
    mine = {claim for server in site.servers for claim in server.claims()}
    for whose, theirs in host.claims.items():
        # By the name: an app has it at both families of a port, and perhaps at several ports.
        taken = {name: address for address, name in sorted(claim.split(" ") for claim in mine & set(theirs))[::-1]}
        for name, address in sorted(taken.items()):
            owner = f"the site in {whose}" if "/" in whose else f"the app {whose}"
            remedy = f"{owner} has this name at {address} already; use another name, or another port in"
            instead = "" if "/" in whose else f" If this app comes in its place, set websockets_replaces to {whose}."
            problems.add("server_name", f"{remedy} websockets_listen.{instead}", name)
    if host.replaced:
        _check_replaced(inputs, site, host, host.replaced, problems)
    if inputs.cpu_scheduling == scheduling.BATCH and host.init == "systemd" and not host.batch:
        # systemd would not start the services.
        problems.add("cpu_scheduling", "this host, perhaps a container, does not allow it; use other.")
    for remedy in sizing.shortcomings(inputs.max_connections, numprocs, host.limits):
        problems.add("max_connections", remedy)
    return problems


def _check_replaced(inputs: Inputs, site: Site, host: Host, old: Replaced, problems: _Problems) -> None:
    lost = sorted(set(old.claims) - {claim for server in site.servers for claim in server.claims()})
    if lost:
        address, name = lost[0].split(" ")
        words = f"that app serves {name} at {address}, and {inputs.app} would not; give {inputs.app} all of its"
        problems.add("replaces", f"{words} addresses and host names, or take them from that app in a deploy before.")
    if old.files:
        words = f"that app has {', '.join(old.files)}, and would be removed with all that is in"
        remedy = "move that to another folder first (docs/deploys.md says how)."
        problems.add("replaces", f"{words} {paths.app_data(inputs.replaces)}; {remedy}")
    if old.used_by:
        words = f"nginx passes requests on to that app from {' and '.join(old.used_by)}, which would have nowhere to go"
        problems.add("replaces", f"{words}; change or remove that first.")
    if host.home == paths.app_base(inputs.replaces):
        problems.add("user", f"it is the user of {inputs.replaces}, and is removed with it; use another one.")
    theirs = (paths.own_certificate(inputs.replaces), paths.acme_certificate(inputs.replaces))
    if site.certificate and (site.certificate.path, site.certificate.key) in theirs:
        remedy = f"it is the certificate of {inputs.replaces}, and is removed with it; use a copy of it and of its key."
        problems.add("tls_certificate", remedy)


def _check_neighbours(inputs: Inputs, site: Site, host: Host, problems: _Problems) -> None:
    found = []
    for server in site.own:
        name = "listen" if server.kind == "app" else "listen_plain"
        if not host.ipv6 and ":" in listen_address(server.listen)[0]:
            problems.add(name, "the host has no IPv6; use an IPv4 address, or a port alone.", server.listen)
            continue
        there = host.listens.get(server.listen, Others())
        if there.listener:
            found.append((name, f"{there.listener}; use another address or port, or free this one.", server.listen))
        speaks = "TLS" if server.tls else "plain HTTP"
        if there.speaks not in ("", speaks):
            remedy = f"another site speaks {there.speaks} there, and nginx cannot speak both at one address; use another port."
            found.append((name, remedy, server.listen))
        if there.proxy_protocol not in (None, inputs.proxy_protocol):
            remedy = f"another site has {there.proxy_protocol} at {server.listen}, and both must have the same"
            problems.add("proxy_protocol", f"{remedy}; use another port.")
    for name, remedy, listen in found:
        port = listen.removeprefix("[::]:")
        # What holds for both families of a port alone is said once.
        if port == listen or (name, remedy, port) not in found:
            problems.add(name, remedy, listen)


def the_live(inputs: Inputs, host: Host) -> Release:
    """Return the live release of the app.

    :raises InputError: if the host has none
    """
    if not host.live:
        raise InputError(problem("websockets_app", inputs.app, "it has no live release on this host; deploy it first."))
    if host.live not in host.releases:
        remedy = f"the record of its live release, {host.live}, cannot be read; deploy it again."
        raise InputError(problem("websockets_app", inputs.app, remedy))
    return host.releases[host.live].release


def alone(release: Release) -> list[str]:
    """Return a warning if no other process can take the clients of one that restarts."""
    if len(release.processes) > 1:
        return []
    return [
        f"{release.app} has one process: handshakes fail while it restarts. With more (websockets_numprocs), none does;"
        " a deploy fails none either."
    ]


def called(host: Host, id: str) -> str:
    """Return the name of a release for people: its id, with its git revision if that is known."""
    return host.releases[id].called if id in host.releases else id


def go_back(inputs: Inputs, host: Host) -> Release:
    """Return the release on the host that a rollback goes to.

    :raises InputError: if the host has no such release
    """
    app, live, releases = inputs.app, host.live or the_live(inputs, host).id, host.releases
    there = [id for id, release in releases.items() if release.been_live and id != live]
    there.sort(key=lambda id: releases[id].since)
    target = inputs.rollback_to or (releases[live].previous if live in releases else None)
    if target in there:
        return releases[target].release
    named = [called(host, id) for id in there]
    others = f"it can go back to {', '.join(named)}." if there else "there is no other release on this host."
    now = called(host, live)
    if target == live:
        why = f"that release is live already; {others}"
    elif inputs.rollback_to:
        why = f"{target} is not on this host or has never been live; {others}"
    elif live not in releases:
        why = f"the record of {live}, which is live, cannot be read, so name the release to go back to; {others}"
    elif not there:
        why = f"{now} is the only release of {app} that has been live on this host; there is nothing to go back to."
    elif not target:
        why = f"{now} is the first release of {app}, so there is none before it; for a later one, name {' or '.join(named)}."
    else:
        why = f"{target}, which was live before, is not on this host any more; name {' or '.join(named)}."
    raise InputError(problem("websockets_rollback_to", inputs.rollback_to, why))
