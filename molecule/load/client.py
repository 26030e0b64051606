"""Clients of a WebSocket echo server under whose eyes it is deployed, scaled and broken.

``python client.py ws://NAME:8080/ --address ADDRESS --rate 200 --held 400 --report FILE`` does two things until it gets
SIGTERM or SIGINT, and for ``--seconds`` at most:

- It opens ``--rate`` new connections a second, evenly. Each sends one message, waits for it and closes with 1000.
- It holds ``--held`` connections that talk: one numbered message a second each, spread evenly. When one of them is
  closed, it comes back as a good client does: after 0 to 1 s by chance, with what had not been answered.

When all are held it prints ``ready``. At the end it writes the report, as JSON. Times are seconds since the epoch.

What becomes of a message: it is ``answered`` when it has come back, in its order, on its connection. One without an
answer when the server's close frame arrives is ``crossed`` if it was sent less than ``CROSSING`` before: message and
frame have passed each other, the protocol forbids an answer after the frame, and the client knows that it has to send
it again. Anything else is ``lost``: the server had a second to answer on an open connection and has not, or the
connection ended without a close frame (1006), or another answer came first.
"""

import argparse
import asyncio
import collections
import itertools
import json
import os
import random
import signal
import statistics
import time

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

CROSSING = 1.0  # seconds; a round trip takes milliseconds, on a busy machine some hundred
PATIENCE = 10.0  # seconds for a handshake, an answer or a close
ABNORMAL = 1006


class SocketIO(ClientConnection):
    """A connection to a server of socket.io: what is sent and received are its events named ``message``."""

    async def handshake(self, *arguments):
        await super().handshake(*arguments)
        await super().recv()  # the server's settings
        await super().send("40")
        await super().recv()  # the answer to this

    async def send(self, text):
        await super().send("42" + json.dumps(["message", text]))

    async def recv(self):
        while (packet := await super().recv()) == "2":
            await super().send("3")
        return json.loads(packet.removeprefix("42"))[1]


class Report:
    """What happened, and when."""

    def __init__(self):
        self.started = self.ended = time.time()
        self.counts = collections.Counter()
        self.milliseconds = []
        self.failed, self.lost, self.crossed, self.closes, self.turns = [], [], [], [], []
        self.releases = collections.Counter()
        self.per_second = collections.defaultdict(collections.Counter)
        self.last_reconnects, self.reconnects_peak = collections.deque(), 0

    def handshake(self, seconds, release):
        self.milliseconds.append(seconds * 1000)
        self.per_second[int(time.time())]["handshakes"] += 1
        self.releases[release] += 1
        # Which release answered, whenever that changes: a cut-over is one change.
        if not self.turns or self.turns[-1][1] != release:
            self.turns.append((time.time(), release))

    def handshake_failed(self, who, error):
        answer = f"HTTP {error.response.status_code}" if isinstance(error, InvalidStatus) else repr(error)
        self.failed.append({"time": time.time(), "client": who, "error": answer})

    def reconnect(self):
        now = time.time()
        self.counts["reconnects"] += 1
        self.per_second[int(now)]["reconnects"] += 1
        self.last_reconnects.append(now)
        while self.last_reconnects[0] <= now - 1:
            self.last_reconnects.popleft()
        self.reconnects_peak = max(self.reconnects_peak, len(self.last_reconnects))

    def closed(self, who, websocket, unanswered):
        """Note a close that the server began, or that nobody finished, and what had no answer: (message, its time)."""
        protocol = websocket.protocol
        if protocol.close_rcvd is not None and protocol.close_rcvd_then_sent is False:
            return  # the client's own
        code = protocol.close_rcvd.code if protocol.close_rcvd else ABNORMAL
        self.closes.append((time.time(), code, who))
        for text, sent in unanswered:
            age = time.time() - sent
            if age < CROSSING and code != ABNORMAL:
                self.crossed.append(round(age, 4))
            else:
                self.lose(who, text, f"no answer in {age:.3f} s before the close with {code}")

    def lose(self, who, text, why):
        self.lost.append({"time": time.time(), "client": who, "message": text, "why": why})

    def write(self, path):
        seconds = self.ended - self.started
        by_time = sorted(self.milliseconds) or [0.0]
        codes = collections.Counter(code for _, code, _ in self.closes)
        summary = {
            "seconds": round(seconds, 1),
            "new_per_second": round(self.counts["new"] / seconds, 1),
            "handshakes": len(self.milliseconds),
            "failed": len(self.failed),
            "failed_seconds": round(self.failed[-1]["time"] - self.failed[0]["time"], 2) if self.failed else 0,
            "handshake_p50_ms": round(statistics.median(by_time), 1),
            "handshake_p99_ms": round(by_time[int(len(by_time) * 0.99)], 1),
            "handshake_max_ms": round(by_time[-1], 1),
            "messages": self.counts["messages"],
            "answered": self.counts["answered"],
            "crossed": len(self.crossed),
            "lost": len(self.lost),
            "closes": dict(sorted(codes.items())),
            "reconnects": self.counts["reconnects"],
            "reconnects_peak": self.reconnects_peak,
            "client_cpu_seconds": round(time.process_time(), 1),
        }
        whole = {
            "summary": summary,
            "started": self.started,
            "releases": self.releases,
            "turns": self.turns,
            "failed": self.failed,
            "lost": self.lost,
            "crossed_after": sorted(self.crossed),
            "per_second": dict(sorted(self.per_second.items())),
            "closes": self.closes,
        }
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            # A line for each key: most are long.
            file.write("{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(whole[key])}" for key in whole) + "\n}\n")
        os.rename(f"{path}.new", path)


class Load:
    """All of the clients."""

    def __init__(self, url, address, rate, held, connection):
        self.url, self.address, self.rate, self.connection = url, address, rate, connection
        self.report = Report()
        self.stopping = asyncio.Event()
        self.clients = [Held(self, f"held {number}") for number in range(held)]

    async def run(self, seconds):
        # The second limit is for clients that a server does not let go.
        async with asyncio.timeout(seconds + 3 * PATIENCE), asyncio.TaskGroup() as group:
            for client in self.clients:
                group.create_task(client.live())
            group.create_task(self.talk())
            group.create_task(self.come_and_go())
            ready = group.create_task(self.say_ready())
            try:
                await asyncio.wait_for(self.stopping.wait(), seconds)
            except TimeoutError:
                self.stopping.set()
            self.report.ended = time.time()
            ready.cancel()
            await asyncio.gather(*(client.leave() for client in self.clients))

    async def connect(self, who):
        """Return an open connection, or None and a note of why there is none."""
        start = time.monotonic()
        try:
            websocket = await connect(
                self.url,
                host=self.address,
                create_connection=self.connection,
                compression=None,  # it would cost more than all the rest
                ping_interval=None,  # what a connection shows by its messages, pings need not ask
                open_timeout=PATIENCE,
                close_timeout=PATIENCE,
                proxy=None,
                process_exception=lambda error: error,
            )
        except (OSError, EOFError, InvalidHandshake) as error:
            self.report.handshake_failed(who, error)
            return None
        self.report.handshake(time.monotonic() - start, websocket.response.headers.get("X-Release"))
        return websocket

    async def come_and_go(self):
        async with asyncio.TaskGroup() as group:
            async for number in self.ticks(self.rate):
                self.report.counts["new"] += 1
                group.create_task(self.visit(f"new {number}"))

    async def visit(self, who):
        websocket = await self.connect(who)
        if websocket is None:
            return
        unanswered = [(who, time.time())]
        try:
            await websocket.send(who)
            self.report.counts["messages"] += 1
            answer = await asyncio.wait_for(websocket.recv(), PATIENCE)
            unanswered = []
            if answer == who:
                self.report.counts["answered"] += 1
            else:
                self.report.lose(who, who, f"answered with {answer[:40]!r}")
        except TimeoutError:
            unanswered = []
            self.report.lose(who, who, f"no answer in {PATIENCE:g} s")
        except ConnectionClosed:
            pass
        await websocket.close()
        self.report.closed(who, websocket, unanswered)

    async def talk(self):
        async for number in self.ticks(len(self.clients)):
            await self.clients[number % len(self.clients)].say()

    async def ticks(self, rate):
        """Yield 0, 1, 2, … evenly, ``rate`` a second, until the end; late ones are made up for."""
        start = time.monotonic()
        for number in itertools.count() if rate else ():
            await asyncio.sleep(max(0, start + number / rate - time.monotonic()))
            if self.stopping.is_set():
                return
            yield number

    async def say_ready(self):
        for client in self.clients:
            await client.connected.wait()
        print("ready", flush=True)


class Held:
    """A client that stays, and comes back."""

    def __init__(self, load, name):
        self.load, self.report, self.name = load, load.report, name
        self.numbers = itertools.count()
        self.websocket = None
        self.connected = asyncio.Event()
        self.unanswered = collections.deque()  # (message, its time), in the order of sending
        self.again = []  # messages for the next connection

    async def live(self):
        # The first time they come 200 a second: a storm then would be the test's own.
        await asyncio.sleep(random.uniform(0, len(self.load.clients) / 200))
        while not self.load.stopping.is_set():
            self.websocket = await self.load.connect(self.name)
            if self.websocket:
                self.connected.set()
                if self.load.stopping.is_set():
                    await self.leave()
                await self.listen()
                self.websocket = None
            await asyncio.sleep(random.uniform(0, 1))
            if not self.load.stopping.is_set():
                self.report.reconnect()

    async def listen(self):
        again, self.again = self.again, []
        for text in again:
            await self.send(text)
        try:
            while True:
                answer = await self.websocket.recv()
                if self.unanswered and answer == self.unanswered[0][0]:
                    self.unanswered.popleft()
                    self.report.counts["answered"] += 1
                else:
                    self.report.lose(self.name, answer, "an answer out of its order")
        except ConnectionClosed:
            self.report.closed(self.name, self.websocket, self.unanswered)
        self.again += [text for text, _ in self.unanswered]
        self.unanswered.clear()

    async def say(self):
        if self.websocket:
            await self.send(f"{self.name}: {next(self.numbers)}")

    async def send(self, text):
        message = (text, time.time())
        self.unanswered.append(message)
        self.report.counts["messages"] += 1
        try:
            await self.websocket.send(text)
        except ConnectionClosed:
            # Nothing was sent. If listen() has been quicker it has taken the message for one that crossed the frame.
            if message in self.unanswered:
                self.unanswered.remove(message)
                self.report.counts["messages"] -= 1
                self.again.append(text)

    async def leave(self):
        """Wait for the last answers, and go."""
        deadline = time.monotonic() + PATIENCE
        while self.websocket and self.unanswered and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        if self.websocket:
            for text, sent in self.unanswered:
                self.report.lose(self.name, text, f"no answer in {time.time() - sent:.1f} s")
            self.unanswered.clear()
            await self.websocket.close()


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--address", required=True)
    parser.add_argument("--rate", type=int, default=200, help="new connections a second (default %(default)s)")
    parser.add_argument("--held", type=int, default=400, help="connections that stay (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=900, help="the longest that it runs (default %(default)s)")
    parser.add_argument("--socketio", action="store_true", help="speak socket.io")
    parser.add_argument("--report", required=True, metavar="FILE")
    arguments = parser.parse_args()
    connection = SocketIO if arguments.socketio else ClientConnection
    load = Load(arguments.url, arguments.address, arguments.rate, arguments.held, connection)
    for end in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(end, load.stopping.set)
    try:
        await load.run(arguments.seconds)
    finally:
        load.report.write(arguments.report)


if __name__ == "__main__":
    asyncio.run(main())
