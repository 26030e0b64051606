"""A probe: the WebSocket handshake that the gate and the proof through nginx ask for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Probe:
    """A handshake, and the message after it. Further headers may hold secrets, so they are not in it.

    :param server_name: the header ``Host``, and the name of TLS
    :param path: path of the handshake
    :param message: text that the app has to send back unchanged, at most 65535 bytes; empty for the handshake alone
    :param timeout: seconds for all of it
    :param origin: the header ``Origin``, empty for none
    :param proxy_protocol: whether nginx expects the PROXY protocol before it
    :param certificate: path of the certificate that nginx has to show; empty for plain HTTP
    """

    server_name: str = "localhost"
    path: str = "/"
    message: str = ""
    timeout: float = 5.0
    origin: str = ""
    proxy_protocol: bool = False
    certificate: str = ""
