"""What nginx's site of an app is, as it follows from the inputs: where it listens, its names, its certificate, its origins.

For the control node, once :mod:`inputs` has checked them; the addresses for the host too.
"""

from __future__ import annotations

import ipaddress
import re

from . import acme, nginx

DEFAULT_PORTS = {"http": 80, "https": 443}
_LISTEN = re.compile(r"(?:(?P<v4>[0-9.]+):|\[(?P<v6>[0-9A-Fa-f:.]+)\]:)?(?P<port>[0-9]{1,5})")


def listen_address(listen):
    """Return (address, port) of an nginx ``listen`` value; the address of a bare port is ``0.0.0.0``."""
    match = _LISTEN.fullmatch(listen)
    if not match or not 1 <= int(match["port"]) <= 65535:
        raise ValueError(listen)
    address = ipaddress.ip_address(match["v6"] or match["v4"] or "0.0.0.0")
    return str(address), int(match["port"])


def connect_address(listen):
    """Return the [address, port] at which this host itself reaches an nginx that listens there."""
    address, port = listen_address(listen)
    return [{"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address), port]


def host_header(server_name):
    """Return a host name that nginx's ``server_name`` matches."""
    return server_name[0].replace("*", "any", 1)


def url(inputs):
    """Return the URL that a client opens."""
    scheme, usual = ("wss", 443) if tls_mode(inputs) != "none" else ("ws", 80)
    name = inputs["websockets_server_name"][0]
    return f"{scheme}://{name}{_port(inputs['websockets_listen'], usual)}{inputs['websockets_gate_path']}"


def _port(listen, usual):
    """Return what a URL says of the port."""
    port = listen_address(listen)[1]
    return "" if port == usual else f":{port}"


def server(listen, server_name):
    """Return what has to be unlike another app's: the address, port and name of an nginx server."""
    return [f"{':'.join(map(str, listen_address(listen)))} {name.lower()}" for name in server_name]


def tls_mode(inputs):
    """Return where the certificate comes from, ``none`` without TLS."""
    return inputs["websockets_tls"] or "none"


def is_pem(text):
    return "-----BEGIN " in text


def is_address(name):
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(listen):
    return ipaddress.ip_address(listen_address(listen)[0]).is_loopback


def plain_listen(inputs):
    """Return where nginx listens for plain HTTP beside TLS, empty if nowhere."""
    given, listen = inputs["websockets_listen_plain"], inputs["websockets_listen"]
    if tls_mode(inputs) == "none" or given == "none":
        return ""
    if not given and (listen_address(listen)[1] == 443 or tls_mode(inputs) == "acme"):
        return re.sub(r"[0-9]+$", "80", listen)
    return given


def listens(inputs):
    """Return all that nginx listens at for the app."""
    return [inputs["websockets_listen"], *filter(None, [plain_listen(inputs)])]


def authority_port(inputs):
    """Return what a URL of the app says of the port of TLS."""
    return _port(inputs["websockets_listen"], 443)


def pair(app):
    """Return the paths of the certificate that the role writes for an app, and of its key."""
    return [f"{nginx.FOLDER}/websockets/{app}{ending}" for ending in (".crt", nginx.KEY)]


def tls(inputs):
    """Return the certificate that nginx shows for the app, as paths on the host; empty without TLS."""
    app, mode = inputs["websockets_app"], tls_mode(inputs)
    if mode == "none":
        return {}
    certificate, key = pair(app)
    if mode == "acme":
        certificate, key = (f"{acme.FOLDER}/live/{acme.lineage(app)}/{name}.pem" for name in ("fullchain", "privkey"))
    elif mode == "files" and not is_pem(inputs["websockets_tls_key"]):
        certificate, key = inputs["websockets_tls_certificate"], inputs["websockets_tls_key"]
    return {
        "mode": mode,
        "certificate": certificate,
        "key": key,
        "names": [host_header([name]) for name in inputs["websockets_server_name"]],
        "given": is_pem(inputs["websockets_tls_key"]),
        "webroot": acme.WEBROOT,
        "directory": inputs["websockets_acme_directory"],
        "email": inputs["websockets_acme_email"],
    }


def origins(inputs):
    """Return the values of the header ``Origin`` that nginx lets in, an empty one for none; nothing if it lets in any."""
    allowed = inputs["websockets_origins"]
    if allowed == ["*"]:
        return []
    if not allowed:
        port = listen_address(inputs["websockets_listen"])[1]
        ports = [""] if port in DEFAULT_PORTS.values() else ["", f":{port}"]
        names = [name.lower() for name in inputs["websockets_server_name"]]
        # Without TLS here it may be in front.
        schemes = ["https", "http"] if tls_mode(inputs) == "none" else ["https"]
        allowed = [f"{scheme}://{name}{port}" for name in names for scheme in schemes for port in ports]
    return allowed if inputs["websockets_origin_required"] else ["", *allowed]


def proof_origin(inputs):
    """Return the ``Origin`` that the role's own handshake needs, empty where it needs none or has one already."""
    given = {name.lower() for name in map(str, inputs["websockets_gate_headers"])}
    return origins(inputs)[0] if inputs["websockets_origin_required"] and "origin" not in given else ""


def refused(inputs, host):
    """Return where a server of the app's refuses the names that nobody has: where nobody else is asked for them."""
    secure = tls_mode(inputs) != "none"
    # A client that has only an address names no server in TLS (RFC 6066).
    named = not any(map(is_address, inputs["websockets_server_name"]))
    return [
        {"listen": listen, "tls": secure and listen == inputs["websockets_listen"], "named": named}
        for listen in listens(inputs)
        if not host["listens"].get(listen, {}).get("default")
    ]
