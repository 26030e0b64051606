"""Malformed and hostile handshakes and frames, each with its answer from nginx or from the echo app behind it.

tests/test_abuse.py sends them to its own nginx; molecule/hardened/tests sends them to a deployed host, over TLS.
"""

import contextlib
import ssl
import struct
import zlib

HOST, UPGRADE, CONNECTION = "Host: localhost", "Upgrade: websocket", "Connection: Upgrade"
KEY, VERSION = "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==", "Sec-WebSocket-Version: 13"
GOOD = [HOST, UPGRADE, CONNECTION, KEY, VERSION]
SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


def request(line="GET / HTTP/1.1", headers=GOOD, also=(), without=(), end="\r\n", body=""):
    """Return a handshake: a good one but ``without`` some of its headers, and with the headers ``also``."""
    lines = [line, *(header for header in headers if header not in without), *also]
    text = "".join(f"{line}{end}" for line in lines) + end + body
    return text.encode("utf-8", "surrogateescape")


def instead(header, *others):
    return request(without=[header], also=others)


def frame(opcode, payload=b"", first=0x80, mask=b"\x01\x02\x03\x04", length=None):
    """Return a client's frame; ``first`` has the bits beside the opcode, and ``length`` replaces the real length."""
    size = len(payload) if length is None else length
    masked = 0x80 if mask else 0
    if size < 126:
        head = struct.pack("!BB", first | opcode, masked | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first | opcode, masked | 126, size)
    else:
        head = struct.pack("!BBQ", first | opcode, masked | 127, size)
    return head + mask + bytes(byte ^ mask[index % 4] if mask else byte for index, byte in enumerate(payload))


CONTINUATION, TEXT, BINARY, CLOSE, PING = 0, 1, 2, 8, 9
MORE = 0  # instead of 0x80: this is not the message's last frame
BOMB = zlib.compress(bytes(1 << 26), 9, wbits=-15)  # 64 MiB in 64 KiB
MEBIBYTE = 1 << 20

# {name: (bytes to send, statuses of the answers)}. The last status is the answer to LAST_REQUEST, or to LAST_FRAME after
# an upgrade, unless the server has closed the connection before.
HANDSHAKES = {
    "a good one": (request(), "101 1005"),
    # Versions
    "no version": (request(without=[VERSION]), "400 426"),
    "version 12": (instead(VERSION, "Sec-WebSocket-Version: 12"), "400 426"),
    "version thirteen": (instead(VERSION, "Sec-WebSocket-Version: thirteen"), "400 426"),
    "two versions in one": (instead(VERSION, "Sec-WebSocket-Version: 13, 8"), "400 426"),
    "the version twice": (request(also=[VERSION]), "400 426"),
    # Keys
    "no key": (request(without=[KEY]), "400 426"),
    "the key twice": (request(also=[KEY]), "400 426"),
    "a key of nothing": (instead(KEY, "Sec-WebSocket-Key:"), "400 426"),
    "a key of 15 bytes": (instead(KEY, "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2Rl"), "400 426"),
    "a key that is not base64": (instead(KEY, "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!!!"), "400 426"),
    "a key of 7,000 letters": (instead(KEY, f"Sec-WebSocket-Key: {'A' * 7000}"), "400 426"),
    # Upgrade and Connection
    "no upgrade": (request(without=[UPGRADE]), "426 426"),
    "upgrade to something else": (instead(UPGRADE, "Upgrade: h2c"), "426 426"),
    "upgrade to two at once": (instead(UPGRADE, "Upgrade: h2c, websocket"), "426 426"),
    "upgrade in capitals": (instead(UPGRADE, "Upgrade: WEBSOCKET"), "101 1005"),
    "no connection": (request(without=[CONNECTION]), "426 426"),
    "connection that closes": (instead(CONNECTION, "Connection: close"), "426"),
    "connection with more": (instead(CONNECTION, "Connection: keep-alive, Upgrade"), "101 1005"),
    # Request lines
    "POST": (request("POST / HTTP/1.1"), "405 426"),
    "OPTIONS": (request("OPTIONS / HTTP/1.1"), "405 426"),
    "TRACE": (request("TRACE / HTTP/1.1"), "405"),
    "CONNECT": (request("CONNECT localhost:80 HTTP/1.1"), "400"),
    "a method in small letters": (request("get / HTTP/1.1"), "400"),
    "HTTP/2 without asking": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"),
    "HTTP/2.0": (request("GET / HTTP/2.0"), "505"),
    "HTTP/1.0": (request("GET / HTTP/1.0"), "101 1005"),
    "HTTP/0.9": (b"GET /\r\n", ""),
    "no HTTP at all": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), "400"),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", "400"),
    "an absolute URI": (request("GET http://localhost/ HTTP/1.1"), "101 1005"),
    "an absolute URI of another host": (request("GET http://evil.example/ HTTP/1.1"), ""),
    "a path above the root": (request("GET /../../etc/passwd HTTP/1.1"), "400"),
    "a zero byte in the path": (request("GET /\0 HTTP/1.1"), "400"),
    "an encoded zero byte in the path": (request("GET /%00 HTTP/1.1"), "400"),
    "a line break in the path": (request("GET /%0d%0aX-Real-IP:%20192.0.2.66 HTTP/1.1"), "101 1005"),
    "a request line of 9,000 bytes": (request(f"GET /{'a' * 9000} HTTP/1.1"), "414"),
    "a request line of 1 MiB": (request(f"GET /{'a' * MEBIBYTE} HTTP/1.1"), "414"),
    # Headers
    "no host": (request(without=[HOST]), "400"),
    "two hosts": (request(also=["Host: evil.example"]), "400"),
    "a host that is a path": (instead(HOST, "Host: local/../host"), "400"),
    "the name of another host": (instead(HOST, "Host: evil.example"), ""),
    "a zero byte in a header": (request(also=["X: a\0b"]), "400"),
    "a header without a colon": (request(also=["X"]), "101 1005"),
    "a space in front of a colon": (request(also=["Content-Length : 5"]), "400"),
    "a folded header": (request(also=["X: a", " b"]), "400"),
    "a header of 9,000 bytes": (request(also=[f"X: {'a' * 9000}"]), "400"),
    "40 kB of headers": (request(also=[f"X-{number}: {'a' * 8000}" for number in range(5)]), "400"),
    "200 headers": (request(also=[f"X-{number}: a" for number in range(200)]), "431 426"),
    "bytes above 127": (request(also=["X: \udcff\udcfe"]), "101 1005"),
    "line feeds alone": (request(end="\n"), "101 1005"),
    # Bodies: neither nginx nor the app may read a part of a body as another request
    "a body": (request(also=["Content-Length: 5"], body="hello"), "413"),
    "a body of a terabyte": (request(also=["Content-Length: 1099511627776"]), "413"),
    "a body in chunks": (request(also=["Transfer-Encoding: chunked"], body="5\r\nhello\r\n0\r\n\r\n"), "413"),
    "both lengths": (
        request(also=["Content-Length: 4", "Transfer-Encoding: chunked"], body=f"0\r\n\r\n{SMUGGLED}"),
        "400",
    ),
    "both lengths, the other way round": (
        request(also=["Transfer-Encoding: chunked", "Content-Length: 4"], body=f"0\r\n\r\n{SMUGGLED}"),
        "400",
    ),
    "two lengths": (request(also=["Content-Length: 0", f"Content-Length: {len(SMUGGLED)}"], body=SMUGGLED), "400"),
    "a negative length": (request(also=["Content-Length: -1"], body=SMUGGLED), "400"),
    "a length in hexadecimal": (request(also=["Content-Length: 0x10"], body=SMUGGLED), "400"),
    "an unknown coding": (request(also=["Transfer-Encoding: xchunked"], body=SMUGGLED), "501"),
    "two codings": (request(also=["Transfer-Encoding: gzip, chunked"], body=SMUGGLED), "501"),
    "the coding twice": (request(also=["Transfer-Encoding: chunked"] * 2, body=f"0\r\n\r\n{SMUGGLED}"), "400"),
    "chunks in HTTP/1.0": (
        request("GET / HTTP/1.0", also=["Transfer-Encoding: chunked"], body=f"0\r\n\r\n{SMUGGLED}"),
        "400",
    ),
    "a chunk of a length that overflows": (
        request(also=["Transfer-Encoding: chunked"], body=f"{'f' * 17}\r\nhello"),
        "400",
    ),
    # Several requests on a connection
    "a good one behind one that is refused": (
        instead(VERSION, "Sec-WebSocket-Version: 12") + request(),
        "400 101 1005",
    ),
    "a smuggled one behind an upgrade": (request(body=SMUGGLED), "101 1002"),
    "garbage behind an upgrade": (request() + b"\xff" * 64, "101 1002"),
    "a message behind an upgrade": (request() + frame(TEXT, b"hello"), "101 hello 1005"),
    # Forged addresses; tests/test_access.py shows what the app gets
    "forged addresses": (
        request(also=["X-Forwarded-For: 127.0.0.1", "X-Real-IP: ::1", "Forwarded: for=_x"]),
        "101 1005",
    ),
    "a forged origin": (request(also=["Origin: https://evil.example"]), "403 426"),
    "600 addresses": (request(also=[f"X-Forwarded-For: {', '.join(['192.0.2.66'] * 600)}"]), "101 1005"),
    "the PROXY protocol": (b"PROXY TCP4 192.0.2.66 127.0.0.1 1 80\r\n" + request(), "400"),
}

# {name: (frames after a good handshake, the answers: messages and the code of the close)}.
FRAMES = {
    "a good one": (frame(TEXT, b"hello"), "hello 1005"),
    "a close with a code": (frame(CLOSE, b"\x03\xe8"), "1000"),
    "without a mask": (frame(TEXT, b"hello", mask=b""), "1002"),
    "a mask of zeros": (frame(TEXT, b"hello", mask=bytes(4)), "hello 1005"),
    **{
        f"reserved bit {bit}": (frame(TEXT, b"hello", first=0x80 | value), "1002")
        for bit, value in ((1, 0x40), (2, 0x20), (3, 0x10))
    },
    **{f"opcode {opcode}": (frame(opcode, b"hello"), "1002") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "compressed, which was not agreed": (frame(BINARY, BOMB, first=0xC0), "1002"),
    "compressed in two parts": (frame(BINARY, BOMB[:100], first=0x40) + frame(CONTINUATION, BOMB[100:]), "1002"),
    # Fragments
    "a ping in fragments": (frame(PING, b"a", first=MORE) + frame(CONTINUATION, b"b"), "1002"),
    "a close in fragments": (frame(CLOSE, b"\x03", first=MORE) + frame(CONTINUATION, b"\xe8"), "1002"),
    "a continuation of nothing": (frame(CONTINUATION, b"hello"), "1002"),
    "a message inside another": (frame(TEXT, b"a", first=MORE) + frame(TEXT, b"b"), "1002"),
    "a ping inside a message": (
        frame(TEXT, b"a", first=MORE) + frame(PING, b"x") + frame(CONTINUATION, b"b"),
        "pong ab 1005",
    ),
    "100 fragments": (
        frame(TEXT, first=MORE) + frame(CONTINUATION, first=MORE) * 98 + frame(CONTINUATION, b"x"),
        "x 1005",
    ),
    "10,000 fragments": (frame(TEXT, first=MORE) + frame(CONTINUATION, first=MORE) * 9999, "1009"),
    # Control frames
    "a ping of 126 bytes": (frame(PING, bytes(126)), "1002"),
    "a close of one byte": (frame(CLOSE, b"\x03"), "1002"),
    **{
        f"close code {code}": (frame(CLOSE, struct.pack("!H", code)), "1002")
        for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535)
    },
    "a reason that is no UTF-8": (frame(CLOSE, b"\x03\xe8\xff"), "1007"),
    "messages after a close": (frame(CLOSE, b"\x03\xe8") + frame(TEXT, b"hello") * 3, "1000"),
    "1,000 pings": (frame(PING) * 1000, "pong " * 1000 + "1005"),
    # Text
    "no UTF-8": (frame(TEXT, b"hell\xff"), "1007"),
    "half a character": (frame(TEXT, b"\xf0\x9f\x98"), "1007"),
    "UTF-8 that is too long": (frame(TEXT, b"\xc0\xaf"), "1007"),
    "half of a pair": (frame(TEXT, b"\xed\xa0\x80"), "1007"),
    "beyond the last character": (frame(TEXT, b"\xf4\x90\x80\x80"), "1007"),
    "a character in two fragments": (
        frame(TEXT, b"\xc3", first=MORE) + frame(CONTINUATION, b"\xa9"),
        "é 1005",
    ),
    "no UTF-8 in the second fragment": (frame(TEXT, b"hell", first=MORE) + frame(CONTINUATION, b"\xff"), "1007"),
    # Lengths
    "a byte too much": (frame(BINARY, bytes(MEBIBYTE + 1)), "1009"),
    "a byte too much in two fragments": (
        frame(BINARY, bytes(MEBIBYTE), first=MORE) + frame(CONTINUATION, b"x"),
        "1009",
    ),
    "an exabyte is promised": (frame(BINARY, b"hello", length=1 << 60), "1009"),
    "a length with its highest bit": (frame(BINARY, b"hello", length=1 << 63), "1009"),
    "the largest length": (frame(BINARY, b"hello", length=(1 << 64) - 1), "1009"),
    "a length in more bytes than needed": (
        struct.pack("!BBQ", 0x80 | TEXT, 0x80 | 127, 1) + bytes(4) + b"x",
        "x 1005",
    ),
    "HTTP instead": (SMUGGLED.encode(), "1002"),
    "zeros": (bytes(4096), "1002"),
}


class Client:
    """A client that can send any bytes, and reads the answers."""

    def __init__(self, connection):
        self.socket = connection
        self.buffer = b""

    def send(self, data):
        # The server may answer and close before it has read everything.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.socket.sendall(data)

    def fill(self):
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        self.buffer += data
        return bool(data)

    def take(self, size):
        while len(self.buffer) < size:
            if not self.fill():
                raise EOFError
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def answer(self):
        """Read an answer to its end and return its status."""
        while b"\r\n\r\n" not in self.buffer:
            if not self.fill():
                raise EOFError
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        self.take(int(headers.get("content-length", 0)))
        return first.split()[1]

    def frame(self):
        """Return a frame as one word: its text, pong, or the code of a close."""
        first, length = self.take(2)
        if length == 126:
            (length,) = struct.unpack("!H", self.take(2))
        payload = self.take(length)
        if first & 0x0F == 10:
            return "pong"
        if first & 0x0F == CLOSE:
            return str(struct.unpack("!H", payload[:2])[0] if payload else 1005)
        return payload.decode()


# A client sends these after its handshake. They show where the server goes on reading, and end the connection.
LAST_REQUEST = f"GET / HTTP/1.1\r\n{HOST}\r\nConnection: close\r\n\r\n".encode()
LAST_FRAME = frame(CLOSE)


# {name: (bytes to send, the answers)}.
CASES = {
    **{f"handshake: {what}": case for what, case in HANDSHAKES.items()},
    **{f"frames: {what}": (request() + sent, f"101 {back}") for what, (sent, back) in FRAMES.items()},
}


def answers(connection, data, expected):
    """Return the statuses of the answers on a connection, and the frames after an upgrade, until it ends.

    The client sends LAST_REQUEST at once. It sends LAST_FRAME after all answers that are expected before it, because an
    app that has got a close frame sends nothing more.
    """
    client, words = Client(connection), []
    with client.socket:
        client.send(data if "101" in expected else data + LAST_REQUEST)
        try:
            while True:
                if expected.endswith(" 1005") and len(words) == len(expected.split()) - 1:
                    client.send(LAST_FRAME)
                words.append(client.frame() if "101" in words else client.answer())
        except EOFError:
            return " ".join(words)
