"""The echo server of the websockets documentation, as one of several processes behind nginx.

Usage: ``python app.py SOCKET``. The path of the Unix socket is the only argument; supervisord's
program gives each process its own. Read from the environment:

``WEBSOCKETS_PING_INTERVAL``
    Seconds between keepalive pings (default 20, websockets' own).
``LOG_LEVEL``
    Name of a level of :mod:`logging` (default ``info``).
"""

import asyncio
import http
import logging
import os
import signal
import sys

from websockets.asyncio.server import unix_serve

log = logging.getLogger("echo")


async def echo(websocket):
    # Behind a Unix socket there is no remote address: nginx passes the client's on.
    log.info("client %s", websocket.request.headers.get("X-Forwarded-For", "unknown"))
    async for message in websocket:
        await websocket.send(message)


def health(connection, request):
    """Answer a plain GET of /healthz, so that a monitor need not speak WebSocket."""
    if request.path == "/healthz":
        return connection.respond(http.HTTPStatus.OK, "OK\n")


async def main(path):
    ping_interval = float(os.environ.get("WEBSOCKETS_PING_INTERVAL", "20"))
    async with unix_serve(
        echo, path, process_request=health, ping_interval=ping_interval
    ) as server:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, server.close)  # clients get 1001
        await server.wait_closed()


if __name__ == "__main__":
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        level=os.environ.get("LOG_LEVEL", "info").upper(),
    )
    asyncio.run(main(sys.argv[1]))
