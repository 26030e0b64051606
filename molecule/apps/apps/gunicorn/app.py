"""Echo, by FastAPI."""

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import PlainTextResponse

app = FastAPI()


@app.get("/", response_class=PlainTextResponse)
async def plain(request: Request):
    return request.client.host


@app.websocket("/")
async def echo(websocket: WebSocket):
    await websocket.accept()
    async for message in websocket.iter_text():
        await websocket.send_text(message)
