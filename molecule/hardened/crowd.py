"""Many clients on one host; no package is needed.

``crowd.py flood ADDRESS SECONDS REFUSALS`` opens one WebSocket after the other as fast as it can, and closes it at once. It
goes on after these seconds until it has been refused as often as that, however slow the machine is; but for two minutes at
most.
``crowd.py fill ADDRESS CLIENTS PER_SOURCE`` opens as many and holds them, so many from each of 127.1.0.0, 127.1.0.1, …,
then has one more come, the others talk, one go, and another one come in its place.
Both print what the handshakes were answered with, as JSON.
"""

import collections
import json
import resource
import socket
import ssl
import sys
import time

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
# A text frame, "hello", with a mask of zeros; and what comes back.
HELLO, HELLO_BACK = b"\x81\x85\0\0\0\0hello", b"\x81\x05hello"

# A flood does not stop to look who answers.
TRUST = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TRUST.check_hostname, TRUST.verify_mode = False, ssl.CERT_NONE


def open_websocket(address, source=None):
    """Return a connection and the status of the answer to its handshake."""
    plain = socket.create_connection((address, 443), 10, source and (source, 0))
    connection = TRUST.wrap_socket(plain, server_hostname="localhost")
    connection.sendall(HANDSHAKE)
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(4096)
        if not data:
            return connection, "closed"
        head += data
    return connection, head.split()[1].decode()


def flood(address, seconds, refusals):
    answers, start = collections.Counter(), time.monotonic()
    while (took := time.monotonic() - start) < float(seconds) or (answers["503"] < int(refusals) and took < 120):
        connection, status = open_websocket(address)
        connection.close()
        answers[status] += 1
    return {"answers": answers, "seconds": time.monotonic() - start}


def fill(address, clients, per_source):
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(clients) + 64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    answers, held = collections.Counter(), []
    for number in range(int(clients)):
        connection, status = open_websocket(address, f"127.1.0.{number // int(per_source)}")
        answers[status] += 1
        held.append(connection)
    extra = open_websocket(address, "127.1.1.0")[1]
    talked = 0
    for connection in held:
        connection.sendall(HELLO)
        talked += connection.recv(len(HELLO_BACK)) == HELLO_BACK
    held.pop().close()
    deadline = time.monotonic() + 10
    while (again := open_websocket(address, "127.1.1.0")[1]) != "101" and time.monotonic() < deadline:
        pass
    return {"answers": answers, "one more": extra, "talked": talked, "after one has gone": again}


if __name__ == "__main__":
    print(json.dumps({"flood": flood, "fill": fill}[sys.argv[1]](*sys.argv[2:])))
