"""Socket.IO, plain HTTP and a WebSocket in one app under uvicorn. What it knows is in the memory of its process."""

import asyncio
import hashlib
import os
import uuid
from pathlib import Path

import socketio
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse

PROCESS = os.environ["SUPERVISOR_PROCESS_NAME"]
# One file for all processes: the app's own folder.
ORDERS = Path.home() / "orders"
server = socketio.AsyncServer(async_mode="asgi")
api = FastAPI()
counts = {}


@server.event
async def echo(_, message):
    return message


@api.get("/count")
async def count(request: Request, response: Response):
    """Count the requests of a session, which the app knows by a cookie of its own."""
    session = request.cookies.get("session")
    if session not in counts:
        session = uuid.uuid4().hex
        response.set_cookie("session", session)
    counts[session] = counts.get(session, 0) + 1
    return {"process": PROCESS, "count": counts[session]}


@api.api_route("/mirror", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
async def mirror(request: Request, response: Response):
    """Say what has been asked."""
    body = await request.body()
    response.headers["X-Mine"] = "yes"
    names = ("content-type", "content-length", "transfer-encoding", "authorization", "cookie", "x-own")
    return {
        "method": request.method,
        "url": [request.url.path, request.url.query],
        "headers": {name: request.headers.get(name) for name in names},
        "body": [len(body), hashlib.sha256(body).hexdigest()],
    }


@api.get("/status/{code}")
async def status(code: int):
    headers = {"Retry-After": "7", "ETag": '"a"', "Cache-Control": "no-store", "Location": "/elsewhere"}
    return Response(f"this is {code}", status_code=code, headers=headers)


@api.get("/large")
async def large():
    return StreamingResponse((bytes([number]) * 65536 for number in range(80)), media_type="application/octet-stream")


@api.get("/events")
async def events(unbuffered: bool = True):
    """Send three events, and half a second between them."""

    async def lines():
        for number in range(3):
            yield f"data: {number}\n\n"
            await asyncio.sleep(0.5)

    headers = {"X-Accel-Buffering": "no"} if unbuffered else {}
    return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)


@api.post("/order/{number}")
async def order(number: str, dies: bool = False, busy: bool = False):
    """Take an order, which must not be taken twice."""
    with ORDERS.open("a") as file:
        file.write(f"{number}\n")
    if dies:
        os._exit(1)
    return Response(PROCESS, status_code=503 if busy else 201)


@api.websocket("/ws")
async def talk(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_text(PROCESS)
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        pass


app = socketio.ASGIApp(server, api)
