"""Echo, by websockets' own server."""

import asyncio
import contextlib
import http
import os
import signal
import sys

from websockets.asyncio.server import unix_serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode


async def echo(websocket):
    with contextlib.suppress(ConnectionClosed):
        async for message in websocket:
            await websocket.send(message)


def plain(connection, request):
    if "Upgrade" not in request.headers:
        return connection.respond(http.HTTPStatus.OK, request.headers["X-Real-IP"])


async def main(path):
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with unix_serve(
        echo,
        path,
        process_request=plain,
        ping_interval=float(os.environ["WEBSOCKETS_PING_INTERVAL"]),
        backlog=int(os.environ["WEBSOCKETS_BACKLOG"]),
    ) as server:
        await stop.wait()
        server.close(code=CloseCode.SERVICE_RESTART)
        await server.wait_closed()


asyncio.run(main(sys.argv[1]))
