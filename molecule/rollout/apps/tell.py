"""Run the app.py beside this file, unchanged but for a header of its handshakes: it tells which version answers."""

import functools
import pathlib
import runpy

from websockets.asyncio import server

VERSION = pathlib.Path("version").read_text().strip()


def tell(connection, request, response):
    response.headers["X-Release"] = VERSION


server.unix_serve = functools.partial(server.unix_serve, process_response=tell)
runpy.run_path("app.py", run_name="__main__")
