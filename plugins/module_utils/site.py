"""A site: what nginx serves for one app. It is computed once from the inputs; a cut-over records it on the host."""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from . import paths
from .inputs import Inputs

DEFAULT_PORTS = {"http": 80, "https": 443}
# The start of a value of websockets_nginx_locations that is a folder or a file of the app's own.
OF_RELEASE = "{release}/"
# The one name with a dot that is for everybody (RFC 8615).
WELL_KNOWN = ".well-known"
_LISTEN = re.compile(r"(?:(?P<v4>[0-9.]+):|\[(?P<v6>[0-9A-Fa-f:.]+)\]:)?(?P<port>[0-9]{1,5})")


@dataclass(frozen=True)
class Certificate:
    """The certificate that nginx shows, as paths on the host.

    :param mode: ``acme``, ``files`` or ``self-signed``, as in ``websockets_tls``
    :param path: the certificate with its chain
    :param key: its key
    :param names: host names that it has to cover
    :param given: whether the inputs have it and its key as PEM text
    :param directory: URL of the ACME authority
    :param email: address that the authority may write to
    :param webroot: folder from which nginx answers the authority
    """

    mode: str
    path: str
    key: str
    names: list[str] = field(default_factory=list)
    given: bool = False
    directory: str = ""
    email: str = ""
    webroot: str = paths.WEBROOT


@dataclass(frozen=True)
class Server:
    """One of nginx's servers in the site, at one address. Those of a kind but ``refuse`` are one ``server`` block.

    :param kind: ``app``, ``plain`` (plain HTTP beside TLS), ``refuse`` (host names that no site has), or ``foreign`` (a
        server of another site)
    :param listen: where it listens: one address as in the inputs, or ``[::]:PORT`` beside a port alone
    :param directive: the value of its directive ``listen``, which has options too
    :param default: whether it answers for host names that no site has
    :param options: whether its ``listen`` has options that nginx takes once for an address
    :param names: its ``server_name``
    :param reject: whether it refuses clients in the TLS handshake already
    :param file: path of the file that has it, for a server of another site
    """

    kind: str
    listen: str
    directive: str
    tls: bool = False
    proxy_protocol: bool = False
    default: bool = False
    options: bool = False
    names: list[str] = field(default_factory=list)
    reject: bool = False
    file: str = ""

    def claims(self) -> list[str]:
        """Return what no other app's server may have: its address and port with each of its names."""
        return [f"{':'.join(map(str, listen_address(self.listen)))} {name.lower()}" for name in self.names]


@dataclass(frozen=True)
class Others:
    """What is at an address already and does not belong to this app.

    :param listener: why nginx cannot listen there, as the start of a sentence; empty if it can
    :param options: whether another server's ``listen`` has options there, which nginx takes once for an address
    :param default: whether another server answers there for host names that no site has
    :param speaks: ``TLS`` or ``plain HTTP``, empty if no other site listens there
    :param proxy_protocol: whether the other site expects the PROXY protocol, None if no other site listens there
    """

    listener: str = ""
    options: bool = False
    default: bool = False
    speaks: str = ""
    proxy_protocol: bool | None = None


@dataclass(frozen=True)
class Page:
    """A folder or a file of the app's that nginx serves.

    :param source: its path in the app's folder
    :param place: where nginx finds that of the live release
    :param file: whether it is a file
    """

    source: str
    place: str
    file: bool


@dataclass(frozen=True)
class Site:
    """nginx's site of an app.

    :param file: path of its file
    :param http_file: path of the file that all apps share
    :param servers: nginx's servers, in the order of the file
    :param certificate: None without TLS
    :param origins: values of the header ``Origin`` that nginx allows, with an empty one if it may be missing; an empty
        list if nginx allows all
    :param host_header: a host name to which the app's server answers
    :param address: address and port at which the host itself reaches the app's server, at the first of its addresses
    :param url: the URL that a client opens
    :param tls_port: the port of TLS in a URL, with its colon; empty for 443
    :param access_log: nginx's ``access_log`` for the app, empty for that of all sites
    :param worker_shutdown_timeout: seconds after which the app's clients may be cut, once nginx has been reloaded; 0 for never
    :param pages: {value in ``websockets_nginx_locations``: what it means} of those that are in the app's folder
    :param variables: start of the names of the variables that its file defines for all of nginx's sites
    """

    app: str
    file: str
    http_file: str
    servers: list[Server]
    certificate: Certificate | None = None
    origins: list[str] = field(default_factory=list)
    host_header: str = ""
    address: list[str | int] = field(default_factory=list)
    url: str = ""
    tls_port: str = ""
    variables: str = ""
    access_log: str = ""
    worker_shutdown_timeout: int = 0
    pages: dict[str, Page] = field(default_factory=dict)

    @classmethod
    def of(cls, inputs: Inputs, ipv6: bool = True) -> Site:
        """Return the site of checked inputs on a host without other sites.

        :param ipv6: whether the host has IPv6
        """
        secure = tls_mode(inputs) != "none"
        certificate = _certificate(inputs) if secure else None
        listen, plain = inputs.listen[0], both_families(_plain_listens(inputs), ipv6)
        servers = [_server("plain", at, inputs) for at in plain]
        for at in both_families(inputs.listen, ipv6):
            servers.append(_server("app", at, inputs, tls=secure, backlog=inputs.max_connections))
        scheme, usual = ("wss", 443) if secure else ("ws", 80)
        return cls(
            app=inputs.app,
            file=paths.site_file(inputs.app),
            http_file=paths.http_file(),
            servers=servers,
            certificate=certificate,
            origins=_origins(inputs, secure),
            host_header=sample(inputs.server_name[0]),
            address=[*connect_address(listen)],
            url=f"{scheme}://{inputs.server_name[0]}{_port(listen, usual)}{inputs.gate_path}",
            tls_port=_port(listen, 443),
            access_log={"path": f"{paths.NGINX_ACCESS_LOG} websockets_{inputs.app}", "none": "off"}.get(
                inputs.access_log, ""
            ),
            worker_shutdown_timeout=inputs.worker_shutdown_timeout,
            pages=_pages(inputs),
            # Not the app's name: a variable has no dash, and nginx refuses one that is longer than about 45 characters.
            variables=f"websockets_{hashlib.sha256(inputs.app.encode()).hexdigest()[:8]}",
        )

    def beside(self, others: Mapping[str, Others]) -> Site:
        """Return the site as it is on a host with other sites.

        Where no other site answers for host names that no site has, it gets a server that refuses them. Where another
        server has options at an address, its own servers have none.

        :param others: {listen: what is there already}
        """
        servers = []
        # A client that connects to an address instead of a name sends no server name in TLS (RFC 6066).
        named = not any(map(is_address, self.main.names))
        for server in self.own:
            if not others.get(server.listen, Others()).default:
                tls = server.tls
                kind = dataclasses.replace(server, kind="refuse", names=[], default=True, reject=tls and named)
                servers.append(_with_options(kind, 0))
        for server in self.servers:
            there = others.get(server.listen, Others()).options
            servers.append(_with_options(server, 0) if server.options and there else server)
        return dataclasses.replace(self, servers=servers)

    def lets_in(self, origin: str) -> bool:
        """Tell whether nginx allows an origin, as ``site.conf.j2`` says it to nginx."""
        labels = r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*"
        patterns = [re.escape(allowed).replace(r"\*", labels) for allowed in self.origins]
        return not patterns or any(re.fullmatch(pattern, origin) for pattern in patterns)

    @property
    def main(self) -> Server:
        """The app's server, at the first of its addresses."""
        return next(server for server in self.servers if server.kind == "app")

    @property
    def plain(self) -> list[Server]:
        """The server for plain HTTP beside TLS, at each of its addresses; empty if there is none."""
        return [server for server in self.servers if server.kind == "plain"]

    @property
    def own(self) -> list[Server]:
        """The app's server and that for plain HTTP, at each of their addresses."""
        return [*(server for server in self.servers if server.kind == "app"), *self.plain]

    @property
    def listens(self) -> list[str]:
        """Everything that nginx listens at for the app."""
        return list(dict.fromkeys(server.listen for server in self.own))

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Addresses and ports at which the host itself reaches the app's server."""
        return [connect_address(server.listen) for server in self.servers if server.kind == "app"]


def tls_mode(inputs: Inputs) -> str:
    """Return ``websockets_tls``, or ``none`` if it is empty."""
    return inputs.tls or "none"


def plain_given(inputs: Inputs) -> list[str]:
    """Return ``websockets_listen_plain``; an empty string is an empty list."""
    return [at for at in inputs.listen_plain if at]


def is_pem(text: str) -> bool:
    """Tell whether a text is PEM, and not a path."""
    return "-----BEGIN " in text


def sample(pattern: str) -> str:
    """Return a host name or an origin that a value of ``server_name`` or ``origins`` matches."""
    return pattern.replace("*", "any", 1)


def is_address(name: str) -> bool:
    """Tell whether a name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(listen: str) -> bool:
    """Tell whether nginx listens at a loopback address.

    :raises ValueError: if ``listen`` is malformed
    """
    return ipaddress.ip_address(listen_address(listen)[0]).is_loopback


def covers(listen: str, other: str) -> bool:
    """Tell whether one value of ``listen`` is all addresses of a port, and the other one of these."""
    (all_of, port), (address, at) = listen_address(listen), listen_address(other)
    return port == at and all_of in ("0.0.0.0", "::") and (":" in all_of) == (":" in address) and all_of != address


def listen_address(listen: str) -> tuple[str, int]:
    """Return (address, port) of an nginx ``listen`` value; the address of a bare port is ``0.0.0.0``.

    :raises ValueError: if it is malformed
    """
    match = _LISTEN.fullmatch(listen)
    if not match or not 1 <= int(match["port"]) <= 65535:
        raise ValueError(listen)
    address = ipaddress.ip_address(match["v6"] or match["v4"] or "0.0.0.0")
    return str(address), int(match["port"])


def both_families(listens: Iterable[str], ipv6: bool = True) -> list[str]:
    """Return where nginx listens for these values: a port alone is all IPv4 and all IPv6 addresses of the host.

    nginx itself takes a port alone for IPv4.

    :param ipv6: whether the host has IPv6
    """
    found: dict[tuple[str, int], str] = {}
    for given in listens:
        for at in (given, *([f"[::]:{given}"] if given.isdecimal() and ipv6 else [])):
            found.setdefault(listen_address(at), at)  # nginx refuses the same address twice
    return list(found.values())


def connect_address(listen: str) -> tuple[str, int]:
    """Return (address, port) at which this host itself reaches an nginx with this ``listen``."""
    address, port = listen_address(listen)
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address), port


def _server(kind: str, listen: str, inputs: Inputs, tls: bool = False, backlog: int = 0) -> Server:
    server = Server(kind, listen, "", tls=tls, proxy_protocol=inputs.proxy_protocol, names=list(inputs.server_name))
    return _with_options(server, backlog)


def _with_options(server: Server, backlog: int) -> Server:
    """Return the server with its directive.

    :param backlog: an option that nginx takes once for an address; 0 for none
    """
    said = [("ssl", server.tls), ("proxy_protocol", server.proxy_protocol), ("default_server", server.default)]
    words = [server.listen, *(word for word, holds in said if holds), *([f"backlog={backlog}"] if backlog else [])]
    return dataclasses.replace(server, directive=" ".join(words), options=bool(backlog))


def _port(listen: str, usual: int) -> str:
    port = listen_address(listen)[1]
    return "" if port == usual else f":{port}"


def _plain_listens(inputs: Inputs) -> list[str]:
    """Return where nginx speaks plain HTTP beside TLS, as in the inputs; empty if nowhere."""
    mode, given = tls_mode(inputs), plain_given(inputs)
    if mode == "none" or given == ["none"]:
        return []
    usual = [re.sub(r"[0-9]+$", "80", at) for at in inputs.listen if listen_address(at)[1] == 443 or mode == "acme"]
    return given or [at for at in usual if not any(covers(wide, at) for wide in both_families(usual))]


def _certificate(inputs: Inputs) -> Certificate:
    mode, given = tls_mode(inputs), is_pem(inputs.tls_key)
    path, key = paths.own_certificate(inputs.app)
    if mode == "acme":
        path, key = paths.acme_certificate(inputs.app)
    elif mode == "files" and not given:
        path, key = inputs.tls_certificate, inputs.tls_key
    names = [sample(name) for name in inputs.server_name]
    return Certificate(mode, path, key, names, given, inputs.acme_directory, inputs.acme_email)


def _pages(inputs: Inputs) -> dict[str, Page]:
    found, live = {}, paths.live_pages(inputs.app)
    for path, value in inputs.nginx_locations.items():
        if str(value).startswith(OF_RELEASE):
            source = value.rstrip().removeprefix(OF_RELEASE).rstrip("/")
            found[value] = Page(source, paths.page(live, source), path.startswith("= "))
    return found


def _origins(inputs: Inputs, secure: bool) -> list[str]:
    allowed = inputs.origins
    if allowed == ["*"]:
        return []
    if not allowed:
        listening = dict.fromkeys(listen_address(at)[1] for at in inputs.listen)
        ports = ["", *(f":{port}" for port in listening if port not in DEFAULT_PORTS.values())]
        # Without TLS here, a proxy in front may speak it.
        schemes = ["https"] if secure else ["https", "http"]
        names = [name.lower() for name in inputs.server_name]
        allowed = [f"{scheme}://{name}{port}" for name in names for scheme in schemes for port in ports]
    return list(allowed) if inputs.origin_required else ["", *allowed]
