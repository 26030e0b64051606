"""Echo, by tornado."""

import asyncio
import os
import signal
import sys

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_unix_socket
from tornado.web import Application
from tornado.websocket import WebSocketHandler

clients = set()


class Echo(WebSocketHandler):
    async def get(self):
        if "Upgrade" in self.request.headers:
            await super().get()
        else:
            self.finish(self.request.remote_ip)

    def open(self):
        clients.add(self)

    def on_message(self, message):
        self.write_message(message)

    def on_close(self):
        clients.discard(self)


async def main(path):
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    app = Application([("/", Echo)], websocket_ping_interval=float(os.environ["WEBSOCKETS_PING_INTERVAL"]))
    server = HTTPServer(app, xheaders=True)
    # tornado's own mode is 0600, and nginx has to write to it.
    server.add_socket(bind_unix_socket(path, mode=0o660, backlog=int(os.environ["WEBSOCKETS_BACKLOG"])))
    await stop.wait()
    server.stop()
    for client in list(clients):
        client.close(1012)
    # After 5 s tornado drops who has not answered.
    while clients:
        await asyncio.sleep(0.1)


asyncio.run(main(sys.argv[1]))
