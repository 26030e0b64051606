"""What clients outside of the host see through nginx."""

import asyncio
import json
import subprocess
import sys
import urllib.error

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


@pytest.mark.parametrize(
    "message",
    ["text: ΑΒΓ ✓", b"\x00binary\xff", "a" * (1 << 20), b"\xfe" * (1 << 20)],
    ids=["text", "binary", "1 MiB of text", "1 MiB of bytes"],
)
def test_message_comes_back_unchanged(echo, client, message):
    async def talk(websocket):
        await websocket.send(message)
        return await websocket.recv()

    # The server takes 1 MiB (websockets' max_size) and so does this client.
    assert client(echo, talk) == message


def test_200_clients_are_spread_evenly_and_all_served(host, echo):
    address = echo.address

    async def talk():
        clients = await asyncio.gather(*(connect(echo.url, host=address) for _ in range(200)))
        await asyncio.gather(*(websocket.send(str(number)) for number, websocket in enumerate(clients)))
        answers = await asyncio.gather(*(websocket.recv() for websocket in clients))
        per_process = {
            process: int(host.check_output(f"ss -xH state connected | grep -c '{path} '"))
            for process, path in zip(echo.processes, echo.sockets, strict=True)
        }
        await asyncio.gather(*(websocket.close() for websocket in clients))
        return answers, per_process

    answers, per_process = asyncio.run(talk())
    assert answers == [str(number) for number in range(200)]
    assert per_process == {process: 50 for process in echo.processes}


@pytest.mark.parametrize("code", [1000, 1001, 4321])
def test_close_code_is_answered(echo, client, code):
    async def talk(websocket):
        await websocket.close(code)
        return websocket.protocol.close_rcvd.code

    assert client(echo, talk) == code


def test_too_large_message_is_refused_with_1009(echo, client):
    async def talk(websocket):
        # The header says how large it is: the server may refuse it while it is still being sent.
        with pytest.raises(ConnectionClosed) as closed:
            await websocket.send("a" * ((1 << 20) + 1))
            await websocket.recv()
        return closed.value.rcvd.code

    assert client(echo, talk) == 1009


def test_stopped_process_sends_its_clients_to_the_others(host, echo):
    address = echo.address

    async def talk():
        clients = await asyncio.gather(*(connect(echo.url, host=address) for _ in range(8)))
        await asyncio.to_thread(host.check_output, f"supervisorctl restart echo-{echo.release}:echo_01")
        open_ones, codes = 0, []
        for websocket in clients:
            try:
                await websocket.send("still there?")
                await websocket.recv()
                open_ones += 1
                await websocket.close()
            except ConnectionClosed as closed:
                codes.append(closed.rcvd.code)
        return open_ones, codes

    assert asyncio.run(talk()) == (6, [1012, 1012])


def test_idle_client_stays_longer_than_the_proxys_timeout(echo, client):
    async def talk(websocket):
        # Nothing is sent for twice websockets_proxy_timeout but the app's pings.
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(websocket.recv(), 6)
        await websocket.send("still there")
        return await websocket.recv()

    assert client(echo, talk, ping_interval=None) == "still there"


def test_app_sees_who_the_client_is(host, asgi, client):
    async def talk(websocket):
        await websocket.send("headers")
        headers = json.loads(await websocket.recv())
        await websocket.send("client")
        return headers, json.loads(await websocket.recv()), websocket.local_address[0]

    headers, seen, address = client(asgi, talk, additional_headers={"X-Forwarded-For": "192.0.2.7"})
    assert seen == ["ws", address, 0], "what uvicorn makes of it"
    assert headers["x-real-ip"] == address
    assert headers["x-forwarded-for"] == address
    assert headers["x-forwarded-proto"] == "http"
    assert headers["host"] == f"localhost:{asgi.port}"


def test_secret_reaches_the_app(asgi, client):
    async def talk(websocket):
        await websocket.send("secret")
        return await websocket.recv()

    assert client(asgi, talk) == "s3cret 'with' \"quotes\" $HOME %(x)s {{"


def test_plain_get_is_told_what_is_missing(echo):
    with pytest.raises(urllib.error.HTTPError) as answer:
        echo.get()
    assert answer.value.code == 426
    assert b"WebSocket" in answer.value.read()


def test_health_check_answers_without_websocket(echo):
    with echo.get("healthz") as answer:
        assert (answer.status, answer.read()) == (200, b"OK\n")


def test_unsupported_version_is_refused(echo, client):
    async def talk(websocket):
        raise AssertionError("connected")

    with pytest.raises(InvalidStatus) as refused:
        client(echo, talk, additional_headers={"Sec-WebSocket-Version": "12"})
    assert refused.value.response.status_code in (400, 426)


# As if every name led to the last argument.
LOOK_THERE = (
    "import socket, sys; look, address = socket.getaddrinfo, sys.argv.pop();"
    "socket.getaddrinfo = lambda _, *rest, **more: look(address, *rest, **more)"
)


def test_the_documentations_check_by_hand(echo):
    module = f"{LOOK_THERE}; import runpy; runpy.run_module('websockets', run_name='__main__')"
    command = [sys.executable, "-c", module, echo.url, echo.address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as person:
        person.stdin.write("Hello!\n")
        person.stdin.flush()
        said = ""
        while "< Hello!" not in said:
            character = person.stdout.read(1)
            assert character, said
            said += character
        said += person.communicate(timeout=30)[0]
    assert "Connected to" in said
    assert "Connection closed: 1000 (OK)" in said
