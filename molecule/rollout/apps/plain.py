"""The echo server of the websockets documentation ("Deploy behind nginx"): at SIGTERM it closes all clients at once."""

import asyncio
import signal
import sys

from websockets.asyncio.server import unix_serve


async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)


async def main(path):
    async with unix_serve(echo, path) as server:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.close)
        await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
