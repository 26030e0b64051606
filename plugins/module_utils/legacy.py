"""Sites of hosts that were deployed to before sites were recorded: read once from the text that the role wrote then."""

from __future__ import annotations

import re

from . import paths
from .site import Certificate, Server, Site

_SERVER = re.compile(
    r"(?m)^    listen (?P<directive>(?P<listen>[^;\s]+)[^;]*);(?:\n    server_name (?P<names>[^;]+);)?"
)
_CERTIFICATE = re.compile(r"(?m)^    ssl_certificate (?P<path>\S+);\n    ssl_certificate_key (?P<key>\S+);$")


def site_of(app: str, text: str) -> Site:
    """Return what the text of nginx's site of an app says of its servers and its certificate."""
    servers = []
    for match in _SERVER.finditer(text):
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
                names=(match["names"] or "").split(),
            )
        )
    certificate = _CERTIFICATE.search(text)
    return Site(
        app=app,
        file=paths.site_file(app),
        http_file=paths.http_file(),
        servers=servers,
        # What mode it is of does not matter any more: it is only told when it ends.
        certificate=Certificate("files", certificate["path"], certificate["key"]) if certificate else None,
    )
