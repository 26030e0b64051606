"""Releases on a host: which one a rollback chooses, and which ones a deploy removes."""

import json
import os
import shutil
import socket
from pathlib import Path

import pytest
from ansible_collections.websockets.deploy.plugins.module_utils import inputs, paths, release, unix
from ansible_collections.websockets.deploy.plugins.module_utils.record import to_dict
from ansible_collections.websockets.deploy.plugins.module_utils.release import Release
from role import HOST, plan

ONE, TWO, THREE, FOUR = "111111111111", "222222222222", "333333333333", "444444444444"


def base():
    return paths.app_base("chat")


@pytest.fixture
def on_host(host):
    """Put a release on the host, with its packages and its logs; it may be live."""

    def put(identity, since=None, previous="", venv="v"):
        made = Release.of("chat", identity, "ws-chat", f"{base()}/venvs/{venv}", 1)
        for folder in (made.path, made.venv, made.logs):
            os.makedirs(folder, exist_ok=True)
        Path(made.path, "release.json").write_text(json.dumps({**to_dict(made), "files": {}}))
        for name in (f"chat_00-{identity}.log", f"chat_00-{identity}.log.1"):
            Path(made.logs, name).touch()
        if since is not None:
            release.went_live(made, previous)
            os.utime(f"{made.path}/previous", (since, since))
            release.point(made.live_link, made.sockets)
        return made

    return put


def test_releases_are_read_with_their_history(on_host):
    on_host(ONE, since=100)
    on_host(TWO, since=200, previous=ONE)
    on_host(THREE)
    history = {identity: (found.since, found.previous) for identity, found in release.stored("chat").items()}
    assert history == {ONE: (100, ""), TWO: (200, ONE), THREE: (0, None)}
    assert release.stored("other") == {}


def test_a_rollback_is_no_step_of_the_history(on_host):
    """Two rollbacks in a row lead two releases back, not back to the first one."""
    on_host(ONE, since=100)
    made = on_host(TWO, since=200, previous=ONE)
    release.went_live(made, None)
    found = release.stored("chat")[TWO]
    assert found.previous == ONE
    assert found.since > 200


# The target of a rollback


def go_back(on_host, **given):
    there = {identity: to_dict(found) for identity, found in release.stored("chat").items()}
    planned = plan({"live": release.live_id("chat"), "releases": there}, "rollback", app="chat", **given)
    return planned["release"]["id"]


@pytest.fixture
def three(on_host):
    on_host(ONE, since=100)
    on_host(TWO, since=200, previous=ONE)
    on_host(THREE, since=300, previous=TWO)
    on_host(FOUR)
    return on_host


def test_back_to_the_one_before(three):
    assert go_back(three) == TWO


def test_back_to_the_one_that_is_named(three):
    assert go_back(three, rollback_to=ONE) == ONE


def test_no_code_is_looked_at(three):
    assert go_back(three, src="/nonexistent") == TWO


@pytest.mark.parametrize(
    ("given", "why"),
    [
        pytest.param(FOUR, f"{FOUR} is not on this host or has never been live", id="never live"),
        pytest.param("0" * 12, f"{'0' * 12} is not on this host or has never been live", id="not there"),
        pytest.param(THREE, "that release is live already", id="live"),
    ],
)
def test_a_release_to_which_no_rollback_leads(three, given, why):
    with pytest.raises(inputs.InputError) as error:
        go_back(three, rollback_to=given)
    assert str(error.value) == f"websockets_rollback_to is '{given}': {why}; it can go back to {ONE}, {TWO}."


def test_back_in_the_run_that_has_deployed(three):
    """A playbook does so if its own test of the new release fails."""
    deployed = {"__websockets_deployed": {"chat": THREE}}
    assert go_back(three, ansible_facts=deployed) == TWO


def test_nothing_to_go_back_to(on_host):
    with pytest.raises(inputs.InputError) as error:
        plan({**HOST}, "rollback", app="chat")
    assert str(error.value) == "websockets_app is 'chat': it has no live release on this host; deploy it first."
    on_host(ONE, since=100)
    assert refused(on_host) == (
        f"websockets_rollback_to is '': {ONE} is the only release of chat that has been live on this host; there is nothing"
        " to go back to."
    )


def refused(on_host, **given):
    with pytest.raises(inputs.InputError) as error:
        go_back(on_host, **given)
    return str(error.value)


@pytest.mark.parametrize(("others", "named"), [([TWO], TWO), ([TWO, THREE], f"{TWO} or {THREE}")])
def test_the_first_release_has_none_before_it_but_later_ones(on_host, others, named):
    """After a rollback to it; what was live later is still there."""
    for since, identity in enumerate(others, 200):
        on_host(identity, since=since, previous=ONE)
    on_host(ONE, since=300)
    assert refused(on_host) == (
        f"websockets_rollback_to is '': {ONE} is the first release of chat, so there is none before it; for a later one, name"
        f" {named}."
    )
    assert go_back(on_host, rollback_to=TWO) == TWO


def test_the_one_before_was_removed(three):
    shutil.rmtree(f"{base()}/releases/{TWO}")
    assert refused(three) == (
        f"websockets_rollback_to is '': {TWO}, which was live before, is not on this host any more; name {ONE}."
    )
    shutil.rmtree(f"{base()}/releases/{ONE}")
    assert "is the only release of chat that has been live on this host" in refused(three)
    assert refused(three, rollback_to=TWO).endswith("never been live; there is no other release on this host.")


def test_the_plan_of_a_removal(on_host):
    on_host(ONE, since=100)
    planned = plan({"live": ONE}, "remove", app="chat")
    assert (planned["release"]["id"], planned["release"]["processes"]) == (ONE, [])


# Releases that a deploy removes


@pytest.mark.parametrize(("keep", "gone"), [(9, [FOUR]), (3, [FOUR]), (2, [ONE, FOUR]), (1, [ONE, FOUR])])
def test_prune_keeps_the_newest_the_live_one_and_the_one_before(three, keep, gone):
    assert release.prune("chat", keep) == gone
    assert sorted({ONE, TWO, THREE, FOUR} - set(gone)) == sorted(release.stored("chat"))
    logs = {name.split("-")[1][:12] for name in os.listdir(f"{paths.LOG}/chat")}
    assert logs == {ONE, TWO, THREE, FOUR} - set(gone)
    assert release.prune("chat", keep) == []


def test_prune_after_a_rollback_keeps_what_is_live(three):
    """The live release may be the oldest."""
    release.point(f"{base()}/live", f"{paths.RUN}/chat/{ONE}")
    assert release.prune("chat", 1) == [TWO, FOUR]


def test_prune_removes_unused_packages_and_half_built_releases(on_host):
    on_host(ONE, since=100, venv="old")
    on_host(TWO, since=200, previous=ONE, venv="old")
    on_host(THREE, since=300, previous=TWO, venv="new")
    for leftover in (f"{base()}/venvs/nobodys", f"{base()}/releases/.{FOUR}.partial"):
        os.makedirs(leftover)
    assert release.prune("chat", 2) == [ONE]
    assert sorted(os.listdir(f"{base()}/venvs")) == ["new", "old"]
    release.prune("chat", 1)
    assert sorted(os.listdir(f"{base()}/releases")) == [TWO, THREE]


# Connected clients


def test_connections_are_counted_by_socket(short_path):
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as idle:
        for name, listener in (("busy", busy), ("idle", idle)):
            listener.bind(f"{short_path}/{name}.sock")
            listener.listen()
        clients = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for client in clients:
            client.connect(f"{short_path}/busy.sock")
        served = [busy.accept()[0] for _ in clients]
        counted = {f"{short_path}/busy.sock": 3, f"{short_path}/idle.sock": 0}
        assert unix.connections(str(short_path)) == counted
        assert unix.connections(f"{short_path}x") == {}
        clients.pop().close()
        served.pop(-1).close()
        assert unix.connections(str(short_path))[f"{short_path}/busy.sock"] == 2
        for end in (*clients, *served):
            end.close()


def test_connections_of_a_socket_that_was_renamed_count_for_its_present_name(short_path):
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(f"{short_path}/a.sock.1a2b3c")
        server.listen()
        os.rename(f"{short_path}/a.sock.1a2b3c", f"{short_path}/a.sock")
        client.connect(f"{short_path}/a.sock")
        with server.accept()[0]:
            assert unix.connections(str(short_path)) == {f"{short_path}/a.sock": 1}
    assert sum(unix.connections(str(short_path)).values()) == 0
