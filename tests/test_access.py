"""Pages and clients that may connect, and limits, with a real nginx and the role's own site."""

import contextlib
import http.client
import http.server
import itertools
import json
import random
import re
import socket
import string
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.websockets.deploy.plugins.module_utils import handshake, nginx, paths
from ansible_collections.websockets.deploy.plugins.module_utils.probe import Probe
from ansible_collections.websockets.deploy.plugins.module_utils.record import from_dict
from role import nginx_files, plan, render
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

# An app that answers with the headers that it has got, and with its own socket.
TELL = """
import asyncio, json, sys
from websockets.asyncio.server import unix_serve

async def tell(websocket):
    await websocket.send(json.dumps([*websocket.request.headers.raw_items(), ("Process", sys.argv[1])]))
    async for message in websocket:
        await websocket.send(message)

async def main():
    async with unix_serve(tell, sys.argv[1]) as server:
        await server.serve_forever()

asyncio.run(main())
"""

# An app that answers a request with its path, its headers and the app's socket.
PATH = """
import asyncio, json, sys
from websockets.asyncio.server import unix_serve

def tell(connection, request):
    if "Upgrade" not in request.headers:
        headers = {name.lower(): value for name, value in request.headers.raw_items()}
        return connection.respond(200, json.dumps([request.path, headers, sys.argv[1]]))

async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)

async def main():
    async with unix_serve(echo, sys.argv[1], process_request=tell) as server:
        await server.serve_forever()

asyncio.run(main())
"""


@pytest.fixture
def tell(served, short_path):
    """Serve an app that answers with its headers; return a function that asks it as a client with an address."""
    app = short_path / "tell.py"
    app.write_text(TELL)

    def serve(**inputs):
        site = served(app=app, **inputs)

        @contextlib.contextmanager
        def client(source="127.0.0.1", headers=(), line=""):
            connection = socket.create_connection(("127.0.0.1", site.port), source_address=(source, 0))
            connection.sendall(line.encode())
            with connect(
                f"ws://localhost:{site.port}/", sock=connection, additional_headers=headers, proxy=None
            ) as websocket:
                yield websocket, json.loads(websocket.recv())

        def ask(*args, **kwargs):
            """Return {name: values} of the headers that the app got, or the status of nginx's answer."""
            try:
                with client(*args, **kwargs) as (_, items):
                    found = {}
                    for name, value in items:
                        found.setdefault(name.lower(), []).append(value)
                    return found
            except InvalidStatus as refused:
                return refused.response.status_code

        ask.client, ask.site = client, site
        return ask

    return serve


def proof(site, **changed):
    """Make the proof as plugins/modules/cutover.py does."""
    headers = changed.pop("headers", {})
    probe = from_dict(Probe, {**site.planned["probe"], "message": "", **changed})
    return handshake.ask(("127.0.0.1", site.port), probe, headers, ["127.0.0.2", "::1"])


# Addresses


@pytest.mark.parametrize("listen", ["{port}", "127.0.0.1:{port},[::1]:{port}"], ids=["port alone", "list"])
def test_clients_come_by_ipv4_and_by_ipv6(served, listen):
    site = served(listen=listen, tls="none")
    for address in ("127.0.0.1", "::1"):
        handshake.ask((address, site.port), Probe(message="hello"))
    # For each address nginx has a server that refuses other names.
    for address in ("127.0.0.1", "::1"):
        with pytest.raises(handshake.HandshakeError, match="closed the connection"):
            handshake.ask((address, site.port), Probe(server_name="nobody.example"))


# Lines of the user's own


def test_lines_of_the_users_own_serve_beside_the_app(tell, short_path):
    (short_path / "static").mkdir()
    (short_path / "static" / "a.txt").write_text("a file")
    (short_path / "secret").write_text("not served")
    locations = {
        "/static/": f"{short_path}/static",
        "= /robots.txt": f"{short_path}/static/a.txt",
        "/status": 'default_type text/plain;\nreturn 200 "fine";',
    }
    ask = tell(nginx_server="add_header X-Mine yes;\n# a comment", nginx_locations=locations)

    def get(path):
        connection = http.client.HTTPConnection("127.0.0.1", ask.site.port)
        connection.request("GET", path, headers={"Host": "localhost"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers["X-Mine"]

    assert get("/static/a.txt") == (200, "a file", "yes")
    assert get("/robots.txt") == (200, "a file", "yes")
    assert get("/status") == (200, "fine", "yes")
    assert get("/static../secret")[0] != 200
    assert ask()["host"] == [f"localhost:{ask.site.port}"]


# Requests that belong together


def answer_of(ask, path="/", source="127.0.0.1", **headers):
    """Return nginx's answer to a handshake; the connection ends with it."""
    connection = http.client.HTTPConnection("127.0.0.1", ask.site.port, source_address=(source, 0), timeout=10)
    handshake = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg=="}
    connection.request("GET", path, headers={"Host": "localhost", **handshake, **key, **headers})
    with contextlib.closing(connection):
        return connection.getresponse()


def process_of(ask, **who):
    """Return the process that a client reaches."""
    return ask(**who)["process"][0]


def test_a_client_reaches_the_process_that_its_cookie_leads_to(tell):
    ask = tell(sticky="cookie node", numprocs=4)
    reached = set()
    for _ in range(20):
        with ask.client() as (websocket, items):
            first, answer = dict(items)["Process"], websocket.response.headers
        (cookie,) = answer.get_all("Set-Cookie")
        assert re.fullmatch(r"node=[0-9a-f]{32}; Path=/; HttpOnly; SameSite=Lax", cookie)
        with ask.client(headers={"Cookie": f"a=b; {cookie.partition(';')[0]}"}) as (websocket, items):
            assert dict(items)["Process"] == first
            assert "Set-Cookie" not in websocket.response.headers
        reached.add(first)
    assert len(reached) == 4
    # Any value leads somewhere. One that the client has made up is not sent back to it.
    for value in ("x", "~", "default", "a" * 4000, '"'):
        assert len({process_of(ask, headers={"Cookie": f"node={value}"}) for _ in range(4)}) == 1
    assert re.search(r"^node=[0-9a-f]{32};", answer_of(ask, Cookie="node=").headers["Set-Cookie"])


def test_the_cookie_is_beside_the_sites_other_headers_and_in_answers_of_the_app_alone(tell):
    lines = {"nginx_server": "add_header X-Mine yes always;", "nginx_locations": {"/status": 'return 200 "fine";'}}
    ask = tell(sticky="cookie node", origins=["https://a.example"], **lines)
    answers = [answer_of(ask), answer_of(ask, "/status"), answer_of(ask, Origin="https://evil.example")]
    assert [answer.status for answer in answers] == [101, 200, 403]
    assert ["Set-Cookie" in answer.headers for answer in answers] == [True, False, False]
    assert [answer.headers["X-Mine"] for answer in answers] == ["yes"] * 3


@pytest.mark.parametrize(("origins", "same_site"), [([], "Lax"), (["https://a.example"], "None"), (["*"], "None")])
def test_a_browser_sends_the_cookie_from_all_pages_that_may_connect(origins, same_site):
    """Over TLS, without which no browser takes one for pages of other sites."""
    tls = {"listen": "443", "tls": "self-signed", "sticky": "cookie node", "server_name": ["ws.example.com"]}
    text = render("site.conf.j2", plan(**tls, origins=origins))
    assert f"HttpOnly; SameSite={same_site}; Secure" in text


def test_a_client_reaches_the_process_that_its_address_leads_to(tell):
    ask = tell(sticky="address", numprocs=4, trusted_proxies=["127.0.0.3", "::1"])
    reached = {}
    for number in range(10, 40):
        source = f"127.0.0.{number}"
        (reached[source],) = {process_of(ask, source=source) for _ in range(3)}
    assert len(set(reached.values())) == 4

    def behind(address):
        return process_of(ask, source="127.0.0.3", headers={"X-Forwarded-For": address})

    assert [behind(source) for source in reached] == list(reached.values())
    # A customer's network is one client, as in the limits.
    networks = [{behind(f"2001:db8:1:{net}:{host}") for host in (":1", "a:b:c:d")} for net in range(20)]
    assert {len(found) for found in networks} == {1}
    assert len(set().union(*networks)) > 1


@pytest.mark.parametrize("sticky", ["cookie node", "address"])
def test_another_process_takes_the_clients_of_one_that_is_gone(tell, sticky):
    ask = tell(sticky=sticky, numprocs=2)
    who = {"headers": {"Cookie": "node=1"}}
    first = process_of(ask, **who)
    process = next(process for process in ask.site.processes if first in process.args)
    process.kill()
    process.wait()
    (second,) = {process_of(ask, **who) for _ in range(5)}
    assert second != first


def test_with_another_number_of_processes_most_clients_stay(tell):
    """And with another release all of them: its processes have the places of those before."""
    cookies = [f"node={number}" for number in range(100)]
    ask = tell(sticky="cookie node", numprocs=5)
    five = [process_of(ask, headers={"Cookie": cookie}) for cookie in cookies]
    last = ask.site.planned["release"]["processes"][-1]["peer"]
    config = Path(paths.NGINX, "conf.d", "websockets-echo.conf")
    config.write_text(config.read_text().replace(f"    server unix:{last} max_fails=0;\n", ""))
    nginx.reload()
    four = [process_of(ask, headers={"Cookie": cookie}) for cookie in cookies]
    assert last in five
    assert all(before == after for before, after in zip(five, four, strict=True) if before != last)


# Paths


@pytest.fixture
def asked(served, short_path, eventually):
    """Serve an app that answers any request with its path and its headers; return a function that asks nginx for a path."""
    app = short_path / "path.py"
    app.write_text(PATH)
    with contextlib.ExitStack() as stack:

        def serve(**inputs):
            site = served(app=app, **inputs)

            def get(path, method="GET", **headers):
                connection = http.client.HTTPConnection("127.0.0.1", site.port)
                connection.request(method, path, headers={"Host": "localhost", **headers})
                answer = connection.getresponse()
                text = answer.read().decode()
                return (answer.status, *json.loads(text)) if answer.status == 200 else (answer.status, text)

            get.site = site
            return get

        def another(place):
            """Run one more of the same at a Unix socket."""
            process = stack.enter_context(subprocess.Popen([sys.executable, app, place]))
            stack.callback(process.terminate)
            eventually(lambda: not handshake.fault(place, Probe(), {}))
            return place

        serve.another = another
        yield serve


def test_the_app_has_its_path_and_nothing_else(asked):
    get = asked(path="/ws/")
    for path in ("/ws/", "/ws/a/b?c=d", "/ws", "/ws?a=b", "/a/../ws/x"):
        assert get(path)[:2] == (200, path), "as the client has asked"
    for path in ("/", "/wss", "/w", "/index.html", "/ws.txt", "/ws/../a", "/%77x"):
        assert get(path)[0] == 404, path
    proof(get.site)


def test_a_deeper_path_among_locations_of_the_users_own(asked):
    get = asked(path="/a/b/", nginx_locations={"/a/": "return 204;", "= /a/b/c": "return 204;"})
    answers = {"/a/b/": 200, "/a/b": 200, "/a/b/d": 200, "/a/b/c": 204, "/a/c": 204, "/a/bc": 204, "/b": 404}
    assert {path: get(path)[0] for path in answers} == answers


def test_another_server_gets_what_the_app_gets(asked, short_path, free_port):
    down, other = free_port(), asked.another(f"{short_path}/other.sock")
    locations = {
        "/": f"http://unix:{other}\n",
        "/down/": f"http://127.0.0.1:{down}",
        "^~ /again/": "http://websockets_echo",
        "= /one": "http://websockets_echo",
    }
    get = asked(path="/ws/", nginx_locations=locations)
    claims = {"X-Forwarded-For": "192.0.2.1", "X-Real-IP": "192.0.2.1", "Forwarded": "for=192.0.2.1"}
    for path, server in {"/": other, "/x?y": other, "/ws/": "", "/again/x": "", "/again": "", "/one": ""}.items():
        status, asked_path, headers, there = get(path, **claims)
        assert (status, asked_path, there == other) == (200, path, bool(server))
        assert (headers["x-forwarded-for"], headers["x-real-ip"], headers.get("forwarded")) == (
            *["127.0.0.1"] * 2,
            None,
        )
        assert headers["host"] == "localhost"
    for path in ("/down", "/down/x"):
        assert get(path)[0] == 502
    assert get("/one/more")[3] == other
    for path in ("/ws/", "/any/other", "/again/x"):
        handshake.ask(("127.0.0.1", get.site.port), Probe(path=path, message="hello"))


def test_the_sites_limits_hold_for_other_paths_too(asked, short_path):
    other = asked.another(f"{short_path}/other.sock")
    origins = {"origins": ["https://a.example"], "origin_required": True}
    get = asked(path="/ws/", nginx_locations={"/": f"http://unix:{other}"}, handshakes_per_address=1, **origins)
    own = {"Origin": "https://a.example"}
    assert (get("/", **own)[0], get("/")[0], get("/", Origin="https://b.example")[0]) == (200, 403, 403)
    assert get("/", "POST", **own, **{"Content-Length": "9"})[0] == 413


def test_an_upstream_of_an_app_may_be_read_later(nginx_folder):
    """nginx reads the chat's file first. A check may run on a host that has no feed yet."""
    chat = plan({"apps": ["feed"]}, app="chat", nginx_locations={"/feed/": "http://websockets_feed"})
    feed = plan(app="feed", server_name=["feed.example"], listen="127.0.0.1:18081")
    files = nginx_files(chat, nginx_folder)
    assert "[warn]" not in nginx.test(files | nginx_files(feed, nginx_folder))
    with pytest.raises(nginx.NginxError, match="host not found in upstream"):
        nginx.test(files)
    assert "[warn]" not in nginx.test(files | nginx.upstreams_to_come(files))


# Origins


def test_only_the_apps_own_pages_may_connect(tell):
    ask = tell()
    own = f"http://localhost:{ask.site.port}"
    for origin in (own, "https://localhost", "http://localhost"):
        assert ask(headers={"Origin": origin})["origin"] == [origin]
    for origin in ("https://evil.example", "null", "http://localhost.evil.example", "HTTP://LOCALHOST", f"{own}/"):
        assert ask(headers={"Origin": origin}) == 403
    assert "origin" not in ask(), "clients without an origin may connect"


def test_pages_of_the_named_origins_may_connect(tell):
    ask = tell(origins=["https://www.example.com", "http://localhost:3000"], origin_required=True)
    assert ask(headers={"Origin": "https://www.example.com"})["origin"] == ["https://www.example.com"]
    assert ask(headers={"Origin": "http://localhost:3000"})["origin"] == ["http://localhost:3000"]
    assert ask(headers={"Origin": "http://localhost"}) == 403
    assert ask() == 403
    proof(ask.site)
    with pytest.raises(handshake.HandshakeError, match="403"):
        proof(ask.site, origin="")


BELOW = ["https://*.example.com", "http://*.dev.example:3000", "https://a.example"]


@pytest.mark.parametrize(
    "origin",
    [
        *("https://a.example.com", "https://a.b-c.d.example.com", "https://_x.example.com", "https://1.example.com"),
        *("https://xn--bcher-kva.example.com", f"https://{'a.' * 120}example.com", "http://a.dev.example:3000"),
        "https://a.example",
    ],
)
def test_pages_of_all_names_below_a_domain_may_connect(below, origin):
    assert below(origin) == 101


@pytest.mark.parametrize(
    "origin",
    [
        # Other names
        *("https://example.com", "https://.example.com", "https://a..example.com", "https://evil-example.com"),
        *("https://xexample.com", "https://a.example.com.evil.org", "https://a.examplexcom", "https://b.a.example"),
        *("https://evil.org/.example.com", "https://evil.org?a.example.com", "https://evil.org#a.example.com"),
        *("https://evil.org\\.example.com", "https://evil.org:80.example.com", "https://[::1].example.com"),
        # Other schemes, ports and spellings
        *("http://a.example.com", "x-https://a.example.com", "https://a.example.com:8443", "https://a.example.com:443"),
        *("https://a.example.com:", "http://a.dev.example", "http://a.dev.example:30000", "https://a.example.com:3000"),
        *("https://A.example.com", "HTTPS://a.example.com", "https://a.EXAMPLE.com", "https://a.example.com."),
        *(
            "https://a.example.com/",
            "https://*.example.com",
            "https://a%2eexample.com",
            "https://b\u00fccher.example.com",
        ),
        # More than an origin
        *("https://evil.org@a.example.com", "https://u:p@a.example.com", "https://a.example.com https://evil.org"),
        *(
            "https://evil.org https://a.example.com",
            "https://a.example.com, https://evil.org",
            "null, https://a.example.com",
        ),
        *(
            "https://a.example.com\x0b",
            "https://a.example.com\x00",
            "https://a.example.com\n x",
        ),
        *("https://evil.org\nhttps://a.example.com", "https://a\t.example.com", f"https://{'a.' * 3000}example.org"),
    ],
)
def test_pages_of_other_names_may_not(below, origin):
    assert below(origin) in (400, 403)


@pytest.fixture
def below(tell):
    """Ask with an origin, whatever bytes it has; return the status of the answer."""
    ask = tell(origins=BELOW, origin_required=True)
    proof(ask.site)

    def status(origin):
        with socket.create_connection(("127.0.0.1", ask.site.port), 10) as connection:
            connection.sendall(
                f"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: {origin}\r\n"
                "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
            )
            return int(connection.recv(65536).split()[1])

    return status


def test_pages_of_any_site_may_connect(tell):
    ask = tell(origins=["*"])
    assert ask(headers={"Origin": "https://evil.example"})["origin"] == ["https://evil.example"]


def test_the_app_sees_the_origin_that_was_checked(tell):
    """A browser sends one origin. Of two, nginx 1.22 checks the first; later versions check both as one value."""
    ask = tell()
    two = [("Origin", "http://localhost"), ("Origin", "https://evil.example")]
    got = ask(headers=two)
    assert got == 403 or got["origin"] == ["http://localhost"]
    assert ask(headers=two[::-1]) == 403


def forged(own):
    """Yield origins without end that are not these, but look like them."""
    chance = random.Random(5)
    letters = string.ascii_lowercase + string.digits
    for origin in itertools.cycle(own):
        scheme, host = origin.split("://")
        name = "".join(chance.choices(letters, k=8))
        position = chance.randrange(len(origin))
        yield from (
            f"{scheme}://{name}.example",
            f"{scheme}://{name}.{host}",
            f"{scheme}://{host}.{name}.example",
            f"{scheme}://{name}@{host}",
            f"{scheme}://{host}@{name}.example",
            f"{scheme}://{host}:{chance.randrange(1, 1000)}",
            f"{scheme}://{host}/{name}",
            f"{scheme}://{host}?{name}",
            f"{scheme}://{host}, {scheme}://{name}.example",
            f"{scheme}://{name}.example, {origin}",
            f"{name}://{host}",
            f"{origin[:position]}%{ord(origin[position]):02x}{origin[position + 1 :]}",
            f"{origin[:position]}{chance.choice(letters)}{origin[position:]}",
            f"{origin[:position]}{origin[position + 1 :]}",
            origin.swapcase(),
            f"{origin}.",
            "null",
        )


def test_of_ten_thousand_forged_origins_none_is_let_in(served):
    site = served()
    own = {origin for origin in site.planned["site"]["origins"] if origin}
    origins = itertools.islice((origin for origin in forged(sorted(own)) if origin not in own), 10000)
    answers = []

    def come():
        return socket.create_connection(("127.0.0.1", site.port), 10, source_address=("127.0.0.9", 0))

    while some := list(itertools.islice(origins, 200)):
        with come() as connection:
            for origin in some:
                connection.sendall(
                    f"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: {origin}\r\n"
                    "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
                )
            connection.shutdown(socket.SHUT_WR)
            received = b"".join(iter(lambda: connection.recv(65536), b""))
            answers += [line.split()[1] for line in received.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    assert answers == [b"403"] * 10000
    with connect(f"ws://localhost:{site.port}/", sock=come(), proxy=None):
        pass
    for process in site.processes[:-1]:
        process.terminate()
        process.wait()
    assert site.log().count("client 127.0.0.9: ") == 1, "the app has seen one of them"


def test_pages_without_an_origin_of_their_own_may_connect_where_they_are_named(tell):
    ask = tell(origins=["null", "file://"])
    for origin in ("null", "file://"):
        assert ask(headers={"Origin": origin})["origin"] == [origin]
    for origin in ("NULL", "file:///x", "file", "null null", "http://localhost"):
        assert ask(headers={"Origin": origin}) == 403


# What is logged

TOKENS = ("hunter2", "hunter3")


@pytest.mark.parametrize(
    ("choice", "line", "tokens"),
    [
        ("full", '"GET /chat?token=hunter2 HTTP/1.1" 101', True),
        ("path", '"GET /chat HTTP/1.1" 101', False),
        ("none", "", False),
    ],
)
def test_tokens_of_clients_are_not_logged_unless_wanted(served, short_path, eventually, choice, line, tokens):
    site = served(access_log=choice, server_name=["localhost"])
    log = short_path / "log" / "access.log"
    referer = {"Referer": "http://localhost/?token=hunter3", "User-Agent": "agent"}
    proof(site, headers=referer, path="/chat?token=hunter2")
    with pytest.raises(handshake.HandshakeError):  # for a name that no site has
        proof(site, server_name="nobody.example", headers=referer, path="/chat?token=hunter2")
    for process in site.processes:
        process.terminate()
        process.wait()
    text = log.read_text()
    assert line in text
    assert any(token in text for token in TOKENS) is tokens
    assert ('"agent"' in text) is (choice != "none")


# Another server decides


@pytest.fixture
def authorizer():
    """Serve a URL that answers 204 to requests with the right cookie and 401 to others; return it and its requests."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(204 if self.headers["Cookie"] == "session=good" else 401)
            self.end_headers()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}/check", asked=asked)
        finally:
            server.shutdown()


def test_a_client_without_authorization_does_not_reach_the_app(tell, authorizer):
    ask = tell(auth_request=authorizer.url)
    assert ask() == 401
    assert ask(headers={"Cookie": "session=bad"}) == 401
    assert ask(headers={"Cookie": "session=good"})["cookie"] == ["session=good"]
    last = authorizer.asked[-1]
    assert (last["x-original-uri"], last["x-real-ip"]) == ("/", "127.0.0.1")
    assert last["host"] == f"localhost:{ask.site.port}"
    assert "upgrade" not in last
    # A client cannot authorize itself by a header.
    assert ask(headers={"X-Original-URI": "/open"}) == 401
    assert "/open" not in authorizer.asked[-1].values()
    proof(ask.site, headers={"Cookie": "session=good"})
    with pytest.raises(handshake.HandshakeError, match="401"):
        proof(ask.site)


def test_the_authorizer_gets_no_client_s_own_words(tell, authorizer):
    tell(auth_request=authorizer.url)(headers={**FORGERIES, "Cookie": "session=good"})
    last = authorizer.asked[-1]
    told = {name: last[name] for name in last if name.startswith("x-forwarded-") or name == "x-real-ip"}
    assert told == {"x-forwarded-for": "127.0.0.1", "x-real-ip": "127.0.0.1"}


def test_no_client_comes_in_while_the_authorizer_is_silent(tell, free_port):
    assert tell(auth_request=f"http://127.0.0.1:{free_port()}/check")() == 500


# Large headers


@pytest.mark.parametrize("size", [8192, 1024, 32768])
def test_a_request_may_be_as_large_as_the_header_size(tell, authorizer, monkeypatch, size):
    # The library's own limit, for the whole line.
    monkeypatch.setenv("WEBSOCKETS_MAX_LINE_LENGTH", str(4 * size))
    ask = tell(auth_request=authorizer.url, header_size=size)
    fits, does_not = "a" * (size - 200), "a" * (size + 100)

    def status(path="/", **headers):
        return answer_of(ask, path, **{"Cookie": "session=good", **headers}).status

    assert status(f"/?{fits}", One=fits, Two=fits) == 101
    assert status(f"/?{does_not}") == 414
    assert status(One=does_not) == 400
    proof(ask.site, headers={"Cookie": "session=good", "One": fits}, path=f"/?{fits}")


# Limits


def test_one_address_cannot_take_all_connections(tell):
    ask = tell(connections_per_address=3)
    with contextlib.ExitStack() as held:
        clients = [held.enter_context(ask.client()) for _ in range(3)]
        assert ask() == 503
        assert isinstance(ask("127.0.0.9"), dict), "another address does not notice"
        proof(ask.site)
        for websocket, _ in clients:
            websocket.send("not noticed")
            assert websocket.recv() == "not noticed"
    deadline = time.monotonic() + 5
    while not isinstance(ask(), dict):
        assert time.monotonic() < deadline, "nginx still counts clients that have left"


def test_a_flood_from_one_address_is_limited(tell):
    ask = tell(connections_per_address=5, handshakes_per_address=1)
    answers = [ask() for _ in range(12)]
    taken = [answer for answer in answers if answer != 503]
    # nginx lets in one client, the burst, and one more for each second that this took.
    assert 6 <= len(taken) < 12
    assert answers[:6] == taken[:6]
    assert isinstance(ask("127.0.0.9"), dict), "another address does not notice"
    for _ in range(12):
        proof(ask.site)


def test_the_networks_of_ipv6_customers_are_counted_as_one_client(tell):
    ask = tell(connections_per_address=1, trusted_proxies=["127.0.0.3"])

    def behind(address):
        return {"source": "127.0.0.3", "headers": {"X-Forwarded-For": address}}

    with ask.client(**behind("2001:db8:1:2::1")):
        assert ask(**behind("2001:db8:1:2:ffff::2")) == 503
        assert ask(**behind("2001:db8:1:3::1"))["x-real-ip"] == ["2001:db8:1:3::1"]
        assert ask(**behind("192.0.2.1"))["x-real-ip"] == ["192.0.2.1"]
    with ask.client(**behind("192.0.2.1")):
        assert ask(**behind("192.0.2.1")) == 503
        assert ask(**behind("192.0.2.2"))["x-real-ip"] == ["192.0.2.2"]


# Where a client comes from

FORGERIES = {
    "X-Forwarded-For": "192.0.2.66",
    "X-Real-IP": "192.0.2.66",
    "X-Forwarded-Proto": "https",
    "X_Forwarded_Proto": "https",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "1",
    "X_Forwarded_Port": "1",
    "Forwarded": "for=192.0.2.66;proto=https;host=evil.example",
    "X_Real_IP": "192.0.2.66",
    "X_Forwarded_For": "192.0.2.66",
}


def where(got):
    """Return the headers that an app could take for the client's address or scheme."""
    return {name: values for name, values in got.items() if "forwarded" in name or "real" in name}


def seen_as(address, scheme="http", port=None):
    """Return what the app gets of these; a site without trusted proxies says nothing about a port."""
    ports = {"x-forwarded-port": [str(port)]} if port else {}
    return {"x-real-ip": [address], "x-forwarded-for": [address], "x-forwarded-proto": [scheme], **ports}


def test_what_a_client_says_about_itself_does_not_reach_the_app(tell):
    assert where(tell()("127.0.0.4", FORGERIES)) == seen_as("127.0.0.4")


def test_nor_does_it_beside_a_proxy(tell):
    ask = tell(trusted_proxies=["127.0.0.3"])
    assert where(ask("127.0.0.4", FORGERIES)) == seen_as("127.0.0.4", port=ask.site.port)


@pytest.mark.parametrize(
    ("said", "scheme"),
    [
        *(("https", "https"), ("http", "http"), ("wss", "https"), ("ws", "http"), ("HTTPS", "https")),
        *(("https, http", "http"), ("https,https", "http"), ("javascript", "http"), ("~https", "http"), (None, "http")),
        *(("default", "http"), ("", "http")),
    ],
)
def test_a_trusted_proxy_says_how_clients_reach_it(tell, said, scheme):
    ask = tell(trusted_proxies=["127.0.0.3"])
    headers = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Port": "8443"}
    headers |= {} if said is None else {"X-Forwarded-Proto": said}
    assert where(ask("127.0.0.3", headers)) == seen_as("192.0.2.7", scheme, 8443)
    # The port is known to nobody if the proxy does not say it.
    del headers["X-Forwarded-Port"]
    assert where(ask("127.0.0.3", headers)) == seen_as("192.0.2.7", scheme)


def test_the_authorizer_is_told_the_same(tell, authorizer):
    ask = tell(trusted_proxies=["127.0.0.3"], auth_request=authorizer.url)
    said = {"X-Forwarded-Proto": "https", "X-Forwarded-Port": "8443", "Cookie": "session=good"}
    ask("127.0.0.3", said)
    assert [authorizer.asked[-1][f"x-forwarded-{what}"] for what in ("proto", "port")] == ["https", "8443"]
    ask("127.0.0.4", said)
    assert [authorizer.asked[-1][f"x-forwarded-{what}"] for what in ("proto", "port")] == ["http", str(ask.site.port)]


def test_what_a_client_says_about_itself_does_not_evade_a_limit(tell):
    ask = tell(connections_per_address=1, trusted_proxies=["127.0.0.3"])
    with ask.client("127.0.0.4"):
        for number in range(5):
            assert ask("127.0.0.4", {"X-Forwarded-For": f"192.0.2.{number}"}) == 503
        # Only connections from the proof's addresses are not counted.
        assert ask("127.0.0.4", {"X-Forwarded-For": "127.0.0.2"}) == 503


def test_a_load_balancer_is_not_taken_for_a_client(tell):
    ask = tell(trusted_proxies=["127.0.0.3", "10.0.0.0/8"])
    balancer = "127.0.0.3"
    assert where(ask(balancer, {"X-Forwarded-For": "192.0.2.7"})) == seen_as("192.0.2.7")
    # The address that the client claims is before those that the load balancers have added.
    assert where(ask(balancer, {"X-Forwarded-For": "192.0.2.66, 192.0.2.7, 10.1.2.3"})) == seen_as("192.0.2.7")
    assert where(ask(balancer, {"X-Forwarded-For": "nonsense"})) == seen_as(balancer)


@pytest.mark.parametrize(("port", "scheme"), [(443, "https"), (80, "http"), (8443, "http")])
def test_the_proxy_protocol_says_at_which_port_a_client_came(tell, port, scheme):
    ask = tell(trusted_proxies=["127.0.0.3"], proxy_protocol=True)
    line = f"PROXY TCP4 192.0.2.7 198.51.100.1 40000 {port}\r\n"
    forgeries = {**FORGERIES, "X-Forwarded-Port": "1", "X-Forwarded-Proto": "wss"}
    assert where(ask("127.0.0.3", forgeries, line)) == seen_as("192.0.2.7", scheme, port)
    assert where(ask("127.0.0.4", forgeries, line)) == seen_as("127.0.0.4", port=ask.site.port)


def test_a_load_balancer_that_speaks_the_proxy_protocol(tell):
    ask = tell(trusted_proxies=["127.0.0.3"], proxy_protocol=True)
    line = "PROXY TCP4 192.0.2.7 127.0.0.1 40000 80\r\n"
    assert where(ask("127.0.0.3", FORGERIES, line)) == seen_as("192.0.2.7", port=80)
    told = where(ask("127.0.0.4", {}, line))
    assert told == seen_as("127.0.0.4", port=ask.site.port), "it is believed from the load balancer alone"
    proof(ask.site)
    with pytest.raises(handshake.HandshakeError):
        proof(ask.site, proxy_protocol=False)


def test_the_proof_is_not_counted_behind_the_proxy_protocol(tell):
    ask = tell(trusted_proxies=["127.0.0.3"], proxy_protocol=True, connections_per_address=1, handshakes_per_address=1)
    for _ in range(10):
        proof(ask.site)


# Time


def test_a_client_that_does_not_finish_its_handshake_is_sent_away(served):
    site = served(handshake_timeout=1)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", site.port), timeout=10)) for _ in range(3)]
        slow[1].sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgr")
        slow[2].sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")  # it is answered, and sends nothing more
        started = time.monotonic()
        for connection in slow:
            while connection.recv(65536):
                pass
        assert 0.9 < time.monotonic() - started < 5
    proof(site)
