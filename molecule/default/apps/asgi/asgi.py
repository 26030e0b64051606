"""An ASGI app for uvicorn: tells its first message's sender what it sees, and echoes the others."""

import json
import os


def attempt(expression):
    """Return what an expression is to a process of the app, or how it fails: as an attacker in it would see it."""
    try:
        return str(eval(expression, {"__builtins__": __builtins__, "load": __import__}))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"asgi\n"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    while (event := await receive())["type"] == "websocket.receive":
        if event.get("text") == "headers":
            await send({"type": "websocket.send", "text": json.dumps(headers)})
        elif event.get("text") == "client":
            await send({"type": "websocket.send", "text": json.dumps([scope["scheme"], *(scope["client"] or [])])})
        elif event.get("text") == "secret":
            await send({"type": "websocket.send", "text": os.environ["API_TOKEN"]})
        elif (event.get("text") or "").startswith("attempt "):
            await send({"type": "websocket.send", "text": attempt(event["text"].removeprefix("attempt "))})
        else:
            await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})
