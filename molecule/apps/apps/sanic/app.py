"""Echo, by Sanic."""

import asyncio

from sanic import Sanic, text

app = Sanic("echo")
clients = set()


@app.on_request
async def plain(request):
    if "upgrade" not in request.headers:
        return text(request.remote_addr)


@app.websocket("/")
async def echo(request, websocket):
    clients.add(websocket)
    try:
        async for message in websocket:
            await websocket.send(message)
    finally:
        clients.discard(websocket)


@app.before_server_stop
async def say_goodbye(app):
    # Sanic itself closes with 1000, which many clients take for an end that was wanted.
    await asyncio.gather(*(client.close(1012) for client in clients))
