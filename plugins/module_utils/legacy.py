"""Sites without a record, from hosts of an earlier version of the role: read from the text that nginx serves."""

from __future__ import annotations

import re

from . import paths
from .site import Certificate, Server, Site

_SERVER = re.compile(r"(?m)^(?P<listens>(?:    listen [^;]+;\n)+)(?:    server_name (?P<names>[^;]+);)?")
_LISTEN = re.compile(r"(?m)^    listen (?P<directive>(?P<listen>[^;\s]+)[^;]*);$")
_CERTIFICATE = re.compile(r"(?m)^    ssl_certificate (?P<path>\S+);\n    ssl_certificate_key (?P<key>\S+);$")


def site_of(app: str, text: str) -> Site:
    """Return the servers and the certificate that the text of an app's site names."""
    servers = []
    for server in _SERVER.finditer(text):
        for match in _LISTEN.finditer(server["listens"]):
            words = match["directive"].split()
            servers.append(
                Server(
                    kind="refuse" if "default_server" in words else "plain",
                    listen=match["listen"],
                    directive=match["directive"],
                    tls="ssl" in words,
                    proxy_protocol="proxy_protocol" in words,
                    default="default_server" in words,
                    options=any(word.startswith("backlog=") for word in words),
                    names=(server["names"] or "").split(),
                )
            )
    certificate = _CERTIFICATE.search(text)
    return Site(
        app=app,
        file=paths.site_file(app),
        http_file=paths.http_file(),
        servers=servers,
        # Only its end is read later, for which the mode does not matter.
        certificate=Certificate("files", certificate["path"], certificate["key"]) if certificate else None,
    )
