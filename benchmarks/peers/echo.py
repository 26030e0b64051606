"""The project's echo app as it is, but with another event loop or compression: ``echo.py LOOP COMPRESSION APP SOCKET``."""

import asyncio
import runpy
import sys

import uvloop
from websockets.asyncio import server

loop, compression, *sys.argv = sys.argv[1:]
unix_serve = server.unix_serve
server.unix_serve = lambda *arguments, **options: unix_serve(
    *arguments, **{**options, "compression": "deflate" if compression == "on" else None}
)
# Whichever of them the app uses.
run, factory = asyncio.run, {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}[loop]
asyncio.run = uvloop.run = lambda main: run(main, loop_factory=factory)
runpy.run_path(sys.argv[0], run_name="__main__")
