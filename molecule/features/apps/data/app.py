"""The echo app with a database: each message is a row, and the answer is how many rows there are."""

import asyncio
import os
import sqlite3
import sys

from websockets.asyncio.server import ServerConnection, unix_serve


async def main(path: str) -> None:
    rows = sqlite3.connect(os.environ["DATABASE"], timeout=10)
    rows.execute("CREATE TABLE IF NOT EXISTS said (message TEXT)")
    rows.commit()

    async def count(websocket: ServerConnection) -> None:
        async for message in websocket:
            with rows:
                rows.execute("INSERT INTO said VALUES (?)", (message,))
            await websocket.send(str(rows.execute("SELECT count(*) FROM said").fetchone()[0]))

    async with unix_serve(count, path):
        await asyncio.Future()


asyncio.run(main(sys.argv[1]))
