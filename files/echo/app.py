"""The echo server of the websockets documentation, as one of several processes behind nginx.

Usage: ``python app.py SOCKET``. The path of the Unix socket is the only argument; supervisord's
program gives each process its own. Read from the environment:

``WEBSOCKETS_BACKLOG``
    Clients that may wait to be accepted (default 100, asyncio's own).
``WEBSOCKETS_PING_INTERVAL``
    Seconds between keepalive pings (default 20, websockets' own).
``WEBSOCKETS_DRAIN_RATE``
    Clients per second to send away at a stop (default 100).
``WEBSOCKETS_STOPWAITSECS``
    Seconds after SIGTERM in which to end (default 30).
``MAX_SIZE``
    Bytes of the largest message that is accepted (default 1048576, websockets' own).
``LOG_LEVEL``
    Name of a level of :mod:`logging` (default ``info``, a line for each client when it has gone; the library's own lines
    come with ``debug``).
"""

import asyncio
import contextlib
import http
import logging
import os
import signal
import sys
import time

from websockets.asyncio.server import unix_serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

BACKLOG = int(os.environ.get("WEBSOCKETS_BACKLOG", "100"))
PING_INTERVAL = float(os.environ.get("WEBSOCKETS_PING_INTERVAL", "20"))
MAX_SIZE = int(os.environ.get("MAX_SIZE", "1048576"))
DRAIN_RATE = float(os.environ.get("WEBSOCKETS_DRAIN_RATE", "100"))
STOPWAITSECS = float(os.environ.get("WEBSOCKETS_STOPWAITSECS", "30"))

log = logging.getLogger("echo")


class Together(logging.StreamHandler):
    """Write the lines of a fifth of a second at once: what supervisord does for a write takes longer than the line."""

    waiting = None

    def flush(self):
        """Called after each line, and at the end of the program."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # at the end, or in a thread
            super().flush()
        else:
            self.waiting = self.waiting or loop.call_later(0.2, self.write)

    def write(self):
        self.waiting = None
        super().flush()


async def echo(websocket):
    # Behind a Unix socket there is no remote address: nginx passes the client's on.
    client = websocket.request.headers.get("X-Forwarded-For", "unknown")
    # Nothing reads the headers again, and they are a fifth of what an idle connection takes.
    websocket.request.headers.clear()
    websocket.response.headers.clear()
    since, messages = time.monotonic(), 0
    with contextlib.suppress(ConnectionClosed):  # whoever closes first
        async for message in websocket:
            await websocket.send(message)
            messages += 1
            # Otherwise it is kept until the next one comes, for each connection.
            del message
    seconds = time.monotonic() - since
    log.info("client %s: closed with %s after %.1f s, %d messages", client, websocket.close_code, seconds, messages)


def health(connection, request):
    """Answer a plain GET of /healthz, so that a monitor need not speak WebSocket."""
    if request.path == "/healthz":
        return connection.respond(http.HTTPStatus.OK, "OK\n")


async def drain(server):
    """Accept nobody else, and ask the clients one by one to come back: to another process."""
    server.close(close_connections=False)
    clients = list(server.connections)
    log.info("ends, and asks %d clients to come back", len(clients))
    # Half of the time for asking, the other half for clients that are slow to answer.
    rate = max(DRAIN_RATE, len(clients) / (STOPWAITSECS / 2))
    async with asyncio.TaskGroup() as closing:
        for client in clients:
            closing.create_task(client.close(CloseCode.SERVICE_RESTART))
            await asyncio.sleep(1 / rate)


async def main(path):
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with unix_serve(
        echo,
        path,
        process_request=health,
        # With it, a tenth of the messages of 64 KiB and less than half of those of 1 KiB come through, and a connection
        # takes three times the memory (docs/performance.md).
        compression=None,
        max_size=MAX_SIZE,
        ping_interval=PING_INTERVAL,
        backlog=BACKLOG,
        server_header=None,  # nginx says what it is itself
    ) as server:
        log.info("listens on %s", path)
        await stop.wait()
        await drain(server)


if __name__ == "__main__":
    # A line takes half of the time if logging does not look up what its format leaves out.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = logging.logAsyncioTasks = False
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        level=os.environ.get("LOG_LEVEL", "info").upper(),
        handlers=[Together(os.fdopen(2, "w", errors="backslashreplace", closefd=False))],
    )
    if log.getEffectiveLevel() == logging.INFO:
        # It has three lines for each connection.
        logging.getLogger("websockets.server").setLevel(logging.WARNING)
    asyncio.run(main(sys.argv[1]))
