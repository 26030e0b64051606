"""What somebody who has taken over a process of one app can do to its own code, to the other app and to the host.

Each is tried from inside the app ``asgi``. What the users' rights refuse is refused on all hosts; what only the sandbox
refuses, on the one that has it in full.
"""

import pytest

CONNECT = "load('socket').socket(load('socket').AF_UNIX).connect({!r})"
NO = "PermissionError: [Errno 13]"

ATTACKS = {
    "change its own code": "open(load('asgi').__file__, 'a')",
    "add to its own code": "open('another.py', 'w')",
    "replace its own code": "load('os').rename('asgi.py', 'gone.py')",
    "change its own packages": "open(load('uvicorn').__file__, 'a')",
    "change what starts it": "open('../run', 'a')",
    "change what supervisord is told": "open('../program.conf', 'a')",
    "point the live link elsewhere": "load('os').symlink('/tmp', '/srv/websockets/asgi/live.new')",
    "read the other app's secrets": "open('/srv/websockets/echo/releases/{echo}/run').read()",
    "read the other app's code": "load('os').listdir('/srv/websockets/echo/releases')",
    "connect to the other app": CONNECT.format("/run/websockets/echo/{echo}/echo_00.sock"),
    "list the other app's sockets": "load('os').listdir('/run/websockets/echo')",
    "put a socket in the other app's place": "open('/run/websockets/echo/x', 'w')",
    "pose as another app": "load('os').mkdir('/run/websockets/new')",
    "read the other app's log": "load('os').listdir('/var/log/websockets/echo')",
    "write into the other app's log": "open('/var/log/websockets/echo/echo_00-{echo}.log', 'a')",
    "change its own log": "open('/var/log/websockets/asgi/asgi_00-{asgi}.log', 'a')",
    "command supervisord": CONNECT.format("/run/supervisor.sock"),
    "add a program": "open('/etc/supervisor/conf.d/mine.conf', 'w')",
    "add a site": "open('/etc/nginx/conf.d/mine.conf', 'w')",
    "read the keys of TLS": "open('/etc/ssl/private/site.key').read()",
    "read the keys of certbot": "open('/etc/letsencrypt/live/site/privkey.pem').read()",
    "read nginx's log": "open('/var/log/nginx/access.log').read()",
    "read the passwords": "open('/etc/shadow').read()",
    "end the other app": "load('os').kill({pid}, 15)",
    "end supervisord": "load('os').kill({supervisord}, 9)",
    "become root": "load('os').setuid(0)",
}
# In /proc the other app's processes are nobody's (ENOENT) in the sandbox, and cannot be read (EACCES) without.
OF_PROC = {
    "read the other app's environment": "open('/proc/{pid}/environ').read()",
    "look into the other app's memory": "open('/proc/{pid}/mem', 'rb').read(1)",
    "use the other app's descriptors": "load('os').listdir('/proc/{pid}/fd')",
    "look into supervisord's memory": "open('/proc/{supervisord}/mem', 'rb').read(1)",
}
TRACE = "import ctypes; raise SystemExit(ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0)"
OF_THE_SANDBOX = {
    "see the other app's processes": ("load('os').path.exists('/proc/{pid}')", "False"),
    "read a key that somebody has made readable": ("open('/etc/ssl/private/open.key').read()", NO),
    "read nginx's configuration": ("load('os').listdir('/etc/nginx')", NO),
    "see nginx's logs": ("load('os').listdir('/var/log/nginx')", NO),
    "see what others have in /tmp": ("load('os').path.exists('/tmp/of-the-host')", "False"),
    "see devices": ("load('os').path.exists('/dev/console')", "False"),
    "write into /usr": ("open('/usr/bin/mine', 'w')", "OSError: [Errno 30]"),
    # The folder has the bit already.
    "set a bit of set-group-ID": ("load('os').chmod('/run/websockets/asgi', 0o2750)", "PermissionError: [Errno 1]"),
    "gain rights by a program that has some": ("'NoNewPrivs:\\t1' in open('/proc/self/status').read()", "True"),
    "make a user namespace": ("load('subprocess').call(['unshare', '--user', 'true'])", "1"),
    "trace a process": (f"load('subprocess').call([load('sys').executable, '-c', {TRACE!r}])", "0"),
    "open a packet socket": ("load('socket').socket(17, 3)", "OSError: [Errno 97]"),
}
# What an app may do nevertheless.
RIGHTS = {
    "write into its own folder of /run": "open('/run/websockets/asgi/x', 'w').write('x')",
    "have a cache in its home": "load('pathlib').Path('~/.cache/x').expanduser().mkdir(parents=True, exist_ok=True) or 1",
    "write into /tmp": "open('/tmp/of-the-app', 'w').write('x')",
    "have data where an administrator has given it a place": "open('/var/lib/asgi-data/x', 'w').write('x')",
    "write into such a place elsewhere": "open('/opt/asgi-data/x', 'w').write('x')",
    "look up a name": "len(load('socket').getaddrinfo('localhost', 80)) > 0 and 1",
    "have a socket to the network": "load('socket').socket(load('socket').AF_INET6) and 1",
    "see what the host has": "open('/proc/meminfo').read(1) and 1",
    "start a program": "1 - load('subprocess').run(['true']).returncode",
    "compile at run time": "load('mmap').mmap(-1, 4096, prot=7) and 1",
}


@pytest.fixture
def attempt(host, asgi, echo, client):
    """Return what becomes of an expression in a process of the app."""
    words = {"echo": echo.release, "asgi": asgi.release, "pid": next(iter(echo.pids().values()))}
    words["supervisord"] = host.check_output("cat /run/supervisord.pid")

    def run(expression):
        async def talk(websocket):
            await websocket.send(f"attempt {expression.format(**words)}")
            return await websocket.recv()

        return client(asgi, talk)

    return run


@pytest.fixture(scope="module", autouse=True)
def prey(host, name):
    """Put what there is to take on the host, in the places and with the rights that the tools of these have."""
    host.check_output(
        "umask 077; mkdir -p /etc/ssl/private /etc/letsencrypt/live/site;"
        "for key in ssl/private/site.key letsencrypt/live/site/privkey.pem; do echo key > /etc/$key; done;"
        "touch /tmp/of-the-host; for folder in /var/lib/asgi-data /opt/asgi-data; do install -d -o ws-asgi $folder; done"
    )
    if name == "debian13":
        host.check_output("chmod 755 /etc/ssl/private; umask 022; echo key > /etc/ssl/private/open.key")
    yield
    host.check_output(
        "rm -rf /etc/ssl/private/*.key /etc/letsencrypt /tmp/of-the-host /var/lib/asgi-data /opt/asgi-data;"
        "chmod 710 /etc/ssl/private"
    )


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_an_app_cannot(attempt, attack):
    answer = attempt(attack)
    # Not permitted (1, 13), or read-only (30) in the sandbox; what it may not even see is not there (2).
    assert answer.startswith(("PermissionError: [Errno 1", "OSError: [Errno 30]")), answer


@pytest.mark.parametrize("attack", OF_PROC.values(), ids=OF_PROC)
def test_an_app_cannot_by_proc(attempt, attack):
    answer = attempt(attack)
    assert answer.startswith(("PermissionError", "FileNotFoundError")), answer


@pytest.mark.parametrize("right", RIGHTS.values(), ids=RIGHTS)
def test_an_app_can(attempt, right):
    assert attempt(right) == "1"


@pytest.mark.parametrize(("attack", "answer"), OF_THE_SANDBOX.values(), ids=OF_THE_SANDBOX)
def test_an_app_in_the_sandbox_cannot(name, attempt, attack, answer):
    if name != "debian13":
        pytest.skip("this host lets no service have a sandbox in full")
    assert attempt(attack).startswith(answer)
