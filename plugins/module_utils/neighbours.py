"""What else the host runs: other programs, other sites of nginx, other programs of Supervisor."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import glob
import os
import re
import socket
from collections.abc import Iterator

from . import paths
from .host_files import texts
from .site import Others, Server, Site, is_address, listen_address


def listener(listen: str) -> str:
    """Return why nginx cannot listen there: which program does, or the kernel's reason; empty if nginx can."""
    address, port = listen_address(listen)
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if attempt.family == socket.AF_INET6:
                attempt.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as nginx does
            attempt.bind((address, port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return f"the kernel does not let nginx listen there ({error.strerror})"
        names = owners(port)
        return "" if "nginx" in names else f"{', '.join(sorted(names)) or 'another program'} listens there already"
    return ""


def owners(port: int) -> set[str]:
    """Return the names of the programs that listen at a TCP port."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                rows = [line.split() for line in file.readlines()[1:]]
        except FileNotFoundError:
            continue
        listening = "0A"  # TCP_LISTEN
        inodes |= {row[9] for row in rows if row[3] == listening and int(row[1].rsplit(":", 1)[1], 16) == port}
    names = set()
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            if re.sub(r"\D", "", os.readlink(link)) in inodes and os.readlink(link).startswith("socket:"):
                with open(os.path.join(link.rsplit("/", 2)[0], "comm"), encoding="utf-8") as file:
                    names.add(file.read().strip())
        except OSError:
            continue  # the process has ended meanwhile
    return names


# An option of one server is in force for all servers at its address (ngx_http_core_module, listen).
_LISTEN_OPTIONS = (
    r"\b(setfib|fastopen|backlog|rcvbuf|sndbuf|accept_filter|deferred|bind|ipv6only|reuseport|so_keepalive)\b"
)


# How nginx reads its files (ngx_conf_read_token): a comment, a word in quotes, the end of a directive, a word.
_TOKEN = re.compile(r"""#[^\n]*|"((?:\\.|[^"\\])*)"|'((?:\\.|[^'\\])*)'|([;{}])|((?:\\.|\$\{|[^\s;{])+)""", re.S)
_DEEPEST = 9  # include of include; one that includes itself has no end


def statements(pattern: str, depth: int = 0) -> Iterator[tuple[str, list[str], str]]:
    """Yield nginx's directives in the order in which it reads them: file, words, and how it ends, by ``;``, ``{`` or ``}``.

    :param pattern: the files, as in an ``include``
    """
    for path, text in texts(os.path.join(paths.NGINX, pattern)):
        words: list[str] = []
        for match in _TOKEN.finditer(text):
            double, single, end, plain = match.groups()
            if end:
                if end == ";" and words[:1] == ["include"] and len(words) == 2 and depth < _DEEPEST:
                    yield from statements(words[1], depth + 1)
                else:
                    yield path, words, end
                words = []
            elif not match[0].startswith("#"):
                words.append(next(word for word in (double, single, plain) if word is not None))


def foreign_servers(app: str) -> list[Server]:
    """Return the servers of nginx's sites that this role has not made, in the order in which nginx reads them.

    The first server at an address is its default: it answers for host names that no site has. So a server counts as
    default if nginx reads its file before the app's.
    """
    found: list[Server] = []
    blocks: list[str] = []
    inside, file, listens, names = 0, "", [["80"]], [""]
    for path, words, end in statements(paths.NGINX_MAIN):
        if end == "{":
            blocks.append(words[0] if words else "")
            if words == ["server"] and blocks[0] == "http":
                inside, file, listens, names = len(blocks), path, [], []
        elif end == "}":
            if inside and len(blocks) == inside:
                found += [_foreign(app, file, words, names) for words in listens or [["80"]]]
                inside = 0
            del blocks[-1:]
        elif inside and len(blocks) == inside and words[:1] == ["listen"] and words[1:]:
            listens.append(words[1:])
        elif inside and len(blocks) == inside and words[:1] == ["server_name"]:
            names += words[1:]
    ours = [pattern("*") for pattern in (paths.site_file, paths.next_file)]
    return [server for server in found if not any(fnmatch.fnmatch(server.file, pattern) for pattern in ours)]


def _foreign(app: str, file: str, words: list[str], names: list[str]) -> Server:
    listen, options = words[0].removeprefix("*:"), " ".join(words[1:])
    if is_address(listen.strip("[]")):
        listen = f"{listen}:80"
    first = "/conf.d/" in file and file < paths.site_file(app)
    return Server(
        kind="foreign",
        listen=listen,
        directive=" ".join(words),
        tls=bool(re.search(r"\bssl\b", options)),
        proxy_protocol=bool(re.search(r"\bproxy_protocol\b", options)),
        default=first or bool(re.search(r"\bdefault(_server)?\b", options)),
        options=bool(re.search(_LISTEN_OPTIONS, options)),
        names=names,
        file=file,
    )


def at_address(listen: str, servers: list[Server]) -> Others:
    """Return what is at an address already.

    :param servers: all of nginx's servers that do not belong to this app
    """
    there = []
    for server in servers:
        with contextlib.suppress(ValueError):  # it listens at a name or a Unix socket
            if listen_address(server.listen) == listen_address(listen):
                there.append(server)
    return Others(
        listener=listener(listen),
        options=any(server.options for server in there),
        default=any(server.default for server in there),
        speaks=("TLS" if there[-1].tls else "plain HTTP") if there else "",
        proxy_protocol=there[-1].proxy_protocol if there else None,
    )


def listens(app: str, wanted: list[str], sites: dict[str, Site], foreign: list[Server]) -> dict[str, Others]:
    """Return {listen: what is there already}.

    :param wanted: everything that nginx has to listen at
    :param sites: {app: its site} of all sites that this role has made on the host
    :param foreign: what :func:`foreign_servers` returns
    """
    theirs = [server for name, site in sites.items() if name != app for server in site.servers]
    servers = [*foreign, *theirs]
    return {listen: at_address(listen, servers) for listen in wanted}


# {service: (files, the mark of work in them)}: a server of nginx's, a program of Supervisor's.
_WORK = {
    "nginx": (
        ("nginx.conf", "conf.d/*.conf", "sites-enabled/*"),
        r"^[^#\n]*\b(?:server|stream|mail)\s*\{",
    ),
    "supervisor": (
        ("supervisord.conf", "conf.d/*.conf"),
        r"^\[(?:program|fcgi-program|eventlistener):",
    ),
}


def work(service: str) -> list[str]:
    """Return the files that give a service work which is not this role's."""
    patterns, sign = _WORK[service]
    folder = {"nginx": paths.NGINX, "supervisor": paths.SUPERVISOR}[service]
    return [
        path
        for path, text in texts(*(f"{folder}/{pattern}" for pattern in patterns))
        if not os.path.basename(path).startswith("websockets") and re.search(sign, text, re.M)
    ]


def largest(directive: str, *patterns: str) -> int:
    """Return the largest number that a directive has in the files that match, 0 if none has it."""
    numbers = (re.findall(rf"^{directive}\s*=\s*(\d+)", text, re.M) for _, text in texts(*patterns))
    return max((int(number) for some in numbers for number in some), default=0)


def minfds() -> int:
    """Return the largest ``minfds`` (file descriptors) in supervisord's configuration, 0 if it has none."""
    return largest("minfds", f"{paths.SUPERVISOR}/supervisord.conf", f"{paths.programs()}/*.conf")


def nginx_nofile() -> int:
    """Return the limit of file descriptors that the role has given nginx's service, 0 if none."""
    return largest("LimitNOFILE", paths.drop_in("nginx"))


def users(app: str, sites: dict[str, Site]) -> set[str]:
    """Return the other apps, or the files of other sites, from which nginx passes requests on to an app.

    :param sites: {app: its site} of all sites that this role has made on the host
    """
    upstream = re.compile(rf"http://websockets_{re.escape(app)}(/.*)?", re.S)
    names = {site.file: name for name, site in sites.items()}
    found = {
        names.get(path, path)
        for path, words, _ in statements(paths.NGINX_MAIN)
        if len(words) == 2 and words[0] == "proxy_pass" and upstream.fullmatch(words[1])
    }
    return found - {app}


def claims(app: str, sites: dict[str, Site], foreign: list[Server]) -> dict[str, list[str]]:
    """Return {whose they are: what no other app's server may have}, see :meth:`site.Server.claims`.

    They are another app's, by its name, or another site's, by the path of its file. Parameters as above.
    """
    found = {
        name: [claim for server in site.servers for claim in server.claims()]
        for name, site in sites.items()
        if name != app
    }
    for server in foreign:
        with contextlib.suppress(ValueError):  # it listens at a name or a Unix socket
            found.setdefault(server.file, []).extend(server.claims())
    return found
