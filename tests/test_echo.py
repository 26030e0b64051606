"""The echo app by itself: what it writes, and what it keeps."""

import asyncio
import contextlib
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import tracemalloc

import pytest
from role import ECHO
from websockets.asyncio.client import unix_connect as aio_connect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import unix_connect

MEBIBYTE = 2**20


class App:
    def __init__(self, folder, level, stderr=None):
        self.path, self._log = f"{folder}/a.sock", folder / "log"
        # PYTHONUNBUFFERED and the umask are as on a host.
        env = {**os.environ, "LOG_LEVEL": level, "PYTHONUNBUFFERED": "1"}
        with open(self._log, "wb") as log:
            command = [sys.executable, ECHO / "app.py", self.path]
            self.process = subprocess.Popen(command, env=env, stderr=stderr or log)

    def lines(self):
        """Return what it has written, without the times."""
        text = re.sub(r"(?m)^[-\d]{10} [:,\d]{12} ", "", self._log.read_text())
        return re.sub(r"after \d+\.\d s", "after N s", text).splitlines()

    def client(self, address):
        return unix_connect(self.path, additional_headers={"X-Forwarded-For": address})

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture
def start(short_path, eventually):
    with contextlib.ExitStack() as stack:

        def begin(level="info", **options):
            app = App(short_path, level, **options)
            stack.callback(app.process.wait)
            stack.callback(app.process.kill)

            def listens():
                with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(app.path)
                    return True

            eventually(listens)
            return app

        yield begin


def line(address, code, messages):
    return f"INFO echo: client {address}: closed with {code} after N s, {messages} messages"


def sent_away(client):
    with pytest.raises(ConnectionClosed) as closed:
        client.recv()
    return closed.value.rcvd.code == 1012


def test_each_client_has_one_line_when_it_has_gone(start, eventually):
    app = start()
    with app.client("192.0.2.1") as stays:
        stays.send("hello")
        assert stays.recv() == "hello"
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(app.path)
            monitor.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert monitor.recv(4096).startswith(b"HTTP/1.1 200")
        with app.client("192.0.2.2"):
            pass
        with app.client("192.0.2.3") as lost:
            lost.socket.shutdown(socket.SHUT_RDWR)
        # Whatever was written before these has come by then.
        eventually(lambda: len(app.lines()) >= 3)
        first = f"INFO echo: listens on {app.path}"
        expected = {line("192.0.2.2", 1000, 0), line("192.0.2.3", 1006, 0)}
        assert (app.lines()[0], set(app.lines()[1:]), len(app.lines())) == (first, expected, 3)
    eventually(lambda: len(app.lines()) >= 4)
    assert app.lines()[3:] == [line("192.0.2.1", 1000, 1)]


def test_no_line_is_lost_at_the_end(start):
    app = start()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(app.client(f"192.0.2.{number}")) for number in range(1, 6)]
        clients.pop().close()
        assert app.end() == 0
        for client in clients:
            assert sent_away(client)
    lines = app.lines()
    assert "INFO echo: ends, and asks 4 clients to come back" in lines
    for number in range(1, 6):
        assert lines.count(line(f"192.0.2.{number}", 1000 if number == 5 else 1012, 0)) == 1
    assert len(lines) == 7


def test_clients_are_asked_to_come_back_when_nobody_reads_the_log(start):
    """A supervisord that is killed takes the other end of the pipe with it."""
    reader, writer = os.pipe()
    app = start(stderr=writer)
    os.close(writer)
    with app.client("192.0.2.1") as client:
        os.close(reader)
        assert app.end() == 0
        assert sent_away(client)


@pytest.mark.parametrize(("level", "own", "librarys"), [("debug", 1, 1), ("warning", 0, 0), ("error", 0, 0)])
def test_the_level_says_who_writes(start, level, own, librarys):
    app = start(level)
    with app.client("192.0.2.1"):
        pass
    app.end()
    assert app.lines().count(line("192.0.2.1", 1000, 0)) == own
    assert app.lines().count("INFO websockets.server: connection open") == librarys
    assert bool(app.lines()) == bool(own)


def test_a_connection_keeps_no_message(short_path):
    count, path = 10, f"{short_path}/a.sock"
    app = runpy.run_path(str(ECHO / "app.py"))

    async def talk():
        async with contextlib.AsyncExitStack() as stack:
            serving = asyncio.create_task(app["main"](path))
            stack.callback(serving.cancel)
            while not os.path.exists(path):
                await asyncio.sleep(0.01)
            clients = [
                await stack.enter_async_context(aio_connect(path, compression=None, max_size=None))
                for _ in range(count)
            ]
            before = tracemalloc.get_traced_memory()[0]
            for client in clients:
                await client.send(bytes(MEBIBYTE))
                assert len(await client.recv()) == MEBIBYTE
                # The library keeps the last frame until the next one, as that of a ping.
                await (await client.ping())
            return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    try:
        kept = asyncio.run(talk())
    finally:
        tracemalloc.stop()
    assert kept < MEBIBYTE
