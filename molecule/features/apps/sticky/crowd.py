"""Clients of the app, run on its host by the app's own Python. Prints what they saw, as JSON."""

import asyncio
import collections
import hashlib
import json
import os
import sys
import time

import aiohttp
import socketio
import yarl
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus


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
        # Without an orderly end, for which a client that polls waits until the server's next ping.
        return lost, failed

    return await asyncio.gather(*map(one, range(1, 9)))


REQUESTS = [
    (
        "GET",
        "/mirror?a=b%20c&d=%C3%A9//..%2f",
        {"headers": {"X-Own": "1", "Cookie": "a=b; node=1", "Authorization": "Bearer x"}},
    ),
    ("POST", "/mirror", {"data": bytes(range(256)) * 4096}),
    ("POST", "/mirror", {"data": {"form": "field"}}),
    ("PUT", "/mirror", {"json": {"a": [1, "\u2713"]}}),
    ("PATCH", "/mirror", {"data": b""}),
    ("DELETE", "/mirror", {}),
    ("OPTIONS", "/count", {}),
    ("HEAD", "/status/200", {}),
    ("GET", "/large", {}),
    ("GET", "/events", {}),
    ("GET", "/nothing", {}),
    ("GET", "/ws", {}),
    ("GET", "/status/word", {}),
    *(
        ("GET", f"/status/{code}", {})
        for code in (204, 302, 304, 400, 401, 403, 404, 409, 418, 429, 500, 501, 502, 503, 504)
    ),
]


async def same(url, path):
    """Make requests through nginx and at a process itself; return those that are not answered the same."""
    # nginx's own time and name, what is about one connection only, and a word to nginx.
    theirs = {"date", "server", "connection", "transfer-encoding", "x-accel-buffering"}
    found = {}
    for where in (aiohttp.TCPConnector(), aiohttp.UnixConnector(path)):
        # With the cookie that it would get.
        cookies = {"headers": {"Cookie": "node=1"}, "cookie_jar": aiohttp.DummyCookieJar()}
        async with aiohttp.ClientSession(connector=where, **cookies) as http:
            for number, (method, target, options) in enumerate(REQUESTS):
                place = yarl.URL(url + target, encoded=True)
                async with http.request(method, place, allow_redirects=False, **options) as answer:
                    headers = sorted((name.lower(), value) for name, value in answer.headers.items())
                    got = [answer.status, [pair for pair in headers if pair[0] not in theirs]]
                    got.append(hashlib.sha256(await answer.read()).hexdigest())
                    found.setdefault(number, []).append(got)
    return [[REQUESTS[number][:2], *answers] for number, answers in found.items() if answers[0] != answers[1]]


async def chunks(url):
    """Send a body whose length nobody knows before; return what the app has got of it."""

    async def body():
        for _ in range(100):
            yield b"x" * 1000

    async with session(1) as http, http.post(f"{url}/mirror", data=body()) as answer:
        return (await answer.json())["body"][0]


async def events(url, *query):
    """Return how many seconds before the last event the first one has come."""
    times = []
    async with session(1) as http, http.get(f"{url}/events{''.join(query)}") as answer:
        async for line in answer.content:
            if line.startswith(b"data"):
                times.append(time.monotonic())
    return times[-1] - times[0]


async def order(url, number, query):
    """Return the status of an order."""
    async with session(1) as http, http.post(f"{url}/order/{number}?{query}") as answer:
        return answer.status


async def large(url, size):
    """Return what a page and a WebSocket answer to a cookie of this size."""
    headers = {"Cookie": f"a={'b' * int(size)}"}
    async with session(1) as http, http.get(f"{url}/count", headers=headers) as answer:
        page = answer.status
    try:
        async with connect(f"{url.replace('http', 'ws', 1)}/ws", additional_headers=headers) as websocket:
            await websocket.recv()
            return [page, 101]
    except InvalidStatus as refused:
        return [page, refused.response.status_code]


print(json.dumps(asyncio.run(globals()[sys.argv[1]](*sys.argv[2:]))))
