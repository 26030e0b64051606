"""An echo that a project installs as a program of its own, from src/."""

import asyncio
import os
import signal

import click
from websockets.asyncio.server import unix_serve


async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)


async def serve(path):
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with unix_serve(echo, path, ping_interval=int(os.environ["WEBSOCKETS_PING_INTERVAL"])):
        await stop.wait()


@click.command()
@click.argument("path")
def main(path):
    asyncio.run(serve(path))
