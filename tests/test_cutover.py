"""A cut-over through a real nginx: the next release gets the traffic; if anything fails, the old one keeps it."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.websockets.deploy.plugins.module_utils import (
    handshake,
    nginx,
    pages,
    paths,
    recorded,
    release,
    sizing,
    supervisor,
    unix,
)
from ansible_collections.websockets.deploy.plugins.module_utils.probe import Probe
from ansible_collections.websockets.deploy.plugins.module_utils.record import from_dict, to_dict
from ansible_collections.websockets.deploy.plugins.module_utils.site import Site
from role import ECHO, challenge, load, nginx_files, plan, put_in_place, read
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

cutover = load("modules/cutover")
observe = load("modules/observe")
remove = load("modules/remove")
start = load("modules/start")


@pytest.fixture
def port(free_port):
    return free_port()


@pytest.fixture
def running_nginx(nginx_folder, supervisord, eventually):
    """A running nginx with nothing of ours, and the pid of its master."""
    with subprocess.Popen(["nginx", "-g", "daemon off;"]) as process:
        eventually(lambda: Path(f"{nginx_folder.parents[1]}/nginx.pid").exists())
        yield process.pid
        process.terminate()


@pytest.fixture
def started(running_nginx, port, capsys):
    """Start a release and return its plan; each ``number`` is another release."""

    def usual(number):
        given = {
            "command": f"{sys.executable} app.py {{socket}}",
            "numprocs": 2,
            "gate_message": "hello",
            "gate_timeout": 20,
        }
        return given | {"environment": {"NUMBER": number}, "listen": f"127.0.0.1:{port}", "user": "nobody-yet"}

    def begin(number, **inputs):
        made = plan(**{**usual(number), **inputs})
        made["release"]["user"] = str(os.getuid())
        put_in_place(made)
        arguments = {
            "release": made["release"],
            "run": made["run"],
            "minfds": 256,
            "probe": made["probe"],
            "headers": {},
        }
        with patch_module_args(arguments), pytest.raises(SystemExit):
            start.main()
        assert "failed" not in json.loads(capsys.readouterr().out)
        return made

    begin.given = usual
    return begin


@pytest.fixture
def cut_over(nginx_folder, capsys):
    def run(made, edit=lambda site: site, **changed):
        arguments = {name: made[name] for name in ("release", "run", "site", "probe")}
        files = {path: edit(text) for path, text in nginx_files(made, nginx_folder).items()}
        arguments |= {"files": files, "proof_sources": read("vars/main.yml")["__websockets_proof_sources"]}
        arguments |= {
            "pem": [],
            "challenge": challenge(made),
            "worker_connections": 1000,
            "headers": {},
            "rollback": False,
            "last": False,
            **changed,
        }
        with patch_module_args(arguments), pytest.raises(SystemExit):
            cutover.main()
        return json.loads(capsys.readouterr().out)

    return run


def workers(master):
    return set(Path(f"/proc/{master}/task/{master}/children").read_text().split())


def configuration(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def through(port):
    handshake.ask(("127.0.0.1", port), Probe(message="hello"))


def test_the_first_release_gets_the_traffic(started, cut_over, port):
    made = started(1)
    done = cut_over(made)
    assert done["changed"] is True
    assert done["milliseconds"] > 0
    assert release.live_id("echo") == made["release"]["id"]
    through(port)


def test_a_second_time_changes_nothing(started, cut_over, running_nginx, nginx_folder):
    made = started(1)
    cut_over(made)
    files, processes = configuration(nginx_folder), workers(running_nginx)
    done = cut_over(made)
    assert (done["changed"], done["diff"]) == (False, [])
    assert (configuration(nginx_folder), workers(running_nginx)) == (files, processes)


@pytest.fixture
def proved(started, cut_over):
    """Cut a release over as a deploy does; return what the next run's look at nginx says: the time of its handshake."""
    made = started(1, numprocs=1)
    needs = sizing.worker_needs(4096)
    cut_over(made, inputs=made["inputs"], worker_connections=needs)

    def look(**changed):
        given = {"inputs": made["inputs"], "headers": {}, "worker_connections": needs, "proof_sources": ["127.0.0.2"]}
        return observe.prove({**given, **changed}, from_dict(Site, made["site"]), from_dict(Probe, made["probe"]), True)

    return look


def test_a_host_proves_itself_when_a_run_looks_at_it(proved):
    assert proved() > 0


def test_a_look_proves_nothing_if_a_cut_over_would_do_something(proved):
    assert proved(inputs=None) is None
    assert proved(inputs={"app": "echo"}) is None
    assert proved(headers={"Authorization": "another"}) is None
    assert proved(worker_connections=100_000) is None
    Path(paths.PENDING).touch()
    assert proved() is None


def test_a_look_at_nginx_that_does_not_answer_proves_nothing(proved, running_nginx):
    os.kill(running_nginx, signal.SIGTERM)
    assert proved() is None


def test_a_host_configuration_that_is_not_utf8_keeps_its_bytes(started, cut_over, nginx_folder, port):
    made, main = started(1), Path(paths.NGINX_MAIN)
    main.write_bytes(
        comment := b"# caf\xe9\n" + main.read_bytes().replace(b"worker_connections", b"# \xff\nworker_connections")
    )
    done = cut_over(made)
    assert r"# caf\xe9" in done["diff"][0]["before"]
    through(port)
    lines = main.read_bytes().splitlines()
    assert [line for line in lines if not line.isascii()] == [
        line for line in comment.splitlines() if not line.isascii()
    ]
    assert cut_over(made)["changed"] is False


@pytest.mark.parametrize("last", [False, True])
def test_the_last_step_of_a_run_ends_it(started, cut_over, last):
    cut_over(started(1), last=last)
    assert bool(Path(paths.LOCK).read_text()) is not last


def test_the_next_release_gets_it_without_a_reload_while_clients_stay(
    started, cut_over, running_nginx, port, eventually
):
    cut_over(started(1))
    eventually(lambda: len(workers(running_nginx)) == os.cpu_count())
    before = workers(running_nginx)
    with connect(f"ws://127.0.0.1:{port}/") as client:
        made = started(2)
        assert cut_over(made)["changed"] is True
        assert workers(running_nginx) == before
        client.send("still here")
        assert client.recv() == "still here"
        # The new release gets the next client.
        with connect(f"ws://127.0.0.1:{port}/"):
            assert sum(unix.connections(made["release"]["sockets"]).values()) == 1


def test_a_full_host_refuses_one_more_and_can_be_deployed_to(started, cut_over, port):
    cut_over(started(1, max_connections=16))
    with contextlib.ExitStack() as clients:
        held = [clients.enter_context(connect(f"ws://127.0.0.1:{port}/")) for _ in range(16)]
        with pytest.raises(InvalidStatus, match="503"):
            connect(f"ws://127.0.0.1:{port}/")
        second = started(2, max_connections=16)
        assert cut_over(second)["changed"] is True
        assert release.live_id("echo") == second["release"]["id"]
        for client in held:
            client.send("not noticed")
            assert client.recv() == "not noticed"


def test_a_check_shows_it_and_does_nothing(started, cut_over, nginx_folder):
    made = started(1)
    before = configuration(nginx_folder)
    done = cut_over(made, _ansible_check_mode=True)
    assert done["changed"] is True
    headers = [part["after_header"] for part in done["diff"]]
    assert headers == [paths.NGINX_MAIN, *nginx_files(made, nginx_folder), made["release"]["live_link"]]
    # A new file's text is left out, a changed file's is not.
    assert [len(part["after"].splitlines()) for part in done["diff"][1:]] == [1, 1, 1, 1]
    assert "worker_rlimit_nofile" in done["diff"][0]["after"]
    files = ", ".join([paths.NGINX_MAIN, *nginx_files(made, nginx_folder)])
    gives = f"give {made['release']['id']} the traffic"
    assert done["would"] == [f"write {files} and reload nginx", f"{gives}, and prove it through nginx"]
    assert configuration(nginx_folder) == before
    assert release.live_id("echo") == ""


def test_a_check_of_what_serves_already_shows_nothing(started, cut_over):
    made = started(1)
    cut_over(made)
    assert (done := cut_over(made, _ansible_check_mode=True))["would"] == done["diff"] == []
    assert done["changed"] is False


def test_a_check_names_the_release_that_has_the_traffic(started, cut_over):
    first, second = started(1), started(2)
    cut_over(first)
    (would,) = cut_over(second, _ansible_check_mode=True)["would"]
    assert would.startswith(f"give {second['release']['id']} the traffic instead of {first['release']['id']}, ")


def without_upgrade(text):
    """Break the app's own server, and not the one through which the next release proves itself."""
    return text if ".invalid" in text else text.replace("proxy_set_header Upgrade $http_upgrade;", "")


def test_a_site_that_nginx_refuses_replaces_nothing(started, cut_over, nginx_folder, port):
    first = started(1)
    cut_over(first)
    before = configuration(nginx_folder)
    done = cut_over(started(2), edit=lambda site: site.replace("    listen ", "    lisen "))
    assert done["msg"].startswith("nginx refuses the new configuration; the working one is untouched:\n")
    assert f'unknown directive "lisen" in {nginx_folder}/conf.d/websockets-echo.conf:' in done["msg"]
    assert configuration(nginx_folder) == before
    assert release.live_id("echo") == first["release"]["id"]
    through(port)


def test_lines_of_the_users_own_that_nginx_refuses_replace_nothing(started, cut_over, nginx_folder, port):
    cut_over(started(1))
    before = configuration(nginx_folder)
    refused = ({"nginx_server": "lisen 80;"}, {"nginx_locations": {"/a": "retrun 204;"}}, {"nginx_server": "}"})
    for number, lines in enumerate(refused, 2):
        done = cut_over(started(number, **lines))
        assert done["msg"].startswith("nginx refuses the new configuration; the working one is untouched:\n")
        assert configuration(nginx_folder) == before
    through(port)


def test_lines_of_the_users_own_that_shut_the_app_off_are_taken_back(started, cut_over, nginx_folder, port):
    cut_over(started(1))
    before = configuration(nginx_folder)
    done = cut_over(started(2, nginx_server="return 418;"))
    assert "refused the handshake: HTTP/1.1 418" in done["msg"]
    assert configuration(nginx_folder) == before
    through(port)


def test_a_name_that_another_site_has_is_refused(started, cut_over, nginx_folder, port):
    (nginx_folder / "conf.d" / "a.conf").write_text(f"server {{ listen 127.0.0.1:{port}; server_name localhost; }}\n")
    done = cut_over(started(1))
    assert f'conflicting server name "localhost" on 127.0.0.1:{port}' in done["msg"]
    assert not (nginx_folder / "conf.d" / "websockets-echo.conf").exists()


def test_old_workers_are_seen_and_end_in_time(started, cut_over, running_nginx, port, eventually):
    main = Path(paths.NGINX_MAIN)
    cut_over(started(1))
    assert nginx.old_workers() == []
    with connect(f"ws://127.0.0.1:{port}/") as client, connect(f"ws://127.0.0.1:{port}/") as other:
        cut_over(started(2, proxy_timeout=99))
        old = eventually(
            lambda: (found := nginx.old_workers()) and sum(one["connections"] for one in found) == 2 and found
        )
        assert {worker["pid"] for worker in old} < {int(pid) for pid in workers(running_nginx)}
        assert all(worker["memory"] > 1 << 18 and 0 <= worker["uptime"] < 600 for worker in old)
        client.send("still here")
        assert client.recv() == "still here"
        other.close()
        eventually(lambda: sum(one["connections"] for one in nginx.old_workers()) == 1)
    eventually(lambda: nginx.old_workers() == [])
    assert "worker_shutdown_timeout" not in main.read_text()
    cut_over(started(3, worker_shutdown_timeout=1))
    assert main.read_text().count("worker_shutdown_timeout 1s;\n") == 1
    with connect(f"ws://127.0.0.1:{port}/", ping_interval=None) as client:
        cut_over(started(4, worker_shutdown_timeout=1, proxy_timeout=98))
        with pytest.raises(ConnectionClosed):
            client.recv()
    cut_over(started(5))
    assert "worker_shutdown_timeout" not in main.read_text()


def test_of_several_apps_the_longest_time_of_old_workers_counts(started, cut_over, free_port):
    main = Path(paths.NGINX_MAIN)
    other = {"app": "other", "listen": f"127.0.0.1:{free_port()}"}
    for number, (inputs, seconds) in enumerate(
        [
            ({"worker_shutdown_timeout": 60}, 60),
            ({**other, "worker_shutdown_timeout": 0}, 60),
            ({**other, "worker_shutdown_timeout": 90}, 90),
            ({}, 90),
            ({"worker_shutdown_timeout": 60}, 90),
            ({**other, "worker_shutdown_timeout": 30}, 60),
        ]
    ):
        assert "failed" not in cut_over(started(number, **inputs))
        assert f"\nworker_shutdown_timeout {seconds}s;\n" in main.read_text()


def test_the_proof_is_made_at_each_address(started, cut_over, nginx_folder, port):
    both = {"listen": [f"127.0.0.1:{port}", f"[::1]:{port}"]}
    assert cut_over(started(1, **both))["changed"]
    handshake.ask(("::1", port), Probe(message="hello"))
    before = configuration(nginx_folder)

    def without_the_second(text):
        return text.replace(f"    listen [::1]:{port} backlog=4096;\n", "")

    done = cut_over(started(2, **both), edit=without_the_second)
    assert (
        f"does not answer through nginx at ::1:{port}; nginx's files and the live link are as before, and "
        in done["msg"]
    )
    assert configuration(nginx_folder) == before


def test_a_release_that_fails_its_proof_is_taken_back(started, cut_over, nginx_folder, port):
    """Such a release has passed the gate, but no client would reach it."""
    first = started(1)
    cut_over(first)
    before = configuration(nginx_folder)
    second = started(2)
    done = cut_over(second, edit=without_upgrade)
    assert done["msg"].startswith(
        f"Release {second['release']['id']} does not answer through nginx at 127.0.0.1:{port};"
        " nginx's files and the live link are as before, and nginx serves what it served before."
        " refused the handshake: HTTP/1.1 "
    )
    assert configuration(nginx_folder) == before
    assert release.live_id("echo") == first["release"]["id"]
    assert release.programs("echo") == [first["release"]["id"]]
    through(port)


# An app that behaves at its gate, and what nginx meets then.
CHANGES = {
    "it closes its socket": ("os.chmod(sys.argv[1], 0o600)", "echo_00 refused the handshake: HTTP/1.1 502 Bad Gateway"),
    "it refuses": (
        "return connection.respond(http.HTTPStatus.FORBIDDEN, 'NO')",
        "echo_00 refused the handshake: HTTP/1.1 403 Forbidden NO",
    ),
    "its last process refuses": (
        "if sys.argv[1].endswith('01.sock'): return connection.respond(http.HTTPStatus.FORBIDDEN, 'NO')",
        "echo_01 refused the handshake: HTTP/1.1 403 Forbidden NO",
    ),
}


@pytest.fixture
def as_on_a_host(nginx_folder, request):
    """Have nginx run as its own user. Only root can start it so."""
    return request.getfixturevalue("nginxs_user") if os.getuid() == 0 else None


@pytest.fixture
def clients(port):
    """Have clients come one after the other; return a function that ends this, and returns what they could not do."""
    with contextlib.ExitStack() as stack:

        def come():
            ended, failed, came = threading.Event(), [], []

            def run():
                while not ended.is_set():
                    try:
                        through(port)
                    except handshake.HandshakeError as error:
                        failed.append(str(error))
                    came.append(1)

            thread = threading.Thread(target=run)
            thread.start()
            stack.callback(ended.set)

            def end():
                ended.set()
                thread.join()
                assert came
                return failed

            return end

        yield come


@pytest.mark.usefixtures("as_on_a_host")
@pytest.mark.parametrize(("then", "why"), CHANGES.values(), ids=CHANGES)
def test_no_client_meets_a_release_that_nginx_cannot_reach(
    started, cut_over, nginx_folder, clients, tmp_path, then, why
):
    first = started(1)
    cut_over(first)
    before = configuration(nginx_folder)
    code = Path(first["code"]["folder"], "app.py").read_text()
    later = f"health.asked = getattr(health, 'asked', 0) + 1\n    if health.asked > 1:\n        {then}"
    if "respond" not in then:  # nginx comes right after the gate
        later = f"asyncio.get_running_loop().call_soon(lambda: {then})"
    (tmp_path / "app.py").write_text(code.replace('if request.path == "/healthz":', f"{later}\n    if False:"))
    second = started(2, src=str(tmp_path), gate_message="")
    end = clients()
    done = cut_over(second)
    assert end() == []
    assert why in done["msg"]
    assert "the live link are as before, and nginx serves what it served before" in done["msg"]
    assert configuration(nginx_folder) == before
    assert release.live_id("echo") == first["release"]["id"]
    assert list(release.stored("echo")) == release.programs("echo") == [first["release"]["id"]]
    assert not os.path.lexists(second["release"]["next_link"])


def test_no_client_reaches_the_next_release(started, cut_over, port):
    made = started(1)
    cut_over(made)
    # Left by a run that was killed.
    release.point(made["release"]["next_link"], made["release"]["sockets"])
    asked = {"headers": {"X-Websockets-Process": "echo_00"}, "host": made["release"]["next_host"]}
    with pytest.raises(handshake.HandshakeError, match="403 Forbidden"):
        handshake.ask(("127.0.0.1", port), Probe(), **asked)
    handshake.ask(("127.0.0.1", port), Probe(), sources=["127.0.0.2"], **asked)
    for name in ("", "echo_02", "../live/echo_00", "chat_00"):
        asked["headers"] = {"X-Websockets-Process": name}
        with pytest.raises(handshake.HandshakeError, match="502 Bad Gateway"):
            handshake.ask(("127.0.0.1", port), Probe(), sources=["127.0.0.2"], **asked)


# An app in the place of another one

# The clients of these tests come from one address, as fast as they can.
MANY = {"handshakes_per_address": 100000}


@pytest.fixture
def renamed(started, cut_over):
    """Cut over to the app echo; return its plan, and a function that cuts over to the app feed in its place."""
    old = started(1, **MANY)
    cut_over(old)

    def run(**changed):
        made = started(2, app="feed", **MANY)
        return made, cut_over(made, replaces="echo", **changed)

    return old, run


def test_an_app_comes_in_the_place_of_another_without_a_lost_client(renamed, nginx_folder, clients, port):
    old, rename = renamed
    end = clients()
    with connect(f"ws://127.0.0.1:{port}/") as client:
        made, done = rename()
        assert done["changed"] is True
        client.send("still here")
        assert client.recv() == "still here"
    assert end() == []
    there = {path.name for path in (nginx_folder / "conf.d").glob("websockets*")}
    assert there == {"websockets.conf", "websockets-feed.conf", "websockets.next-feed.conf"}
    with connect(f"ws://127.0.0.1:{port}/"):
        assert sum(unix.connections(made["release"]["sockets"]).values()) == 1
    assert release.programs("echo") == [old["release"]["id"]]


def test_a_second_time_in_its_place_changes_nothing(renamed, cut_over, nginx_folder):
    made, _ = renamed[1]()
    before = configuration(nginx_folder)
    done = cut_over(made, replaces="echo")
    assert (done["changed"], done["diff"]) == (False, [])
    assert configuration(nginx_folder) == before


def test_a_check_says_what_goes_for_it(renamed, nginx_folder):
    before = configuration(nginx_folder)
    _, done = renamed[1](_ansible_check_mode=True)
    folder = f"{nginx_folder}/conf.d"
    assert done["would"][0] == (
        f"write {folder}/websockets-feed.conf, {folder}/websockets.next-feed.conf,"
        f" remove {folder}/websockets-echo.conf, {folder}/websockets.next-echo.conf, and reload nginx"
    )
    assert configuration(nginx_folder) == before


def test_maintenance_goes_on_under_the_other_name(renamed, port):
    Path(paths.maintenance("echo")).touch()
    assert renamed[1]()[1]["changed"] is True
    assert recorded.maintenance("feed")
    with pytest.raises(InvalidStatus, match="503"):
        connect(f"ws://127.0.0.1:{port}/")


def test_the_other_app_keeps_its_place_if_the_proof_fails(renamed, nginx_folder, port):
    old, rename = renamed
    before = configuration(nginx_folder)
    _, done = rename(edit=without_upgrade)
    assert "nginx's files and the live link are as before" in done["msg"]
    assert configuration(nginx_folder) == before
    assert (release.live_id("feed"), release.programs("feed")) == ("", [])
    assert release.live_id("echo") == old["release"]["id"]
    through(port)


@pytest.mark.usefixtures("as_on_a_host")
def test_no_client_of_the_other_app_meets_a_release_that_nginx_cannot_reach(
    renamed, started, cut_over, nginx_folder, clients, tmp_path
):
    before = configuration(nginx_folder)
    code = Path(renamed[0]["code"]["folder"], "app.py").read_text()
    later = (
        f"health.asked = getattr(health, 'asked', 0) + 1\n    if health.asked > 1:\n        {CHANGES['it refuses'][0]}"
    )
    (tmp_path / "app.py").write_text(code.replace('if request.path == "/healthz":', f"{later}\n    if False:"))
    made = started(2, app="feed", src=str(tmp_path), gate_message="", **MANY)
    end = clients()
    done = cut_over(made, replaces="echo")
    assert end() == []
    assert "feed_00 refused the handshake: HTTP/1.1 403 Forbidden NO" in done["msg"]
    assert configuration(nginx_folder) == before
    assert release.live_id("feed") == ""


def as_in_1_1_0(site):
    site, pools = re.subn(r"    # [^\n]+\n    request_pool_size 1k;\n\n", "", site)
    site, maintenance = re.subn(r"    # Maintenance: .*?\n    }\n\n", "", site, flags=re.S)
    assert pools and maintenance == 1
    return site.replace(" 66560;", " 69632;")


def as_in_1_0_0(site):
    return as_in_1_1_0(site).replace('        proxy_set_header X-Forwarded-Port "";\n', "")


@pytest.mark.parametrize("older", [as_in_1_1_0, as_in_1_0_0])
def test_a_site_of_an_older_version_becomes_new_with_the_next_release(
    started, cut_over, nginx_folder, running_nginx, older
):
    # A user's own lines, which look like the role's.
    own = {"/more": "proxy_buffer_size 5000;\nproxy_buffers 2 5000;\nproxy_busy_buffers_size 5000;"}
    made = started(1, nginx_locations=own)
    cut_over(made)
    following = Path(made["release"]["next_file"])
    following.unlink()  # 1.0.0 had none
    site = Path(paths.site_file("echo"))
    whole = site.read_text()
    site.write_text(older(whole))
    assert len({whole, as_in_1_1_0(whole), as_in_1_0_0(whole)}) == 3
    nginx.reload()
    before = configuration(nginx_folder)
    assert cut_over(made)["changed"] is False
    assert configuration(nginx_folder) == before
    assert recorded.site_of("echo").app == "echo"
    # What the inputs say is not put off.
    assert cut_over(made, edit=lambda text: text.replace("buffers 2 5000", "buffers 4 5000"))["changed"] is True
    site.write_text(older(whole))
    assert cut_over(started(2, nginx_locations=own))["changed"] is True
    assert following.exists()
    assert site.read_text() == whole


def test_a_first_release_that_fails_its_proof_leaves_nothing(started, cut_over, nginx_folder):
    made = started(1)
    before = configuration(nginx_folder)
    done = cut_over(made, edit=without_upgrade, probe={**made["probe"], "timeout": 0})
    assert done["failed"]
    backups = {path for path in configuration(nginx_folder) if path.name.startswith("nginx.conf.")}
    assert {path: text for path, text in configuration(nginx_folder).items() if path not in backups} == before
    assert "the live link are as before, and nothing of echo was serving before. " in done["msg"]
    assert not os.path.lexists(made["release"]["live_link"])
    assert release.programs("echo") == release.apps() == []


def test_a_reload_that_was_interrupted_is_made_up_for(started, cut_over, running_nginx, eventually):
    made = started(1)
    cut_over(made)
    Path(paths.PENDING).touch()
    eventually(lambda: len(workers(running_nginx)) == os.cpu_count())
    before = workers(running_nginx)
    assert cut_over(made)["changed"] is True
    assert not os.path.exists(paths.PENDING)
    eventually(lambda: not workers(running_nginx) & before)


def test_after_a_reload_the_new_configuration_answers(running_nginx, nginx_folder, port):
    """nginx takes a moment to reload: a proof by a worker with the old configuration would prove nothing."""
    for number in range(8):
        nginx.apply({f"{nginx_folder}/conf.d/a.conf": f"server {{ listen 127.0.0.1:{port}; return 200 {number}; }}\n"})
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as response:
            assert response.read() == str(number).encode()


def test_a_reload_that_nginx_cannot_do_is_an_error(running_nginx, nginx_folder):
    """nginx -t does not notice a port that another program has."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        text = f"server {{ listen 127.0.0.1:{taken.getsockname()[1]}; }}\n"
        nginx.write({f"{nginx_folder}/conf.d/a.conf": text})
        nginx.test({})
        with pytest.raises(nginx.NginxError, match="nginx still works with its old configuration"):
            nginx.reload(timeout=0.5)


def test_remove_takes_the_site_out_of_nginx_and_leaves_clients(
    started, cut_over, nginx_folder, capsys, port, eventually
):
    made = started(1)
    cut_over(made)
    shared, site, following = map(Path, nginx_files(made, nginx_folder))
    other = nginx_folder / "conf.d" / "websockets-other.conf"
    text = site.read_text().replace(" default_server", "").replace("localhost 127.0.0.1", "other.example")
    other.write_text(text.replace("websockets_echo", "other"))
    arguments = {"run": made["run"], "site": made["site"]}
    with connect(f"ws://127.0.0.1:{port}/") as client:
        for last in (False, True):
            with patch_module_args(arguments), pytest.raises(SystemExit):
                remove.main()
            assert json.loads(capsys.readouterr().out)["changed"] is True
            assert not site.exists()
            assert not following.exists()
            # The other app needs the file that all apps share.
            assert shared.exists() is not last
            arguments["site"] = {**made["site"], "app": "other", "file": str(other)}
            site = other

        def refused():
            with contextlib.suppress(handshake.HandshakeError):
                through(port)
                return False
            return True

        eventually(refused)
        client.send("still here")
        assert client.recv() == "still here"


# Pages of the app's own


@pytest.fixture
def get(port):
    """Ask nginx for a path; return the answer with its text."""

    def ask(path, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", path, headers={"Host": "localhost", **headers})
        answer = connection.getresponse()
        answer.text = answer.read()
        connection.close()
        return answer

    return ask


@pytest.fixture
def site(started, cut_over, tmp_path):
    """Deploy an app at /ws/ whose page, at /, has this text; return its plan and what the cut-over said."""
    (tmp_path / "public").mkdir()
    shutil.copy(ECHO / "app.py", tmp_path)

    def deploy(text, number=0, arguments=None, **inputs):
        files = {"index.html": text, "docs/index.html": "docs", "app.js": "x" * 2000, ".env": "secret", "a.bin": "x"}
        for name, content in files.items():
            (tmp_path / "public" / name).parent.mkdir(exist_ok=True)
            (tmp_path / "public" / name).write_text(content)
        folder = tmp_path / f"release-{text}-{number}"
        folder.mkdir()
        for source in ("app.py", "public"):
            subprocess.run(["cp", "-r", tmp_path / source, folder], check=True)
        given = {"path": "/ws/", "nginx_locations": {"/": "{release}/public"}, "src": str(folder), **inputs}
        made = started(text, **given)
        return made, cut_over(made, **(arguments or {}))

    return deploy


PROBE = to_dict(Probe(message="hello"))
DIST = {"source": "dist", "place": "/none", "file": False}


def at_ws(port):
    handshake.ask(("127.0.0.1", port), Probe(path="/ws/", message="hello"))


@pytest.mark.usefixtures("as_on_a_host")
def test_pages_beside_the_app(site, get, port, host):
    _, done = site("one", nginx_server="add_header X-Mine yes;")
    assert done["changed"] is True
    (host / "srv" / "echo" / "releases").chmod(0o750)  # as tmpfiles.conf.j2 says
    at_ws(port)
    answer = get("/")
    assert (answer.status, answer.text) == (200, b"one")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Mine"] == "yes"
    again = {"If-None-Match": answer.headers["ETag"], "If-Modified-Since": answer.headers["Last-Modified"]}
    assert get("/", **again).status == 304
    assert get("/docs/").text == b"docs"
    assert (get("/docs").status, get("/docs").headers["Location"]) == (301, "/docs/")
    script = get("/app.js", **{"Accept-Encoding": "gzip"})
    assert script.headers["Content-Encoding"] == "gzip"
    assert script.headers["Content-Type"] == "application/javascript; charset=utf-8"
    assert get("/app.js", **{"Accept-Encoding": "gzip", "If-None-Match": script.headers["ETag"]}).status == 304
    assert get("/a.bin").headers["Content-Type"] == "application/octet-stream"
    for path in ("/.env", "/none", "/app.py", "/../app.py", "/public/index.html", "/index.html/"):
        assert get(path).status in (400, 404), path
    assert get("/none").headers["X-Content-Type-Options"] == "nosniff"
    assert get("/ws/").headers.get("X-Content-Type-Options") is None, "the app's own answers are its own"


def test_pages_go_with_the_release(site, cut_over, get, port):
    first, _ = site("one")
    before = get("/")
    second, done = site("two")
    assert (done["changed"], get("/").text) == (True, b"two")
    assert get("/", **{"If-None-Match": before.headers["ETag"]}).status == 200
    assert get("/", **{"If-Modified-Since": before.headers["Last-Modified"]}).status == 200
    assert cut_over(second)["changed"] is False
    later = get("/").headers["ETag"]
    assert "failed" not in cut_over(first, rollback=True)
    assert get("/", **{"If-None-Match": later}).text == b"one"
    assert get("/", **{"If-None-Match": before.headers["ETag"]}).status == 304
    at_ws(port)


def test_a_release_that_fails_its_proof_takes_its_pages_back(site, cut_over, started, get):
    site("one")
    made, done = site("two", arguments={"edit": without_upgrade})
    assert "does not answer through nginx" in done["msg"]
    assert get("/").text == b"one"
    assert os.listdir(f"{paths.SRV}/echo/pages") != []
    assert not os.path.exists(paths.pages("echo", made["release"]["id"]))


def test_a_first_release_that_fails_its_proof_leaves_no_pages(site):
    _, done = site("one", arguments={"edit": without_upgrade, "probe": {**PROBE, "path": "/ws/", "timeout": 0}})
    assert done["failed"]
    assert os.listdir(f"{paths.SRV}/echo/pages") == []


def test_a_release_without_its_pages_gets_no_traffic(site, get, port, nginx_folder):
    site("one")
    before = configuration(nginx_folder)
    other = {"nginx_locations": {"/": "{release}/public", "/dist/": "{release}/dist"}, "before_start": "true"}
    made, done = site("two", **other)
    assert done["msg"] == (
        f"Release {made['release']['id']} has no dist (websockets_nginx_locations). nginx's files and the live link are as"
        " before, and nginx serves what it served before."
    )
    assert (configuration(nginx_folder), get("/").text) == (before, b"one")
    assert not os.path.exists(paths.pages("echo", made["release"]["id"]))
    at_ws(port)


def test_a_rollback_does_not_fail_for_a_page(site, cut_over, get, port, monkeypatch):
    said = []
    monkeypatch.setattr(cutover.AnsibleModule, "warn", lambda _module, text: said.append(text))
    first, _ = site("one")
    site("two")
    wanted = {**first, "site": {**first["site"], "pages": {**first["site"]["pages"], "x": DIST}}}
    assert cut_over(wanted, rollback=True)["changed"] is True
    assert [text.partition(" (")[0] for text in said] == [f"Release {first['release']['id']} has no dist"]
    assert get("/").text == b"one"
    at_ws(port)


def test_more_pages_of_the_live_release(site, started, cut_over, get):
    first, _ = site("one")
    more = {"/": "{release}/public", "/docs/": "{release}/public/docs", "= /robots.txt": "{release}/public/a.bin"}
    inputs = {"path": "/ws/", "nginx_locations": more, "src": first["code"]["folder"]}
    made = plan(**{**started.given("one"), **inputs})
    assert made["release"]["id"] == first["release"]["id"]
    assert cut_over(made, _ansible_check_mode=True)["would"][-1] == (
        f"have nginx serve public, public/docs, public/a.bin of {made['release']['id']}"
    )
    assert get("/robots.txt").status == 404
    assert cut_over(made)["changed"] is True
    assert (get("/robots.txt").text, get("/docs/").text) == (b"x", b"docs")
    assert cut_over(made)["changed"] is False


def test_pages_that_somebody_has_removed_come_back(site, cut_over, get):
    made, _ = site("one")
    site = from_dict(Site, made["site"])
    assert pages.in_place(site, made["release"]["id"])
    shutil.rmtree(f"{paths.SRV}/echo/pages")
    assert not pages.in_place(site, made["release"]["id"])
    assert get("/").status == 404
    assert cut_over(made)["changed"] is True
    assert get("/").text == b"one"


def test_a_page_for_the_exact_path_of_a_folder(site, get):
    site("one", path="/", nginx_locations={"= /": "{release}/public/index.html"}, gate_path="/x")
    assert (get("/").text, get("/").headers["Content-Type"]) == (b"one", "text/html; charset=utf-8")
    assert get("/index.html").status != 200, "the app's"


# A restart of the live release, without new code


@pytest.fixture
def restart(capsys):
    def run(made, **changed):
        arguments = {name: made[name] for name in ("release", "run", "probe")}
        arguments |= {"minfds": 256, "headers": {}, "restart": True, **changed}
        with patch_module_args(arguments), pytest.raises(SystemExit):
            start.main()
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def coming(port):
    """Have clients come one after the other, and return their number and what has failed for any of them."""
    stop, seen = threading.Event(), SimpleNamespace(served=0, failed=[])

    def come():
        while not stop.is_set():
            try:
                with connect(f"ws://127.0.0.1:{port}/") as client:
                    client.send("hello")
                    assert client.recv(timeout=10) == "hello"
            except ConnectionClosed as error:
                # A process may tell a client to come back before it has answered.
                if error.rcvd is None or error.rcvd.code != 1012:
                    seen.failed.append(error)
            except Exception as error:
                seen.failed.append(error)
            seen.served += 1

    threads = [threading.Thread(target=come) for _ in range(6)]

    @contextlib.contextmanager
    def clients():
        for thread in threads:
            thread.start()
        try:
            yield seen
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    return clients


def break_code(made):
    """Have the release lose what its processes need at their start only."""
    code = Path(made["release"]["code"])
    code.unlink()
    code.mkdir()
    (code / "app.py").write_text("raise SystemExit('the database is gone')")


def pids(made):
    return {
        name: process["pid"] for name, process in supervisor.Supervisor().processes(made["release"]["program"]).items()
    }


def test_a_restart_under_load_fails_no_handshake_and_tells_every_client(started, cut_over, restart, coming, port):
    # All clients come from one address.
    made = started(1, numprocs=3, handshakes_per_address=100000)
    cut_over(made)
    before = pids(made)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(connect(f"ws://127.0.0.1:{port}/")) for _ in range(9)]
        with coming() as seen:
            assert restart(made)["changed"] is True
            after = seen.served
            while seen.served < after + 3:
                time.sleep(0.01)
        for client in held:
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(timeout=10)
            assert closed.value.rcvd.code == 1012
    assert seen.failed == []
    now = pids(made)
    assert all(now[name] != before[name] for name in before)
    through(port)


def test_a_process_that_does_not_come_back_ends_the_restart(started, cut_over, restart, port):
    made = started(1, numprocs=3, gate_timeout=4)
    cut_over(made)
    before = pids(made)
    break_code(made)
    done = restart(made)
    id = made["release"]["id"]
    stays = f"echo_00 of {id} does not come back after its restart; not restarted, and serving as before: echo_01, echo_02. "
    assert done["failed"]
    assert done["msg"].startswith(stays)
    assert "the database is gone" in done["msg"]
    now = pids(made)
    assert [now[name] == before[name] for name in sorted(before)] == [False, True, True]
    through(port)


def test_a_process_that_is_silent_comes_first(started, cut_over, restart):
    """Otherwise the restart of the others could leave nginx without a process that answers."""
    made = started(1, gate_timeout=4)
    cut_over(made)
    before = pids(made)
    break_code(made)
    os.unlink(made["release"]["processes"][1]["socket"])
    assert "; not restarted, and serving as before: echo_00. " in restart(made)["msg"]
    assert pids(made)["echo_00"] == before["echo_00"]


def test_a_process_that_is_down_has_to_come_back_first(started, cut_over, restart):
    made = started(1, gate_timeout=4)
    cut_over(made)
    before = pids(made)
    break_code(made)
    supervisor.Supervisor().call("stopProcess", f"{made['release']['program']}:echo_01", True)
    assert "does not answer" in restart(made)["msg"]
    assert pids(made)["echo_00"] == before["echo_00"]


def test_a_restart_is_the_last_step_of_its_run(started, cut_over, restart):
    made = started(1)
    cut_over(made)
    restart(made)
    assert Path(paths.LOCK).read_text() == ""


def test_another_run_on_the_host_keeps_a_restart_away(started, cut_over, restart):
    made = started(1)
    cut_over(made)
    before = pids(made)
    done = restart({**made, "run": {"id": "other 1 /", "who": "somebody@other (process 1)"}})
    assert "is at work on this host" in done["msg"]
    assert pids(made) == before


def test_a_check_restarts_nothing(started, cut_over, restart):
    made = started(1)
    cut_over(made)
    before = pids(made)
    assert restart(made, _ansible_check_mode=True)["changed"] is True
    assert pids(made) == before
