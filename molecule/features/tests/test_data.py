"""An app with a database in {data} keeps its rows, whatever becomes of its releases, until a removal is asked for them too."""

import asyncio
import pathlib

import pytest
from websockets.asyncio.client import connect

testinfra_hosts = ["ansible://debian13"]

DATA = "/var/lib/websockets/rows/data"
ROWS = {
    "websockets_app": "rows",
    "websockets_user": "ws-rows",
    "websockets_src": str(pathlib.Path(__file__).parents[1] / "apps" / "data"),
    "websockets_listen": "8091",
    "websockets_numprocs": "2",
    "websockets_gate_message": "",
}
TICK = {"command": "sh -c 'while :; do date > {data}/tick; sleep 0.2; done'", "runs_for": 1}
IN_DATA = {"websockets_environment": {"DATABASE": "{data}/rows.db"}, "websockets_workers": {"tick": TICK}}


@pytest.fixture(scope="module")
def rows(deploy):
    """Deploy the app with further variables."""
    return lambda **variables: deploy(**{**ROWS, **IN_DATA, **variables})


@pytest.fixture(scope="module")
def remove(play):
    """Remove the app, with further variables."""
    return lambda **variables: play("remove", **ROWS, app_to_remove="rows", **variables)


@pytest.fixture(scope="module", autouse=True)
def deployed(host, rows, remove):
    done = rows()
    assert done.returncode == 0, done.stdout
    yield
    if host.file("/var/lib/websockets/rows").exists:  # a test has failed
        remove(remove_data=True)


@pytest.fixture
def add(echo):
    """Add a row through nginx, and return how many there are."""

    async def session():
        async with connect("ws://localhost:8091/", host=echo.address) as client:
            await client.send("row")
            return int(await client.recv())

    return lambda: asyncio.run(session())


def live(host):
    return host.file("/srv/websockets/rows/live").linked_to.rsplit("/", 1)[-1]


def left(host):
    """Return what a removal has left of the app, but for its data."""
    places = "/srv/websockets/rows /run/websockets/rows /var/log/websockets/rows /etc/tmpfiles.d/websockets-rows.conf"
    globs = "/etc/nginx/conf.d/*rows* /etc/supervisor/conf.d/*rows* /etc/nginx/websockets/rows*"
    files = host.run(f"ls -d {places} {globs} 2> /dev/null").stdout.split()
    return files + host.run("pgrep -f 'websockets/[r]ows'").stdout.split()


def test_only_the_apps_user_can_enter_it(host):
    data = host.file(DATA)
    assert (data.user, data.group, data.mode) == ("ws-rows", "ws-rows", 0o700)


def test_the_sandbox_allows_it(host, confined, add):
    assert confined(host.check_output(f"supervisorctl pid rows-{live(host)}:rows_00"))
    assert confined(host.check_output(f"supervisorctl pid rows-{live(host)}:rows.tick_00"))
    assert host.file(f"{DATA}/tick").exists
    assert add() == 1


def test_rows_stay_through_a_deploy_and_a_rollback(host, rows, play, add):
    first = live(host)
    assert rows(websockets_environment={"DATABASE": "{data}/rows.db", "VERSION": "2"}).returncode == 0
    assert live(host) != first
    assert add() == 2
    assert play("rollback", **ROWS).returncode == 0
    assert live(host) == first
    assert add() == 3


def test_an_app_that_writes_beside_its_code_is_told_of_it(host, rows, add):
    before = live(host)
    done = rows(websockets_environment={"DATABASE": "rows.db"})
    assert done.returncode != 0
    assert "unable to open database file" in done.stdout
    assert f"{{data}} is a folder for that, which stays: {DATA}." in done.stdout
    assert live(host) == before
    assert add() == 4


def test_another_user_is_refused_before_anything_is_touched(host, rows, add):
    done = rows(websockets_user="ws-others")
    assert done.returncode != 0
    assert f"{DATA}, which is {{data}}, belongs to ws-rows" in done.stdout
    assert f"chown -R ws-others {DATA}" in done.stdout
    assert not host.user("ws-others").exists
    assert add() == 5


@pytest.mark.parametrize("value", ["maybe", "", "1"])
def test_a_removal_with_a_value_that_is_none_is_refused(host, remove, value):
    before = live(host)
    done = remove(remove_data=value)
    assert done.returncode != 0
    assert f'Nothing has been removed: remove_data is "{value}": use true or false.' in done.stdout.replace("\\", "")
    assert live(host) == before


def test_a_removal_keeps_the_data_and_its_user_and_the_next_deploy_finds_them(host, rows, remove, add):
    assert host.file("/var/lib/websockets/rows/ws-rows").is_directory
    owner = host.check_output(f"stat -c %u {DATA}")
    done = remove()
    assert done.returncode == 0, done.stdout
    assert f"{DATA} stays, and so does the user ws-rows" in done.stdout
    assert host.check_output("ls -A /var/lib/websockets/rows") == "data"
    assert set(host.check_output(f"ls -A {DATA}").split()) == {"rows.db", "tick"}
    assert left(host) == []
    assert host.user("ws-rows").exists
    assert rows().returncode == 0
    assert host.check_output(f"stat -c %u {DATA}") == owner
    assert add() == 6


def test_a_removal_that_is_asked_for_them_takes_the_data_too(host, remove):
    assert remove().returncode == 0
    # It may come later, when nothing else of the app is there.
    done = remove(remove_data=True)
    assert done.returncode == 0, done.stdout
    assert " stays, " not in done.stdout
    assert not host.file("/var/lib/websockets/rows").exists
    assert not host.user("ws-rows").exists
    assert left(host) == []


def test_an_app_that_has_nothing_in_it_leaves_nothing(host, rows, remove):
    unused = {"websockets_environment": {"DATABASE": ":memory:", "UNUSED": "{data}"}, "websockets_workers": {}}
    assert rows(**unused).returncode == 0
    assert host.file(DATA).is_directory
    done = remove()
    assert done.returncode == 0, done.stdout
    assert not host.file("/var/lib/websockets/rows").exists
    assert not host.user("ws-rows").exists
