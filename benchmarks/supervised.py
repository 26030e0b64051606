"""Processes of an app under the host's supervisord, as the deployed ones: the same user, sandbox, scheduling and logs."""

import contextlib
import glob
import json
import os
import pathlib
import shutil
import subprocess

import proxies
from tools import until

LIVE = pathlib.Path("/srv/websockets/echo/live")
PROGRAMS = pathlib.Path("/etc/supervisor/conf.d")


def release():
    """Return what the live release has recorded of itself."""
    return json.loads((LIVE.parent / "releases" / LIVE.readlink().name / "release.json").read_text())


@contextlib.contextmanager
def running(name, command, number, **peer):
    """Have supervisord run so many processes of a command, which the path of a socket ends; yield them as a Peer.

    ``app.py`` is an argument of the command, so that the processes are found.
    """
    deployed = release()
    folder = pathlib.Path(deployed["sockets"]).parents[1] / f"benchmark-{name}"
    logs = pathlib.Path(deployed["log_file"]).parent
    program = PROGRAMS / f"benchmark-{name}.conf"
    sockets = [f"{folder}/{process:02d}.sock" for process in range(number)]
    folder.mkdir(exist_ok=True)
    subprocess.run(["chown", f"{deployed['user']}:{proxies.USER}", folder], check=True)
    folder.chmod(0o2750)
    program.write_text(f"""[program:benchmark-{name}]
command = {" ".join(command)} {folder}/%(process_num)02d.sock
directory = {deployed["code"]}
process_name = benchmark-{name}_%(process_num)02d
numprocs = {number}
user = {deployed["user"]}
umask = 007
environment = PYTHONUNBUFFERED="1",WEBSOCKETS_BACKLOG="4096"
redirect_stderr = true
stdout_logfile = {logs}/benchmark-{name}_%(process_num)02d.log
stdout_logfile_maxbytes = 10MB
stdout_logfile_backups = 5
""")
    try:
        _control("reread")
        _control("add", f"benchmark-{name}")
        connect = ",".join(f"unix:{socket}" for socket in sockets)
        own = {"supervisord": proxies.supervisord(), "policy": proxies.own_policy(), "app": f"{folder}/"}
        found = proxies.Peer(name, connect, sockets, **own, **peer)
        until(lambda: all(os.path.exists(socket) for socket in sockets) and found.answers(), name, 20)
        yield found
    finally:
        _control("stop", f"benchmark-{name}:*")
        _control("remove", f"benchmark-{name}")
        program.unlink()
        shutil.rmtree(folder)
        _control("reread")
        for log in glob.glob(f"{logs}/benchmark-{name}_*"):
            os.remove(log)


def _control(*command):
    subprocess.run(["supervisorctl", *command], stdout=subprocess.DEVNULL, check=False)
