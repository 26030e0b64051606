"""A client for tests that are not coroutines, those of tests/ and of molecule/."""

import asyncio
import contextlib
import threading

from websockets.asyncio.client import connect


class Client:
    """A connection that answers pings by itself while its test does something else."""

    def __init__(self, loop, url, options):
        self._loop = loop

        async def begin():
            return await connect(url, proxy=None, **options)

        self.websocket = self.wait(begin())

    def wait(self, coroutine):
        """Return what a coroutine returns, within 20 seconds."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    def echo(self, message):
        """Send a message and return the next one that comes."""
        self.wait(self.websocket.send(message))
        return self.wait(self.websocket.recv())

    @property
    def tls(self):
        """What this connection has of TLS, an object of Python's ``ssl``."""
        return self.websocket.transport.get_extra_info("ssl_object")


@contextlib.contextmanager
def connected(url, **options):
    """Connect, and close at the end.

    This is the asyncio client of websockets, in a thread. Over TLS, the threaded client of 17.4 at times misses the answer
    to its handshake: 10 of 607, also without nginx.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        client = Client(loop, url, options)
        yield client
        client.wait(client.websocket.close())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
