"""A probe: the WebSocket handshake that the gate and the proof through nginx ask for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Probe:
    """What is asked, and how. Further headers may hold secrets and are passed beside it.

    :param server_name: the header ``Host``, and the name of TLS
    :param path: path of the handshake
    :param message: text that has to come back unchanged, at most 65535 bytes; empty, the handshake is enough
    :param timeout: seconds for all of it
    :param origin: the header ``Origin``, empty for none
    :param proxy_protocol: whether nginx wants the PROXY protocol in front
    :param certificate: path of the certificate that nginx has to show, over TLS; empty for plain HTTP
    """

    server_name: str = "localhost"
    path: str = "/"
    message: str = ""
    timeout: float = 5.0
    origin: str = ""
    proxy_protocol: bool = False
    certificate: str = ""
