"""Logs are rotated, whoever does it: in a sandbox nginx and supervisord still have the rights that it takes."""

import time

import pytest

LOG = "/var/log/nginx/access.log"


@pytest.fixture
def logged(host, echo):
    """Make requests until one is in nginx's log: its workers open a new one each in its own time."""

    def until(word, seconds=15):
        deadline = time.monotonic() + seconds
        while host.run(f"grep -q {word} {LOG}").rc != 0:
            assert time.monotonic() < deadline, host.run("tail -n 5 /var/log/nginx/error.log").stdout
            echo.get("healthz", **{"User-Agent": word}).close()

    return until


@pytest.mark.parametrize(
    "new", ["true", "install -o www-data -g adm -m 640 /dev/null {log}"], ids=["nginx", "logrotate"]
)
def test_nginx_goes_on_in_a_new_log(host, logged, wait, new):
    """The new file is made by logrotate as its configuration says, or by nginx itself."""
    rotate = f"mv {LOG} {LOG}.1 && {new.format(log=LOG)} && kill -USR1 $(cat /run/nginx.pid)"
    host.check_output(rotate)
    wait(f"test -e {LOG}")
    logged("rotated")
    assert host.file(LOG).user == "www-data"
    # The next reload opens it again: certbot's, and a person's.
    for number, reload in enumerate(["nginx -s reload", "service nginx reload"]):
        assert host.run(reload).rc == 0
        logged(f"reloaded-{number}")


def test_supervisord_begins_a_new_log(asgi, client, wait):
    async def talk(websocket):
        # One byte more than stdout_logfile_maxbytes.
        await websocket.send("attempt load('sys').stdout.write('x' * (10 * 1024 * 1024 + 1))")
        await websocket.recv()

    client(asgi, talk)
    wait(f"ls /var/log/websockets/asgi/*-{asgi.release}.log.1")
