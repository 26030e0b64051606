"""Echo, by aiohttp."""

import asyncio
import os
import sys
import weakref

from aiohttp import WSCloseCode, web

clients = weakref.WeakSet()


async def echo(request):
    websocket = web.WebSocketResponse(heartbeat=float(os.environ["WEBSOCKETS_PING_INTERVAL"]))
    if not websocket.can_prepare(request):
        return web.Response(text=request.headers["X-Real-IP"])
    await websocket.prepare(request)
    clients.add(websocket)
    async for message in websocket:
        await websocket.send_str(message.data)
    return websocket


async def say_goodbye(app):
    # aiohttp itself reads nothing any more after this, and leaves its clients open for shutdown_timeout (60 s).
    await asyncio.gather(*(client.close(code=WSCloseCode.SERVICE_RESTART) for client in list(clients)))


app = web.Application()
app.add_routes([web.get("/", echo)])
app.on_shutdown.append(say_goodbye)
web.run_app(app, path=sys.argv[1], backlog=int(os.environ["WEBSOCKETS_BACKLOG"]), access_log=None)
