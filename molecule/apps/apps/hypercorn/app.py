"""Echo, by ASGI itself, and hypercorn started by the app, so that the clients get a close frame at SIGTERM."""

import asyncio
import os
import signal
import sys

from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.middleware import ProxyFixMiddleware

clients = set()


async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["client"][0].encode()})
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        clients.add(send)
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event["text"]})
        clients.discard(send)


async def main(path):
    config, stop = Config(), asyncio.Event()
    config.bind = [f"unix:{path}"]
    config.backlog = int(os.environ["WEBSOCKETS_BACKLOG"])
    config.websocket_ping_interval = float(os.environ["WEBSOCKETS_PING_INTERVAL"])
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    async def shutdown():
        await stop.wait()
        # Since Python 3.12 hypercorn waits without an end for the clients to go, and tells them nothing.
        for send in list(clients):
            await send({"type": "websocket.close", "code": 1012})

    await serve(ProxyFixMiddleware(app), config, shutdown_trigger=shutdown)


asyncio.run(main(sys.argv[1]))
