"""What one can go back to, and what a person is told where one cannot."""

import pytest

testinfra_hosts = ["ansible://debian13"]

FIRST = {"websockets_app": "first", "websockets_listen": "8085", "websockets_numprocs": 1}


def releases(host):
    return set(host.check_output("ls /srv/websockets/first/releases").split())


def live(host):
    return host.file("/srv/websockets/first/live").linked_to.rsplit("/", 1)[-1]


@pytest.fixture(scope="module")
def first(deploy, play, version):
    """Deploy an app that has never been on the host."""
    assert deploy(**FIRST, **version("one")).returncode == 0
    yield
    assert play("remove", **FIRST, app_to_remove="first").returncode == 0


def test_app_that_is_not_there(play):
    run = play("rollback", **{**FIRST, "websockets_app": "nobody"})
    assert run.returncode != 0
    assert "Nothing has been touched" in run.stdout
    assert "it has no live release on this host; deploy it first" in run.stdout


def test_first_release(host, first, play):
    run = play("rollback", **FIRST)
    assert run.returncode != 0
    assert (
        f"{live(host)} is the only release of first that has been live on this host; there is nothing to go back to"
        in run.stdout
    )


def test_one_release_to_keep_is_the_one_to_go_back_to(host, first, play, deploy, version):
    one = live(host)
    for name in ("two", "three"):
        before = live(host)
        assert deploy(**FIRST, **version(name), websockets_keep_releases=1).returncode == 0
        assert releases(host) == {live(host), before}
    three = live(host)
    assert len({one, before, three}) == 3

    run = play("rollback", **FIRST, websockets_rollback_to=one)
    assert run.returncode != 0
    assert f"{one} is not on this host or has never been live; it can go back to {before}" in run.stdout
    assert live(host) == three

    assert play("rollback", **FIRST, websockets_keep_releases=1).returncode == 0
    assert live(host) == before

    run = play("rollback", **FIRST, websockets_rollback_to=before)
    assert run.returncode != 0
    assert "that release is live already" in run.stdout
