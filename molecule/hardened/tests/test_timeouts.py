"""Whoever does not finish a handshake is sent away after websockets_handshake_timeout, wherever he has stopped."""

import concurrent.futures
import time

import pytest
from conftest import PORTS

TIMEOUT = 10  # the default
pytestmark = pytest.mark.usefixtures("unharmed")

# Each: the port (None for 443 without TLS), and what the client sends: at once, and then every second.
DAWDLERS = {
    "nothing": (PORTS["http"], b"", b""),
    "half a head": (PORTS["http"], b"GET / HTTP/1.1\r\nHost: loc", b""),
    "a byte of a head each second": (PORTS["http"], b"GET / HTTP/1.1\r\nX: ", b"a"),
    "no TLS": (None, b"", b""),
    "a byte of TLS each second": (None, b"\x16\x03\x01\x02\x00\x01", b"\x00"),
    "TLS, and then nothing": (PORTS["https"], b"", b""),
    "TLS and half a head": (PORTS["https"], b"GET / HTTP/1.1\r\nHost: loc", b""),
    "TLS and a byte of a head each second": (PORTS["https"], b"GET / HTTP/1.1\r\nX: ", b"a"),
    "TLS and a head of somebody else": (PORTS["https"], b"GET / HTTP/1.1\r\nHost: evil.example\r\nX: ", b"a"),
    "a request, and then nothing": (PORTS["https"], b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b""),
    "a byte of a body each second": (
        PORTS["https"],
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n",
        b"a",
    ),
    "a byte of a body each second, to be led to TLS": (
        PORTS["http"],
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n",
        b"a",
    ),
}


def test_who_does_not_finish_a_handshake_is_sent_away(open_connection):
    def seconds(case):
        port, first, then = case
        with open_connection(port) as connection:
            started = time.monotonic()
            connection.settimeout(1)
            sent = first
            while time.monotonic() < started + 3 * TIMEOUT:
                try:
                    connection.sendall(sent)
                    sent = then
                    while connection.recv(4096):
                        pass
                    break
                except TimeoutError:
                    continue
                except OSError:  # it has ended amid a byte
                    break
            return time.monotonic() - started

    with concurrent.futures.ThreadPoolExecutor(len(DAWDLERS)) as pool:
        took = dict(zip(DAWDLERS, pool.map(seconds, DAWDLERS.values()), strict=True))
    # The clocks of nginx and of this differ by how long it takes to get there.
    wrong = {what: time for what, time in took.items() if not TIMEOUT - 1 < time < TIMEOUT + 3}
    assert wrong == {}
