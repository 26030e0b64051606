"""Clients of the app, run on its host by the app's own Python. Prints what they saw, as JSON."""

import asyncio
import collections
import json
import os
import sys
import time

import aiohttp
import socketio
from websockets.asyncio.client import connect


def session(number):
    """Return a session with cookies of its own, at an address of its own."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=(f"127.0.1.{number}", 0)))


async def come(url, transports, number):
    """Connect by Socket.IO and talk; return the transport at the end, or why it failed."""
    async with session(number) as http:
        client = socketio.AsyncClient(reconnection=False, http_session=http)
        try:
            await client.connect(url, transports=transports, wait_timeout=5)
            for message in range(5):
                assert await client.call("echo", message, timeout=5) == message
            return client.transport()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        finally:
            await client.disconnect()


async def talk(url, *transports):
    """Return what eight clients of Socket.IO saw."""
    return await asyncio.gather(*(come(url, list(transports) or None, number) for number in range(1, 9)))


async def count(url):
    """Return the last counts of eight clients that have asked ten times each."""
    last = []
    for number in range(1, 9):
        async with session(number) as http:
            for _ in range(10):
                async with http.get(f"{url}/count") as answer:
                    got = await answer.json()
        last.append(got["count"])
    return last


async def spread(url, sources):
    """Return how many of 200 clients, all there at once and from so many addresses, each process has."""
    clients, found = [], collections.Counter()
    for number in range(200):
        source = f"127.0.3.{1 + number % int(sources)}"
        clients.append(await connect(f"{url.replace('http', 'ws', 1)}/ws", local_addr=(source, 0)))
        found[await clients[-1].recv()] += 1
    await asyncio.gather(*(client.close() for client in clients))
    return dict(sorted(found.items()))


async def stay(url, until, *transports):
    """Keep eight clients until there is a file; return for each its times without a connection, and its failed calls."""

    async def one(number):
        lost, failed, since = [], 0, None
        async with session(number) as http:
            client = socketio.AsyncClient(http_session=http)

            @client.event
            def disconnect():
                nonlocal since
                since = time.monotonic()

            @client.event
            def connect():
                if since:
                    lost.append(round(time.monotonic() - since, 2))

            await client.connect(url, transports=list(transports) or None, wait_timeout=5)
            print("ready", file=sys.stderr, flush=True)
            while not os.path.exists(until):
                try:
                    assert await client.call("echo", number, timeout=5) == number
                except Exception:
                    failed += 1
                await asyncio.sleep(0.1)
            await client.disconnect()
        return lost, failed

    return await asyncio.gather(*map(one, range(1, 9)))


print(json.dumps(asyncio.run(globals()[sys.argv[1]](*sys.argv[2:]))))
