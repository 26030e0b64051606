"""What the types in meta/argument_specs.yml cannot say about the inputs.

Runs on the control node, before anything is touched. Every problem names the variable, its value and what
would be accepted.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import shlex

from . import site, sizing

PLACEHOLDERS = ("socket", "venv", "release", "ping_interval", "backlog")
# Unix socket paths: sun_path is 108 bytes with its terminating zero (unix(7)).
SOCKET_PATH_MAX = 107
SECRET = "(hidden)"

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")  # useradd(8)
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HOST_NAME = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*")
_HANDSHAKE = {"host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions"}
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# How a browser names the origin of a page (RFC 6454, 6.2).
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:(?P<port>[1-9][0-9]{0,4}))?", re.ASCII
)
_NETWORK = re.compile(r"[0-9A-Fa-f:.]+(/[0-9]{1,3})?", re.ASCII)
_EMAIL = re.compile(r"[^@\s,]+@[^@\s,]+\.[^@\s,]+")
TLS = ("none", "files", "self-signed", "acme")
# One token that the whole role replaces, so that braces of other meaning (JSON, say) stay as they are.
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


class InputError(Exception):
    """One or more inputs that cannot be used; the message has a line for each."""


def problem(variable, value, remedy):
    """Return the line that tells a person what is wrong with an input, and what would be accepted."""
    return f"{variable} is {value!r}: {remedy}"


def unknown(names, known):
    """Return a problem for each name that no input has, with the nearest real name."""
    problems = []
    short = {name.removeprefix("websockets_"): name for name in known}  # what they share makes all of them near
    for name in sorted(set(names) - set(known)):
        near = difflib.get_close_matches(name.removeprefix("websockets_"), short, n=1, cutoff=0.6)
        hint = f"did you mean {short[near[0]]}?" if near else "see docs/variables.md for the inputs."
        problems.append(
            f"{name} is not an input of the role websockets: {hint}"
            " A variable of your own needs another prefix than websockets_."
        )
    return problems


def check(inputs):
    """Return the problems of typed inputs (a dict of all of them), an empty list if there are none."""
    empty = [name for name, value in inputs.items() if value is None]
    if empty:
        return [problem(name, None, "give it a value, or leave it out for its default.") for name in empty]
    problems = []

    def bad(variable, remedy, value=None):
        problems.append(problem(variable, inputs[variable] if value is None else value, remedy))

    if not _NAME.fullmatch(inputs["websockets_app"]):
        bad("websockets_app", "use lower-case letters, digits, - and _, starting with a letter.")
    if not _USER.fullmatch(inputs["websockets_user"]):
        bad(
            "websockets_user",
            "use a user name of at most 32 lower-case letters, digits, - and _, starting with a letter.",
        )
    elif inputs["websockets_user"] == "root":
        bad("websockets_user", "the app must not run as root; name a user of its own.")

    numprocs = inputs["websockets_numprocs"]
    if numprocs != "auto" and not (re.fullmatch("[0-9]{1,3}", numprocs) and 1 <= int(numprocs) <= 512):
        bad("websockets_numprocs", "use 1 to 512, or auto for one process per core.")
    if inputs["websockets_sandbox"] not in ("auto", "always", "never"):
        bad("websockets_sandbox", "use auto, always or never.")
    _check_range(inputs, bad, "websockets_stopwaitsecs", 1, 86400)
    _check_range(inputs, bad, "websockets_gate_timeout", 1, 3600)
    _check_range(inputs, bad, "websockets_drain_timeout", 0, 86400)
    _check_range(inputs, bad, "websockets_drain_interval", 0, 3600)
    _check_range(inputs, bad, "websockets_drain_rate", 1, 100000)
    _check_range(inputs, bad, "websockets_keep_releases", 1, 1000)
    _check_range(inputs, bad, "websockets_ping_interval", 1, 86400)
    _check_range(inputs, bad, "websockets_proxy_timeout", 1, 604800)
    _check_range(inputs, bad, "websockets_max_connections", 16, 65535)  # limit_conn counts no further
    _check_range(inputs, bad, "websockets_message_size", 1, 1048576)
    if inputs["websockets_ping_interval"] >= inputs["websockets_proxy_timeout"]:
        bad(
            "websockets_proxy_timeout",
            f"nginx would cut idle clients between two pings; use more than websockets_ping_interval"
            f" ({inputs['websockets_ping_interval']}).",
        )

    if inputs["websockets_repo"]:
        if not re.match(r"/|~|[^/]+:", inputs["websockets_repo"]):
            bad("websockets_repo", "use a URL, user@host:path or an absolute path.")
        if not inputs["websockets_version"]:
            bad("websockets_version", "name a branch, tag or commit of websockets_repo.")
        if inputs["websockets_src"].startswith("/") or ".." in inputs["websockets_src"].split("/"):
            bad("websockets_src", "with websockets_repo, name a folder inside the repository.")
    elif not inputs["websockets_src"]:
        bad("websockets_src", "name the folder of the app on the control node, or set websockets_repo.")
    elif inputs["websockets_version"] != "HEAD":
        bad("websockets_version", "a revision needs websockets_repo, which is not set.")

    if not inputs["websockets_python"].startswith("/"):
        bad("websockets_python", "use the absolute path of a Python interpreter on the host.")
    url = inputs["websockets_pip_index_url"]
    if url and not re.match(r"(https?|file)://[^\s]+$", url):
        bad("websockets_pip_index_url", "use an http, https or file URL.", SECRET)
    for argument in inputs["websockets_pip_args"]:
        if "\n" in argument or not argument:
            bad("websockets_pip_args", "an argument is not empty and has no line break.", argument)

    _check_command(inputs, bad)
    _check_environment(inputs, bad, "websockets_environment", secret=False)
    _check_environment(inputs, bad, "websockets_secrets", secret=True)
    for name in sorted(inputs["websockets_environment"].keys() & inputs["websockets_secrets"].keys(), key=str):
        bad("websockets_secrets", "it is in websockets_environment as well; set it in one of them.", name)

    path = inputs["websockets_gate_path"]
    if not path.startswith("/") or not path.isascii() or re.search(r"[\x00-\x20\x7f]", path):
        bad("websockets_gate_path", "use a path that starts with / and has no spaces; encode others as %XX.")
    for name, value in inputs["websockets_gate_headers"].items():
        if not _HEADER_NAME.fullmatch(str(name)):
            bad("websockets_gate_headers", "use header names such as Origin.", name)
        elif str(name).lower() in _HANDSHAKE:
            bad("websockets_gate_headers", "the handshake has this header already; leave it out.", name)
        elif not isinstance(value, (str, int)) or re.search(r"[\x00-\x1f\x7f]", str(value)):
            bad("websockets_gate_headers", "a header's value is a string on one line.", {name: SECRET})
    if len(inputs["websockets_gate_message"].encode()) > 65535:
        bad("websockets_gate_message", "use at most 65535 bytes.", inputs["websockets_gate_message"][:20] + "…")

    for variable in ("websockets_listen", "websockets_listen_plain"):
        if variable == "websockets_listen_plain" and inputs[variable] in ("", "none"):
            continue
        try:
            site.listen_address(inputs[variable])
        except ValueError:
            bad(variable, "use PORT, ADDRESS:PORT or [ADDRESS]:PORT with a port of 1 to 65535.")
    if not inputs["websockets_server_name"]:
        bad("websockets_server_name", "name at least one host name.")
    for name in inputs["websockets_server_name"]:
        if not _HOST_NAME.fullmatch(name) or len(name) > 253:
            bad("websockets_server_name", "use host names such as ws.example.com or *.example.com.", name)
    _check_range(inputs, bad, "websockets_handshake_timeout", 1, 3600)
    _check_range(inputs, bad, "websockets_body_size", 0, 1 << 30)
    _check_range(inputs, bad, "websockets_connections_per_address", 1, 65535)
    _check_range(inputs, bad, "websockets_handshakes_per_address", 1, 100000)
    _check_proxies(inputs, bad)
    url = inputs["websockets_auth_request"]
    if url and not _is_auth_url(url):
        bad(
            "websockets_auth_request",
            "use http://ADDRESS:PORT/path, where the address is one of IP: nginx would not start if a name led nowhere.",
        )
    if not problems:
        _check_tls(inputs, bad)
        _check_origins(inputs, bad)
    return problems


def _is_auth_url(url):
    match = re.fullmatch(r"http://([0-9.]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/[\w./~%&=?+-]*", url, re.ASCII)
    return bool(match) and site.is_address(match[1].strip("[]")) and 1 <= int((match[2] or ":80")[1:]) <= 65535


def _check_proxies(inputs, bad):
    for proxy in inputs["websockets_trusted_proxies"]:
        try:
            network = ipaddress.ip_network(proxy if _NETWORK.fullmatch(proxy) else "")
        except ValueError:
            bad(
                "websockets_trusted_proxies",
                "use addresses and networks such as 192.0.2.10, 10.0.0.0/8 or 2001:db8::/32.",
                proxy,
            )
            continue
        if network.prefixlen == 0:
            remedy = "it is everybody, and any client could take any address; name the proxies' own network."
            bad("websockets_trusted_proxies", remedy, proxy)
    if inputs["websockets_proxy_protocol"] and not inputs["websockets_trusted_proxies"]:
        remedy = "name the proxies that speak it in websockets_trusted_proxies, or all clients have their address."
        bad("websockets_proxy_protocol", remedy)


def _check_origins(inputs, bad):
    for origin in inputs["websockets_origins"]:
        match = _ORIGIN.fullmatch(origin)
        default = match and str(site.DEFAULT_PORTS.get(match["scheme"])) == match["port"]
        if origin != "*" and (not match or default or int(match["port"] or 0) > 65535):
            bad(
                "websockets_origins",
                "use origins as browsers send them, such as https://www.example.com or http://localhost:3000: in lower"
                " case, without a path, and without the port that the scheme has anyway.",
                origin,
            )
    any_origin = "*" in inputs["websockets_origins"]
    if any_origin and len(inputs["websockets_origins"]) > 1:
        bad("websockets_origins", 'use ["*"] alone, for the pages of any site.')
    if any_origin and inputs["websockets_origin_required"]:
        bad("websockets_origin_required", "websockets_origins lets in any; name some there, or leave this out.")
    wild = [name for name in inputs["websockets_server_name"] if name.startswith("*")]
    if wild and not inputs["websockets_origins"]:
        bad(
            "websockets_origins",
            f"{wild[0]} of websockets_server_name does not say which pages may connect; name their origins, or use"
            ' ["*"] for any.',
        )
    allowed = site.origins(inputs)
    for name, value in inputs["websockets_gate_headers"].items():
        if str(name).lower() == "origin" and allowed and str(value) not in allowed:
            bad(
                "websockets_gate_headers",
                f"nginx would refuse this; use an origin that it lets in ({', '.join(filter(None, allowed))}), or"
                " change websockets_origins.",
                {name: value},
            )


def _check_tls(inputs, bad):
    mode = inputs["websockets_tls"]
    if not mode and site.tls_mode(inputs) == "none" and not site.is_loopback(inputs["websockets_listen"]):
        bad(
            "websockets_tls",
            f"clients come from outside to websockets_listen ({inputs['websockets_listen']}). Use acme (a certificate"
            " from an authority such as Let's Encrypt), files (one of your own), self-signed (for tests), or none"
            " (something in front speaks TLS, or nobody listens in).",
        )
    elif mode and mode not in TLS:
        bad("websockets_tls", "use acme, files, self-signed or none.")
    mode = site.tls_mode(inputs)
    for variable, what in (("websockets_tls_certificate", "certificate"), ("websockets_tls_key", "key")):
        value, shown = inputs[variable], SECRET if what == "key" and inputs[variable] else inputs[variable]
        if mode != "files" and value:
            bad(variable, "it is for websockets_tls: files only; leave it out.", shown)
        elif mode == "files" and not (site.is_pem(value) or re.fullmatch(r"/[\w./@+-]+", value)):
            bad(variable, f"name the {what}'s absolute path on the host, or give its PEM text.", shown)
    if mode == "files" and site.is_pem(inputs["websockets_tls_certificate"]) != site.is_pem(
        inputs["websockets_tls_key"]
    ):
        bad("websockets_tls_key", "give the certificate and its key in the same way, as paths or as PEM text.", SECRET)
    if mode == "none" and inputs["websockets_listen_plain"] not in ("", "none"):
        bad("websockets_listen_plain", "without TLS all is plain; use websockets_listen, or set websockets_tls.")
    if mode == "none" and inputs["websockets_hsts"]:
        bad("websockets_hsts", "it is a promise of TLS; set websockets_tls.")
    _check_range(inputs, bad, "websockets_hsts", 0, 315360000)
    if site.plain_listen(inputs) and site.listen_address(site.plain_listen(inputs)) == site.listen_address(
        inputs["websockets_listen"]
    ):
        bad("websockets_listen_plain", "that is where TLS is (websockets_listen); use another port.")
    if not re.fullmatch(r"https://[^\s'\"]+", inputs["websockets_acme_directory"]):
        bad("websockets_acme_directory", "use the https URL of an authority's directory.")
    if inputs["websockets_acme_email"] and not _EMAIL.fullmatch(inputs["websockets_acme_email"]):
        bad("websockets_acme_email", "use an address such as ops@example.com.")
    if mode == "acme":
        if not site.plain_listen(inputs):
            bad("websockets_listen_plain", "the authority asks this host over plain HTTP; use 80.")
        for name in inputs["websockets_server_name"]:
            if name.startswith("*.") or "." not in name or site.is_address(name):
                bad("websockets_server_name", "an authority asks for names such as ws.example.com over HTTP.", name)


def _check_range(inputs, bad, variable, low, high):
    if not low <= inputs[variable] <= high:
        bad(variable, f"use {low} to {high}.")


def _check_command(inputs, bad):
    command = inputs["websockets_command"]
    try:
        words = shlex.split(command)
    except ValueError as error:
        bad("websockets_command", f"it cannot be split into words ({error}); close its quotes.")
        return
    if not words or re.search(r"[\x00\n]", command):
        bad("websockets_command", "use one line with a program and its arguments.")
        return
    for name in _PLACEHOLDER.findall(command):
        if name not in PLACEHOLDERS:
            known = ", ".join(f"{{{known}}}" for known in PLACEHOLDERS)
            bad("websockets_command", f"{{{name}}} is not a placeholder; use {known}.")
    texts = [command, *map(str, inputs["websockets_environment"].values())]
    if not any("{socket}" in text for text in texts):
        bad(
            "websockets_command",
            "the app has to be told its Unix socket; use {socket} here or in websockets_environment.",
        )


def _check_environment(inputs, bad, variable, secret):
    for name, value in inputs[variable].items():
        if not isinstance(name, str) or not _ENVIRONMENT_NAME.fullmatch(name):
            bad(variable, "use names of letters, digits and _ that do not start with a digit.", name)
        elif name.startswith(("WEBSOCKETS_", "SUPERVISOR_")):
            bad(variable, "this name is set by the role or by Supervisor; use another.", name)
        elif isinstance(value, bool) or not isinstance(value, (str, int, float)):
            bad(variable, "quote it: only strings and numbers can be passed on.", {name: SECRET if secret else value})
        elif "\0" in str(value):
            bad(variable, "a value cannot contain a zero byte.", {name: SECRET if secret else value})


def check_source(inputs, paths):
    """Return the problems of the app's files, given the relative paths of all of them."""
    problems = []
    if not paths:
        where = "websockets_repo" if inputs["websockets_repo"] else "websockets_src"
        problems.append(problem(where, inputs[where], "there are no files in it."))
    for word in shlex.split(inputs["websockets_command"]):
        if word.endswith(".py") and not word.startswith(("/", "{", "-")) and word not in paths:
            problems.append(
                problem(
                    "websockets_command",
                    inputs["websockets_command"],
                    f"there is no {word} in the app's folder ({inputs['websockets_src'] or '.'}), which has"
                    f" {', '.join(sorted(paths)[:5])}.",
                )
            )
    return problems


def check_paths(inputs, processes):
    """Return a problem if a Unix socket's path is longer than the kernel takes."""
    longest = max((process[key] for process in processes for key in ("socket", "peer")), key=len)
    if len(longest.encode()) > SOCKET_PATH_MAX:
        return [
            problem(
                "websockets_app",
                inputs["websockets_app"],
                f"its Unix socket {longest} would be {len(longest.encode())} bytes, the limit is"
                f" {SOCKET_PATH_MAX}; use a shorter name.",
            )
        ]
    return []


def check_host(inputs, host):
    """Return the problems that only the host can tell, given what observe found there."""
    problems = []
    if not host["platform"]:
        problems.append("The host's distribution is none that the role knows: use Debian, or one that is made from it.")
    if not host["python"]:
        problems.append(
            problem(
                "websockets_python",
                inputs["websockets_python"],
                "there is no Python >= 3.9 there on the host; install it, or use /usr/bin/python3.",
            )
        )
    secure = site.tls_mode(inputs) != "none"
    mine = []
    for listen in site.listens(inputs):
        variable = "websockets_listen" if listen == inputs["websockets_listen"] else "websockets_listen_plain"
        found = host["listens"].get(listen, {})
        if found.get("listener"):
            remedy = f"{found['listener']} listens there already; use another port, or stop it."
            problems.append(problem(variable, listen, remedy))
        speaks = "TLS" if secure and variable == "websockets_listen" else "plain HTTP"
        if found.get("speaks", speaks) != speaks:
            remedy = f"another site speaks {found['speaks']} there, and nginx can do only that; use another port."
            problems.append(problem(variable, listen, remedy))
        proxied = inputs["websockets_proxy_protocol"]
        if found.get("proxy_protocol", proxied) != proxied:
            remedy = f"another site has {not proxied} at {listen}, and nginx has one for both; use another port."
            problems.append(problem("websockets_proxy_protocol", proxied, remedy))
        mine += site.server(listen, inputs["websockets_server_name"])
    if host["certificate"].get("problem"):
        variable = f"websockets_tls_{host['certificate']['about']}"
        problems.append(f"{variable} (on the host): {host['certificate']['problem']}")
    for app, servers in host["servers"].items():
        for taken in sorted(set(mine) & set(servers)):
            problems.append(
                problem(
                    "websockets_server_name",
                    taken.split()[1],
                    f"the app {app} has this name at {taken.split()[0]} already; use another name, or"
                    " another port in websockets_listen.",
                )
            )
    connections = inputs["websockets_max_connections"]
    processes = sizing.numprocs(inputs["websockets_numprocs"], host["cores"])
    for remedy in sizing.shortcomings(connections, processes, host["limits"]):
        problems.append(problem("websockets_max_connections", connections, remedy))
    return problems


def go_back(inputs, host):
    """Return the release on the host that a rollback goes to; raise :class:`InputError` where there is none."""
    app, live, releases = inputs["websockets_app"], host["live"], host["releases"]
    if live not in releases:
        raise InputError(problem("websockets_app", app, "it has no live release on this host; deploy it first."))
    there = sorted(
        (identity for identity, record in releases.items() if "since" in record and identity != live),
        key=lambda identity: releases[identity]["since"],
    )
    named = inputs["websockets_rollback_to"]
    target = named or releases[live].get("previous")
    if target in there:
        return {key: value for key, value in releases[target].items() if key not in ("previous", "since")}
    can = f"it can go back to {', '.join(there)}." if there else "there is no other release on this host."
    if not target:
        why = f"{live} is the first release of {app}, there is nothing to go back to; {can}"
    elif target == live:
        why = f"that release is live already; {can}"
    else:
        why = f"{target} is not on this host or has never been live; {can}"
    raise InputError(problem("websockets_rollback_to", named, why))
