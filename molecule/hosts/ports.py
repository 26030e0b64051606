"""Print free TCP ports of 127.0.0.1, one a line: `ports.py COUNT`. An engine's own choice changes at a restart."""

import socket
import sys

sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
for one in sockets:
    print(one.getsockname()[1])
