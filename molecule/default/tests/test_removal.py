"""The second app goes, with everything of it and nothing of the first. Its own tests have run by then."""

import asyncio


def test_removed_app_is_gone_and_the_other_has_not_noticed(host, echo, asgi, play, client):
    before, user = (echo.release, echo.pids()), host.user("ws-asgi").uid
    # A shell and a server for each process.
    assert host.check_output(f"pgrep -c -U {user}") == "4"

    async def stay(websocket):
        removed = await asyncio.to_thread(play, "remove", websockets_app="asgi", app_to_remove="asgi")
        await websocket.wait_closed()
        return removed, websocket.close_code

    removed, code = client(asgi, stay)
    assert removed.returncode == 0, removed.stdout
    assert code == 1012
    assert host.run(f"pgrep -U {user}").stdout == ""
    found = host.run("find /etc /srv /run /var/log /var/lib -name '*asgi*' -o -nouser").stdout.splitlines()
    assert [path for path in found if not path.endswith("-")] == []  # passwd- and group- are passwd's own backups
    assert not host.user("ws-asgi").exists
    assert "asgi" not in host.check_output("supervisorctl status")
    assert not host.socket("tcp://0.0.0.0:8081").is_listening
    assert (echo.release, echo.pids()) == before
    client(echo)


def test_app_of_another_name_is_not_removed(play):
    refused = play("remove", app_to_remove="asgi")
    assert refused.returncode != 0
    assert "Nothing has been removed" in refused.stdout
