"""The probe against real WebSocket servers, and against servers that are not."""

import contextlib
import re
import socket
import struct
import threading
import time

import pytest
import websockets.sync.server
from ansible_collections.websockets.deploy.plugins.module_utils.handshake import HandshakeError, ask
from ansible_collections.websockets.deploy.plugins.module_utils.probe import Probe


def probe(address, headers=None, **what):
    return ask(address, Probe(**what), headers)


@pytest.fixture
def cleanup():
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def serve(short_path, cleanup):
    """Run a server of the websockets library in a thread; return its address."""

    def start(handler, **options):
        if "sock" in options:
            server = websockets.sync.server.serve(handler, **options)
        else:
            server = websockets.sync.server.unix_serve(handler, f"{short_path}/a.sock", **options)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        cleanup.callback(thread.join)
        cleanup.callback(server.shutdown)
        name = server.socket.getsockname()
        return name if isinstance(name, str) else name[:2]

    return start


@pytest.fixture
def answer(short_path, cleanup):
    """Run a server that answers a request with these bytes, or with a function's result; return its address."""

    def start(answered, hold_open=False):
        listener = cleanup.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(f"{short_path}/a.sock")
        listener.listen()
        ended = threading.Event()

        def once():
            connection, _ = listener.accept()
            with connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(4096)
                connection.sendall(answered(request) if callable(answered) else answered)
                if hold_open:
                    ended.wait()
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):  # closed with unread bytes, the kernel would send a reset
                    pass

        thread = threading.Thread(target=once)
        thread.start()
        cleanup.callback(thread.join)
        cleanup.callback(ended.set)
        return f"{short_path}/a.sock"

    return start


def echo(websocket):
    for message in websocket:
        websocket.send(message)


def accepted(frames=b""):
    """Return a function that accepts a handshake and sends these bytes after it."""

    def answered(request):
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", request)[1].decode()
        accept = websockets.utils.accept_key(key).encode()
        head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        return head + b"sec-websocket-ACCEPT:" + accept + b"\r\n\r\n" + frames

    return answered


# Servers that work


def test_a_handshake_is_enough(serve):
    assert 0 < probe(serve(echo)) < 5


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_tcp(serve, family, address):
    try:
        listener = socket.create_server((address, 0), family=family)
    except OSError as error:
        pytest.skip(f"this machine has no {family.name}: {error}")
    probe(serve(echo, sock=listener), message="hello")


@pytest.mark.parametrize(
    "message",
    [
        *("a", "héllo ✓", "a" * 125),
        pytest.param("a" * 126, id="first with two bytes of length"),
        pytest.param("a" * 65535, id="last with two bytes of length"),
    ],
)
def test_the_message_comes_back(serve, message):
    probe(serve(echo), message=message)


def test_the_message_may_come_back_in_fragments(serve):
    def fragments(websocket):
        websocket.send(iter(websocket.recv()))

    probe(serve(fragments), message="hello")


def test_a_server_that_pings_first_gets_its_pong(serve):
    ponged = []

    def ping(websocket):
        pong = websocket.ping(b"are you there")
        message = websocket.recv()
        ponged.append(pong.wait(5))
        websocket.send(message)

    probe(serve(ping), message="hello")
    assert ponged == [True]


def test_a_frame_of_eight_bytes_of_length(answer):
    """A server may write every length in eight bytes."""
    frames = b"\x81\x7f" + struct.pack("!Q", 5) + b"hello" + b"\x88\x00"
    probe(answer(accepted(frames)), message="hello")


def test_the_server_sees_name_path_headers_and_a_normal_end(serve, eventually):
    seen = []

    def handler(websocket):
        echo(websocket)
        request = websocket.request
        seen.append((request.path, request.headers["Host"], request.headers["Origin"], websocket.close_code))

    probe(
        serve(handler),
        server_name="ws.example.com",
        path="/ws?a=1",
        headers={"Origin": "https://a.example"},
        message="x",
    )
    assert eventually(lambda: seen) == [("/ws?a=1", "ws.example.com", "https://a.example", 1000)]


# Servers that do not work


def refuse(connection, request):
    return connection.respond(403, "Not you.\n")


def test_another_answer(serve):
    with pytest.raises(
        HandshakeError, match=r"^answered b'HELLO' to the message 'hello'\. Set websockets_gate_message "
    ):
        probe(serve(lambda websocket: websocket.send(websocket.recv().upper())), message="hello")


def test_a_refusal_is_told_with_its_words(serve):
    with pytest.raises(HandshakeError, match=r"^refused the handshake: HTTP/1.1 403 Forbidden Not you\.\n"):
        probe(serve(echo, process_request=refuse))


def test_a_refusal_says_what_was_asked_and_keeps_secrets(serve):
    with pytest.raises(HandshakeError) as refused:
        asked = {"server_name": "ws.example.com", "path": "/ws?a=1", "origin": "https://a.example"}
        probe(serve(echo, process_request=refuse), headers={"X-Token": "secret"}, **asked)
    assert "It was asked for /ws?a=1 with Host ws.example.com and the headers Origin, X-Token." in str(refused.value)
    assert "set websockets_gate_path or websockets_gate_headers" in str(refused.value)
    assert "secret" not in str(refused.value)


# {the server's answer: whether it may be another one a moment later}
ANSWERS = {
    "HTTP/1.1 400 Bad Request": False,
    "HTTP/1.1 404 Not Found": False,
    "HTTP/1.1 500 Internal Server Error": False,
    "HTTP/1.1 200 OK": False,
    "+OK ready": False,
    "HTTP/1.1 502 Bad Gateway": True,
    "HTTP/1.1 503 Service Unavailable": True,
    "HTTP/1.1 504 Gateway Timeout": True,
    "": True,
}


@pytest.mark.parametrize(("status", "may_change"), ANSWERS.items())
def test_an_answer_is_definite_unless_a_starting_server_gives_it(status, may_change, answer):
    with pytest.raises(HandshakeError) as refused:
        probe(answer(f"{status}\r\n\r\n".encode() if status else b""))
    assert (refused.value.answer == "") is may_change


def test_a_close_instead_of_an_answer(serve):
    def close(websocket):
        websocket.recv()
        websocket.close(1011, "no")

    with pytest.raises(HandshakeError, match=r"^closed the connection with 1011 instead of answering the message$"):
        probe(serve(close), message="hello")


def test_a_socket_that_does_not_exist():
    with pytest.raises(HandshakeError, match=r"^does not exist \(the app has not created its socket\)$"):
        probe("/nonexistent/a.sock")


def test_a_file_that_a_dead_process_has_left(short_path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{short_path}/a.sock")
    with pytest.raises(HandshakeError, match=r"^refused the connection \(nothing listens there\)$"):
        probe(f"{short_path}/a.sock")


def test_a_file_that_is_no_socket(short_path):
    (short_path / "a.sock").touch()
    with pytest.raises(HandshakeError, match=r"^refused the connection \(nothing listens there\)$"):
        probe(f"{short_path}/a.sock")


def test_a_server_that_accepts_and_never_answers(answer):
    start = time.monotonic()
    with pytest.raises(HandshakeError, match=r"^did not answer within 0\.3 s$"):
        probe(answer(b"", hold_open=True), timeout=0.3)
    assert 0.3 <= time.monotonic() - start < 2


def test_a_server_whose_every_byte_takes_time(short_path, cleanup):
    """The timeout is for the whole handshake: a byte now and then must not restart it."""
    listener = cleanup.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(f"{short_path}/a.sock")
    listener.listen()

    def drip():
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            for _ in range(100):
                connection.sendall(b"x")
                time.sleep(0.02)

    thread = threading.Thread(target=drip)
    thread.start()
    cleanup.callback(thread.join)
    with pytest.raises(HandshakeError, match=r"^did not answer within 0\.3 s$"):
        probe(f"{short_path}/a.sock", timeout=0.3)


def test_a_message_that_is_never_answered(serve):
    with pytest.raises(HandshakeError, match=r"^did not answer within 0\.3 s$"):
        probe(serve(lambda websocket: list(websocket)), message="hello", timeout=0.3)


SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\n"
WRONG = {
    "closes at once": (b"", "closed the connection without an answer"),
    "closes in the middle of its head": (SWITCHING, "closed the connection without an answer"),
    "closes in the middle of a frame": (accepted(b"\x81\x05hel"), "closed the connection without an answer"),
    "closes without a close frame": (accepted(b"\x81\x05hello"), "closed the connection without an answer"),
    "another protocol": (b"SSH-2.0-x\r\n\r\n", "refused the handshake: SSH-2.0-x "),
    "empty lines": (b"\r\n\r\n", "refused the handshake:  "),
    "not text": (bytes(range(128, 256)) + b"\r\n\r\n", "refused the handshake: \x80\x81"),
    "garbage without end": (b"x" * 70000, "answered something that is not HTTP"),
    "plain HTTP": (b"HTTP/1.1 200 OK\r\n\r\nhello\n", "refused the handshake: HTTP/1.1 200 OK hello"),
    "nginx without its app": (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "refused the handshake: HTTP/1.1 502 Bad Gateway "),
    "101 without a key": (SWITCHING + b"\r\n", "answered 101 without the right Sec-WebSocket-Accept"),
    "101 of another handshake": (
        SWITCHING + b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        "answered 101 without the right Sec-WebSocket-Accept",
    ),
    "a frame of terabytes": (
        accepted(b"\x81\x7f" + b"\x00\x00\x10" + b"\x00" * 5),
        "sent a frame of 17592186044416 bytes",
    ),
    "close without a code": (
        accepted(b"\x88\x00"),
        "closed the connection with no code instead of answering the message",
    ),
}


@pytest.mark.parametrize(("answered", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_answer_is_told(answer, answered, message):
    with pytest.raises(HandshakeError) as error:
        probe(answer(answered), message="hello")
    assert str(error.value).startswith(message)


def test_a_server_that_hangs_up(short_path, cleanup):
    """It closes before it has read the request: the kernel reports a reset or a broken pipe."""
    listener = cleanup.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(f"{short_path}/a.sock")
    listener.listen()
    thread = threading.Thread(target=lambda: listener.accept()[0].close())
    thread.start()
    cleanup.callback(thread.join)
    with pytest.raises(HandshakeError, match=r"^closed the connection without an answer$"):
        probe(f"{short_path}/a.sock", path="/" + "a" * 1_000_000)
