"""Echo, by python-socketio: each event comes back."""

import os

import socketio

server = socketio.AsyncServer(async_mode="asgi", ping_interval=int(os.environ["WEBSOCKETS_PING_INTERVAL"]))


async def plain(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["client"][0].encode()})


app = socketio.ASGIApp(server, plain)


@server.event
async def message(sid, text):
    await server.emit("message", text, to=sid)
