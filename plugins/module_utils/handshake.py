"""A small WebSocket client (RFC 6455) that checks whether a server works. It needs only the standard library."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
import socket
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import nginx, tls, unix
from .probe import Probe

Address = str | Sequence[Any]
"""Path of a Unix socket, or (address, port)."""

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CLOSED = "closed the connection without an answer"
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
# Status codes with which a server may refuse a handshake while it starts.
_STARTING = ("502", "503", "504")
_MESSAGE = "message"


# nginx adds these headers. An app that cannot take them has to fail at its gate, not with clients.
FORWARDED = {"X-Real-IP": "127.0.0.1", "X-Forwarded-For": "127.0.0.1"}

# First line of the PROXY protocol for a connection that has no other origin than the client itself.
PROXY = b"PROXY UNKNOWN\r\n"


class HandshakeError(Exception):
    """The server did not behave like a WebSocket server; the message says what it did.

    :param answer: the server's definite answer, such as ``404``; empty if another attempt may help
    """

    def __init__(self, message: str, answer: str = "") -> None:
        super().__init__(message)
        self.answer = answer

    @property
    def wrong_question(self) -> bool:
        """Whether the server works, but expects another path, other headers or another message."""
        return self.answer == _MESSAGE or self.answer[:1] in ("2", "3", "4")


def ask(
    address: Address,
    probe: Probe,
    headers: Mapping[str, object] | None = None,
    sources: Iterable[str] = (),
    host: str = "",
) -> float:
    """Open a WebSocket, exchange the probe's message if it has one, close it, and return the seconds it took.

    :param address: path of a Unix socket, or (address, port); TLS and the PROXY protocol are for the latter only
    :param headers: further headers of the handshake, none by default
    :param sources: this host's addresses to connect from, one for each version of IP; by default the kernel chooses
    :param host: the header ``Host`` if it is not the probe's ``server_name``
    :raises HandshakeError: if the handshake, the message or the close fails, or takes longer than ``probe.timeout``
    """
    start = time.monotonic()
    connection = _Connection(start + probe.timeout)
    network = not isinstance(address, str)
    try:
        connection.open(address, sources)
        if network and probe.proxy_protocol:
            connection.socket.sendall(PROXY)
        if network and probe.certificate:
            connection.secure(probe.server_name, probe.certificate)
        origin = {"Origin": probe.origin} if probe.origin else {}
        connection.upgrade(host or probe.server_name, probe.path, {**origin, **(headers or {})})
        if probe.message:
            connection.send(_TEXT, probe.message.encode())
            reply = connection.receive_message()
        connection.close()  # before an error: otherwise the app's log would end with an unclean close
        if probe.message and reply != probe.message.encode():
            raise HandshakeError(
                f"answered {reply[:80]!r} to the message {probe.message[:80]!r}. Set websockets_gate_message to a message that"
                " your app sends back unchanged, or leave it empty for a handshake alone",
                _MESSAGE,
            )
    except TimeoutError:
        raise HandshakeError(f"did not answer within {probe.timeout:g} s") from None
    except FileNotFoundError:
        raise HandshakeError("does not exist (the app has not created its socket)") from None
    except ConnectionRefusedError:
        raise HandshakeError("refused the connection (nothing listens there)") from None
    except (BrokenPipeError, ConnectionResetError):
        raise HandshakeError(_CLOSED) from None
    except OSError as error:
        raise HandshakeError(f"failed: {error.strerror or error}") from None
    finally:
        connection.socket.close()
    return time.monotonic() - start


def fault(socket: str, probe: Probe, headers: Mapping[str, object], left: float = 5.0) -> HandshakeError | None:
    """Ask one process for a handshake as nginx would; return the error, None if the process answers.

    :param socket: path of its Unix socket
    :param left: seconds that the caller has left; the handshake gets 0.1 to 5 of them
    """
    try:
        # TLS ends at nginx, which tells the app so in this header.
        forwarded = {**FORWARDED, "X-Forwarded-Proto": "https" if probe.certificate else "http"}
        ask(socket, dataclasses.replace(probe, timeout=max(0.1, min(left, 5.0))), {**forwarded, **headers})
    except HandshakeError as error:
        return error
    return None


class _Connection:
    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.buffer = b""
        self.socket: socket.socket = socket.socket()

    def open(self, address: Address, sources: Iterable[str]) -> None:
        family = (
            socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        )
        self.socket.close()
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if family != socket.AF_UNIX:
            for source in (source for source in sources if (":" in source) == (":" in address[0])):
                self.socket.bind((source, 0))
        self._limit()
        if isinstance(address, str):
            self._connect_as_nginx(address)
        else:
            self.socket.connect(tuple(address))

    def _connect_as_nginx(self, path: str) -> None:
        """Connect to a process of an app: what root may do says nothing about what nginx may do."""
        account = nginx.account()
        try:
            with unix.acting_as(account):
                self.socket.connect(path)
        except PermissionError:
            if not account:
                raise
            raise HandshakeError(f"does not let nginx connect: {unix.refusal(path, account)}", "EACCES") from None

    def secure(self, host: str, certificate: str) -> None:
        """Go on over TLS. The client trusts only the deployed certificate, not the system's authorities."""
        self._limit()
        self.socket = tls.context().wrap_socket(self.socket, server_hostname=host)
        if self.socket.getpeercert(binary_form=True) != tls.first(certificate):
            raise HandshakeError(f"shows another certificate than {certificate}")

    def upgrade(self, host: str, path: str, headers: Mapping[str, object]) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        while b"\r\n\r\n" not in self.buffer:
            if len(self.buffer) > 65536:
                raise HandshakeError("answered something that is not HTTP", "not HTTP")
            self._fill()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        status, *answered = head.decode("latin-1").split("\r\n")
        code = "".join(status.split()[1:2])
        if code != "101":
            refused = f"refused the handshake: {status[:80]} {self.buffer[:120].decode('latin-1').strip()}"
            if code in _STARTING:
                raise HandshakeError(refused)
            # Only the names of the headers: a value may be secret.
            further = f" and the headers {', '.join(map(str, headers))}" if headers else ""
            raise HandshakeError(
                f"{refused}\nIt was asked for {path} with Host {host}{further}. If your app expects another path or further"
                " headers, set websockets_gate_path or websockets_gate_headers",
                code or "not HTTP",
            )
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in answered)}
        accept = base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()
        if fields.get("sec-websocket-accept") != accept:
            raise HandshakeError("answered 101 without the right Sec-WebSocket-Accept", "101")

    def send(self, opcode: int, payload: bytes) -> None:
        if len(payload) < 126:
            length = struct.pack("!B", 0x80 | len(payload))
        else:
            length = struct.pack("!BH", 0x80 | 126, len(payload))
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self._limit()
        self.socket.sendall(bytes([0x80 | opcode]) + length + mask + masked)

    def receive_message(self) -> bytes:
        message = b""
        while True:
            final, opcode, payload = self._receive_frame()
            if opcode == _CLOSE:
                code = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else "no code"
                raise HandshakeError(f"closed the connection with {code} instead of answering the message")
            if opcode == _PING:
                self.send(_PONG, payload)
            elif opcode != _PONG:
                message += payload
                if final:
                    return message

    def close(self) -> None:
        self.send(_CLOSE, struct.pack("!H", 1000))
        while self._receive_frame()[1] != _CLOSE:
            pass

    def _receive_frame(self) -> tuple[bool, int, bytes]:
        first, second = self._take(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", self._take(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._take(8))
        if length > 1 << 20:
            raise HandshakeError(f"sent a frame of {length} bytes")
        return bool(first & 0x80), first & 0x0F, self._take(length)

    def _take(self, size: int) -> bytes:
        while len(self.buffer) < size:
            self._fill()
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def _fill(self) -> None:
        self._limit()
        data = self.socket.recv(65536)
        if not data:
            raise HandshakeError(_CLOSED)
        self.buffer += data

    def _limit(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.socket.settimeout(left)
