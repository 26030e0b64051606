"""A release starts under a real supervisord, from the role's own templates, and passes the gate or is removed."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.websockets.deploy.plugins.module_utils import handshake, paths, release
from ansible_collections.websockets.deploy.plugins.module_utils.probe import Probe
from ansible_collections.websockets.deploy.plugins.module_utils.record import from_dict
from ansible_collections.websockets.deploy.plugins.module_utils.release import Release
from ansible_collections.websockets.deploy.plugins.module_utils.supervisor import Supervisor
from role import ECHO, load, plan, put_in_place
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import unix_connect

start = load("modules/start")
drain = load("modules/drain")
observe = load("modules/observe")

# This interpreter has the websockets library, so the tests need no virtual environment.
ECHO_COMMAND = f"{sys.executable} app.py {{socket}}"

pytestmark = pytest.mark.usefixtures("supervisord")


@pytest.fixture
def planned(host):
    """Put a release in place and return its plan; its processes run as the tests' user."""

    def put(code=None, **inputs):
        folder = ECHO
        if code is not None:
            folder = host / f"app-{len(os.listdir(host))}"
            folder.mkdir()
            (folder / "app.py").write_text(code)
        given = {"command": ECHO_COMMAND, "numprocs": 2, "gate_message": "hello", "gate_timeout": 20}
        made = plan(**{"src": str(folder), "user": "nobody-yet", **given, **inputs})
        made["release"]["user"] = str(os.getuid())
        put_in_place(made)
        return made

    return put


def run(module, capsys, made, **arguments):
    """Run a module as Ansible does, and return its result."""
    with patch_module_args({"run": made["run"], **arguments}), pytest.raises(SystemExit):
        module.main()
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def start_module(capsys):
    return lambda made, **changed: run(
        start,
        capsys,
        made,
        **{"release": made["release"], "minfds": 256, "probe": made["probe"], "headers": {}, **changed},
    )


@pytest.fixture
def drain_module(capsys):
    return lambda made, **changed: run(
        drain,
        capsys,
        made,
        **{"app": "echo", "keep": made["release"]["id"], "timeout": 0, "interval": 0, "keep_releases": 5, **changed},
    )


def answers(made):
    for process in made["release"]["processes"]:
        handshake.ask(process["socket"], Probe(message="hello"))


def pids(made):
    return [process["pid"] for process in Supervisor().processes(made["release"]["program"]).values()]


# A release that works


def test_every_process_answers_on_its_own_socket(planned, start_module):
    made = planned(numprocs=3)
    assert start_module(made)["changed"] is True
    answers(made)
    made_there = sorted(path.name for path in Path(made["release"]["sockets"]).glob("*.sock"))
    assert made_there == ["echo_00.sock", "echo_01.sock", "echo_02.sock"]
    assert len(set(pids(made))) == 3


def test_only_nginxs_group_may_connect(planned, start_module):
    made = planned()
    start_module(made)
    folder = os.stat(made["release"]["sockets"])
    assert folder.st_mode & 0o7777 == 0o2750
    for process in made["release"]["processes"]:
        assert os.stat(process["socket"]).st_mode & 0o777 == 0o770


def test_a_second_start_changes_nothing(planned, start_module):
    made = planned()
    start_module(made)
    before = pids(made)
    assert start_module(made)["changed"] is False
    assert pids(made) == before


def test_a_stopped_process_is_started(planned, start_module):
    made = planned()
    start_module(made)
    Supervisor().call("stopProcess", f"{made['release']['program']}:echo_01", True)
    before = pids(made)[0]
    assert start_module(made)["changed"] is True
    answers(made)
    assert pids(made)[0] == before


def test_a_new_release_starts_beside_the_old_one_which_is_then_stopped(planned, start_module, drain_module):
    old, new = planned(), planned(environment={"LOG_LEVEL": "debug"})
    start_module(old)
    before = pids(old)
    start_module(new)
    assert pids(old) == before
    answers(old)
    answers(new)
    release.point(new["release"]["live_link"], new["release"]["sockets"])
    release.went_live(from_dict(Release, new["release"]), old["release"]["id"])
    drained = drain_module(new)
    assert (drained["changed"], drained["drained"]) == (True, [old["release"]["id"]])
    assert pids(old) == []
    assert not os.path.exists(old["release"]["sockets"])
    answers(new)
    assert drain_module(new)["changed"] is False


def test_what_an_older_version_has_left_of_a_release_is_drained(planned, start_module, drain_module):
    """Its program has gone, and what a shell had started has not."""
    made, gone = planned(), "0123456789ab"
    start_module(made)
    marks = {"SUPERVISOR_GROUP_NAME": f"echo-{gone}", "SUPERVISOR_PROCESS_NAME": "echo_00"}
    marks |= {"SUPERVISOR_SERVER_URL": f"unix://{paths.SUPERVISOR_SOCKET}"}
    release.point(made["release"]["live_link"], made["release"]["sockets"])
    release.went_live(from_dict(Release, made["release"]), "")
    with subprocess.Popen(["sleep", "1000"], env=os.environ | marks) as left:
        try:
            checked = drain_module(made, _ansible_check_mode=True)
            assert (checked["drained"], left.poll()) == ([gone], None)
            assert drain_module(made)["drained"] == [gone]
            assert left.poll() == -signal.SIGTERM
        finally:
            left.kill()
    answers(made)


def test_a_process_that_dies_comes_back(planned, start_module, eventually):
    made = planned(numprocs=1)
    start_module(made)
    (before,) = pids(made)
    os.kill(before, signal.SIGKILL)
    eventually(lambda: pids(made) not in ([before], [0]))
    start_module(made)
    answers(made)


def test_processes_go_with_a_supervisord_that_is_killed(planned, start_module, supervisord, eventually):
    """Otherwise the next supervisord would start more processes on the same sockets."""
    made = planned()
    start_module(made)
    alive = pids(made)
    with unix_connect(made["release"]["processes"][0]["socket"]) as client:
        supervisord.kill()
        # They end as in a deploy: every client gets a close frame.
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=10)
        assert client.close_code in (1001, 1012)

    def all_ended():
        # /proc/PID/exe of a process that has ended, reaped or not, has no target.
        return not [pid for pid in alive if os.path.exists(f"/proc/{pid}/exe")]

    eventually(all_ended)


# What the next run sees


def serves(made, minfds=256):
    return observe.serves(from_dict(Release, made["release"]), minfds, from_dict(Probe, made["probe"]), {})


def test_a_release_that_runs_is_seen(planned, start_module):
    made = planned()
    assert not serves(made)
    start_module(made)
    assert serves(made)


def test_a_stopped_process_is_seen(planned, start_module):
    made = planned()
    start_module(made)
    Supervisor().call("stopProcess", f"{made['release']['program']}:echo_01", True)
    assert not serves(made)


def test_a_process_that_hangs_is_seen(planned, start_module):
    made = planned()
    start_module(made)
    made["probe"]["timeout"] = 0.2
    hanging = pids(made)[1]
    os.kill(hanging, signal.SIGSTOP)
    try:
        assert not serves(made)
    finally:
        os.kill(hanging, signal.SIGCONT)  # only a running process ends with its supervisord


def test_too_few_descriptors_are_seen(planned, start_module):
    made = planned()
    start_module(made)
    assert not serves(made, minfds=257)


def test_a_supervisord_that_is_gone_is_seen(planned, start_module, supervisord):
    made = planned()
    start_module(made)
    supervisord.kill()
    supervisord.wait()
    assert not serves(made)


# A release that does not work

HANGS = "import signal; signal.pause()"
CRASHES = "import sys; print('first line', flush=True); sys.exit('no database')"
# This app answers with another message.
SHOUTS = f"exec(open('{ECHO}/app.py').read().replace('send(message)', 'send(message.upper())'))"
# Only the first process of this app works.
HALF = "import os\nif os.environ['SUPERVISOR_PROCESS_NAME'] != 'echo_00': raise SystemExit('second')\n" + (
    f"exec(open('{ECHO}/app.py').read())"
)

# Seconds: enough for an app to start on a busy machine, and too few for supervisord to give up an app that crashes.
GATE = 4

FAILING = {
    "crashes at once": (
        CRASHES,
        "echo_00.sock does not exist (the app has not created its socket)",
        "BACKOFF|EXITED",
        "no database",
    ),
    "never listens": (
        HANGS,
        "echo_00.sock does not exist (the app has not created its socket)",
        "STARTING|RUNNING",
        " is empty.",
    ),
    "answers something else": (
        SHOUTS,
        "echo_00.sock answered b'HELLO' to the message 'hello'",
        "STARTING|RUNNING",
        "closed with ",
    ),
    "one of two": (
        HALF,
        "echo_01.sock does not exist (the app has not created its socket)",
        "STARTING|BACKOFF",
        "second",
    ),
}


@pytest.mark.parametrize(("code", "why", "state", "log"), FAILING.values(), ids=FAILING)
def test_a_release_that_fails_its_gate_leaves_nothing_behind(planned, start_module, code, why, state, log):
    serving = planned()
    start_module(serving)
    release.point(serving["release"]["live_link"], serving["release"]["sockets"])
    before = pids(serving)
    made = planned(code, gate_timeout=GATE)
    failed = start_module(made)
    bad = made["release"]
    assert failed["failed"]
    assert failed["msg"].startswith(
        f"Release {bad['id']} has not passed the gate and gets no traffic; nginx serves what it served before."
        f" {bad['sockets']}/{why}. "
    )
    assert re.search(f" supervisord says echo_0. is ({state})", failed["msg"])
    # The gate's last try may have begun just then.
    assert any(log in line for line in failed["msg"].splitlines()[-3:])
    # Nothing of it is left, and the live release still runs.
    assert Supervisor().processes(bad["program"]) == {}
    assert release.programs("echo") == [serving["release"]["id"]]
    assert not os.path.exists(bad["sockets"])
    assert list(release.stored("echo")) == [serving["release"]["id"]]
    assert pids(serving) == before
    answers(serving)


# How programs put themselves into the background: what Supervisor has started ends, and what serves has another parent.
FORKS = "import os\nfor _ in range(2):\n    if os.fork(): os._exit(0)\n    os.setsid()\n"
SERVES = f"exec(open('{ECHO}/app.py').read())\n"
READY = "while not os.path.exists(sys.argv[1]): time.sleep(0.01)\n    time.sleep(0.2); os._exit(0)\n"
NAMED = r"echo_0.'s own process has ended, but not process \d+ \(.*app.py.*\), which it has started"
DAEMONS = {
    "two forks": (FORKS + SERVES, ECHO_COMMAND),
    "a fork, when it is ready": (
        f"import os, sys, time\nif os.fork():\n    {READY}{SERVES}",
        ECHO_COMMAND,
    ),
    "a shell's &": (SERVES, f"sh -c '{sys.executable} app.py \"$0\" &' {{socket}}"),
    "nothing that answers": (f"{FORKS}import time\ntime.sleep(1000)\n", ECHO_COMMAND),
}


@pytest.mark.parametrize(("code", "command"), DAEMONS.values(), ids=DAEMONS)
def test_a_command_in_the_background_is_refused_by_name(planned, start_module, code, command):
    made = planned(code, command=command)
    failed = start_module(made)
    assert failed["failed"]
    # After a start of more than a second, as on a busy machine, Supervisor starts the next one at once, which ends this one.
    named = NAMED if " is BACKOFF" in failed["msg"] else "own process has ended"
    assert re.search(named, failed["msg"]), failed["msg"]
    assert "leave out an option such as --daemon" in failed["msg"].lower()
    assert "it has to stay in the foreground" in failed["msg"]
    assert working(made) == []
    assert Supervisor().processes(made["release"]["program"]) == {}


def working(made):
    """Return the pids of everything that works in the folder of an app, which nothing leaves."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if os.path.samefile(process / "cwd", made["code"]["folder"]):
                found.append(int(process.name))
    return found


def test_a_command_that_fails_after_its_own_children_is_not_in_the_background(planned, start_module):
    # It lives longer than a second, so that Supervisor starts it again at once.
    code = "import subprocess\nsubprocess.run(['sleep', '1.3'])\nraise SystemExit('no database')\n"
    failed = start_module(planned(code, gate_timeout=2))
    assert "no database" in failed["msg"]
    assert "does not exist" in failed["msg"]
    assert "background" not in failed["msg"]


def test_a_helper_in_the_background_is_none_and_ends_with_its_release(planned, start_module):
    code = "import os\nif not os.fork():\n    os.setsid()\n    if os.fork(): os._exit(0)\n    os.execlp('sleep', 'sleep', '1000')\n"
    made = planned(code + SERVES, numprocs=1)
    assert start_module(made)["changed"] is True
    answers(made)
    assert len(working(made)) == 2
    Supervisor().retire(from_dict(Release, made["release"]))
    assert working(made) == []


def test_what_is_printed_is_in_the_log(planned, start_module, eventually):
    code = f"print('started')\n{SERVES}"
    made = planned(code)
    assert start_module(made)["changed"] is True
    eventually(lambda: all("started" in Path(process["log"]).read_text() for process in made["release"]["processes"]))


def test_what_is_printed_is_in_the_gates_end_of_the_log(planned, start_module):
    failed = start_module(planned(f"print('waits for the database')\n{HANGS}", gate_timeout=2))
    assert "waits for the database" in failed["msg"].splitlines()[-1]


def test_a_first_release_that_fails_its_gate_leaves_no_app(planned, start_module):
    made = planned(CRASHES, gate_timeout=GATE)
    failed = start_module(made)
    assert "gets no traffic; nothing of echo was serving before. " in failed["msg"]
    assert "no database" in failed["msg"]
    assert release.apps() == []
    assert release.programs("echo") == []
    # The whole log is there for its reader, until a release works.
    logs = [process["log"] for process in made["release"]["processes"]]
    assert f"The end of {logs[0]}:" in failed["msg"]
    assert set(logs) <= set(release.unneeded("echo", 5)[1])


def test_a_release_that_has_been_live_stays_when_it_fails(planned, start_module):
    """Only its gate fails today: tomorrow a rollback may need it."""
    made = planned(CRASHES, gate_timeout=GATE)
    release.went_live(from_dict(Release, made["release"]), "")
    assert start_module(made)["failed"]
    assert list(release.stored("echo")) == [made["release"]["id"]]


def refusing(condition, status="FORBIDDEN"):
    """Return the code of an echo app that refuses a handshake where a condition holds."""
    return f"""
source = open('{ECHO}/app.py').read()
exec(source.replace('if request.path == "/healthz":', {f"if {condition}:"!r}).replace('OK, "OK', '{status}, "NO'))
"""


def test_a_definite_answer_is_not_asked_for_again_and_again(planned, start_module):
    made = planned(refusing("print('asked') or request.path != '/ws'", "NOT_FOUND"), gate_path="/", numprocs=1)
    failed = start_module(made)
    assert "echo_00.sock refused the handshake: HTTP/1.1 404 Not Found" in failed["msg"]
    assert (
        "It was asked for / with Host localhost and the headers X-Real-IP, X-Forwarded-For, X-Forwarded"
        in failed["msg"]
    )
    assert "set websockets_gate_path or websockets_gate_headers" in failed["msg"]
    # A gate of 20 s would ask more than 20 times.
    assert Path(made["release"]["processes"][0]["log"]).read_text().count("404 Not Found") < 12


def test_an_app_whose_paths_come_late_is_waited_for(planned, start_module):
    first = "(counted := getattr(health, 'count', 0) + 1, setattr(health, 'count', counted))[0] < 4"
    assert start_module(planned(refusing(first, "NOT_FOUND"), numprocs=1))["changed"] is True


def test_an_app_that_is_not_ready_is_waited_for(planned, start_module):
    first = "(counted := getattr(health, 'count', 0) + 1, setattr(health, 'count', counted))[0] < 4"
    made = planned(refusing(first, "SERVICE_UNAVAILABLE"), numprocs=1, gate_timeout=8)
    assert start_module(made)["changed"] is True


def test_a_mistyped_path_restarts_no_process_of_the_live_release(planned, start_module):
    made = planned(refusing("request.path == '/mistyped'", "NOT_FOUND"))
    start_module(made)
    release.point(made["release"]["live_link"], made["release"]["sockets"])
    before = pids(made)
    failed = start_module(made, probe={**made["probe"], "path": "/mistyped", "timeout": GATE})
    assert "set websockets_gate_path" in failed["msg"]
    assert pids(made) == before
    answers(made)


# What nginx may not connect to

# What a process does before it listens, and what is wrong then.
CLOSED = {
    "a umask": ("os.umask(0o177)", "{socket} has mode 0600, owner root, group www-data; "),
    "a umask that leaves bits that do not matter": (
        "os.umask(0o027)",
        "{socket} has mode 0750, owner root, group www-data; ",
    ),
    "a folder of its own": (
        "os.makedirs(path + '.d', 0o700, exist_ok=True); os.path.lexists(path) or os.symlink(path + '.d/s', path);"
        " sys.argv[1] = path + '.d/s'",
        "{socket}.d has mode 2700, owner root, group www-data; ",
    ),
    "another group": (
        "os.chmod(os.path.dirname(path), 0o711); os.chown(os.path.dirname(path), 0, 0)",
        "{socket} has mode 0770, owner root, group root; ",
    ),
    # What ls shows as the group's rights is the mask of the ACL, which nginx's group does not have.
    "an ACL": (
        "os.setxattr(os.path.dirname(path), 'system.posix_acl_default', struct.pack('<I' + 5 * 'HHI', 2, 1, 7, 0,"
        " 2, 7, 1, 4, 0, 0, 16, 7, 0, 32, 0, 0))",
        "{socket} has mode 0770, owner root, group www-data, and an ACL; ",
    ),
}


only_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can act as nginx's user, as the role does on a host")


@only_root
@pytest.mark.parametrize(("before", "why"), CLOSED.values(), ids=CLOSED)
def test_a_socket_that_nginx_may_not_connect_to_fails_the_gate(nginxs_user, planned, start_module, before, why):
    code = f"import os, struct, sys; path = sys.argv[1]; {before}\nexec(open('{ECHO}/app.py').read())"
    made = planned(code, gate_timeout=GATE)
    socket = made["release"]["processes"][0]["socket"]
    failed = start_module(made)
    assert (
        f"{socket} does not let nginx connect: {why.format(socket=socket)}nginx connects as {nginxs_user}, "
        in failed["msg"]
    )
    mode = "0750" if ".d has" in why else "0666" if "group root" in why else "0660"
    assert f"the mode {mode}" in failed["msg"]
    assert (os.geteuid(), os.getegid()) == (0, 0)


@only_root
@pytest.mark.usefixtures("nginxs_user")
def test_a_socket_that_nginx_may_connect_to_passes(planned, start_module):
    made = planned()
    assert start_module(made)["changed"] is True
    assert serves(made)
    # An administrator's chmod is seen by the next run, which mends it.
    os.chmod(made["release"]["processes"][1]["socket"], 0o600)
    assert not serves(made)
    release.point(made["release"]["live_link"], made["release"]["sockets"])
    assert start_module(made)["changed"] is True
    assert serves(made)


@only_root
@pytest.mark.usefixtures("nginxs_user")
def test_a_socket_that_is_opened_a_moment_later_passes(planned, start_module):
    """Some servers listen first and give the mode then."""
    code = (
        "import asyncio, os, sys; os.umask(0o177)\nsource = open('{ECHO}/app.py').read()\n"
        "exec(source.replace('stop = asyncio.Event()', 'stop = asyncio.Event(); asyncio.get_running_loop()"
        ".call_later(0.5, os.chmod, sys.argv[1], 0o660)'))"
    ).replace("{ECHO}", str(ECHO))
    assert start_module(planned(code))["changed"] is True


def test_a_crash_is_told_at_once(planned, start_module):
    """The gate does not wait for a process that has ended, however long its timeout is."""
    made = planned(CRASHES, gate_timeout=600)
    begun = time.monotonic()
    assert start_module(made)["failed"]
    assert time.monotonic() - begun < 30


def test_a_live_release_that_does_not_answer_is_not_removed(planned, start_module):
    made = planned(SHOUTS, gate_timeout=1)
    release.point(made["release"]["live_link"], made["release"]["sockets"])
    failed = start_module(made)
    assert failed["msg"].startswith(f"The live release {made['release']['id']} does not answer. ")
    assert all(pids(made))
    assert release.programs("echo") == [made["release"]["id"]]


def test_another_programs_broken_file_stops_the_start_and_nothing_else(planned, start_module, host):
    (host / "conf.d" / "broken.conf").write_text("[program:broken]\nnumprocs = many\ncommand = x\n")
    made = planned()
    failed = start_module(made)
    assert "CANT_REREAD" in failed["msg"]
    assert "broken.conf" in failed["msg"]
    assert release.programs("echo") == []


def test_the_headers_of_the_gate_are_sent(planned, start_module):
    code = f"source = open('{ECHO}/app.py').read()\n" + (
        'exec(source.replace(\'if request.path == "/healthz":\', \'if request.headers["X-Token"] != "t":\'))'
    )
    made = planned(code, gate_timeout=GATE)
    refused = start_module(made, headers={"X-Token": "wrong"})
    assert "refused the handshake: HTTP/1.1 200 OK" in refused["msg"]
    assert "wrong" not in refused["msg"]
    put_in_place(made)
    assert start_module(made, headers={"X-Token": "t"})["changed"] is True


def test_a_check_starts_nothing(planned, start_module):
    made = planned()
    assert start_module(made, _ansible_check_mode=True)["changed"] is True
    assert Supervisor().processes(made["release"]["program"]) == {}
    assert release.programs("echo") == []


# Workers

# It says when it starts and when it is told to end, and then takes a while, or never ends.
WORKER = """
import os, signal, sys, time
name = os.environ["SUPERVISOR_PROCESS_NAME"]
def say(word):
    with open("%(place)s", "a") as file: file.write(f"{word} {name}\\n")
def end(*_):
    say("told"); time.sleep(%(seconds)s); say("ended"); raise SystemExit
signal.signal(signal.SIGTERM, end)
say("starts")
print("socket", repr(os.environ.get("SOCKET")), os.environ["WEBSOCKETS_STOPWAITSECS"], sys.argv[1:], flush=True)
while True: signal.pause()
"""


@pytest.fixture
def with_workers(planned, host, worker_file):
    """Put a release with workers in place; each is a command, or a mapping with one."""

    def put(code=None, **workers):
        workers = {name: one if isinstance(one, dict) else {"command": one} for name, one in workers.items()}
        return planned(code, workers={name: {"runs_for": 1, **one} for name, one in workers.items()})

    return put


@pytest.fixture
def worker_file(host):
    """Write the worker's program, and return the command that starts it."""

    def write(seconds=0.1, code=WORKER):
        path = host / "worker.py"
        path.write_text(code % {"place": host / "said", "seconds": seconds})
        return f"{sys.executable} {path}"

    return write


def said(host):
    return (host / "said").read_text().splitlines()


def infos(made):
    return Supervisor().processes(made["release"]["program"])


def go_live(made):
    release.point(made["release"]["live_link"], made["release"]["sockets"])


def test_workers_start_and_end_with_their_release(with_workers, worker_file, start_module, host):
    made = with_workers(tick=worker_file() + " {data}", mail={"command": worker_file(), "numprocs": 2})
    assert start_module(made)["changed"] is True
    answers(made)
    names = ["echo.mail_00", "echo.mail_01", "echo.tick_00", "echo_00", "echo_01"]
    assert sorted(infos(made)) == names
    # They have no socket, and nothing of nginx's.
    assert sorted(path.name for path in Path(made["release"]["sockets"]).glob("*.sock")) == [
        "echo_00.sock",
        "echo_01.sock",
    ]
    assert start_module(made)["changed"] is False
    Supervisor().retire(from_dict(Release, made["release"]))
    assert infos(made) == {}
    assert sorted(said(host)[-6:]) == sorted(f"{word} {name}" for name in names[:3] for word in ("told", "ended"))


def test_a_worker_has_no_socket_and_its_own_stop_time(planned, worker_file, start_module):
    worker = {"command": worker_file() + " {data}", "runs_for": 1, "stopwaitsecs": 77}
    made = planned(
        environment={"SOCKET": "unix:{socket}"}, workers={"mail": worker, "mail_0": {**worker, "stopwaitsecs": 7}}
    )
    start_module(made)
    for one, seconds in zip(made["release"]["workers"], (77, 7), strict=True):
        text = Path(one["processes"][0]["log"]).read_text()
        assert text == f"socket 'unix:' {seconds} ['{paths.LIB}/echo/data']\n"


def test_workers_stop_one_after_the_other_after_the_processes_with_clients(
    with_workers, worker_file, start_module, host
):
    web = (
        f"import atexit, os\nname = os.environ['SUPERVISOR_PROCESS_NAME']\nexec(open('{ECHO}/app.py').read().replace(\n"
    )
    web += f'\'if __name__\', \'atexit.register(lambda: print("ended", name, file=open("{host}/said", "a")))\\nif __name__\', 1))'
    made = with_workers(web, zeta=worker_file(), alpha={"command": worker_file(), "numprocs": 2})
    start_module(made)
    Supervisor().retire(from_dict(Release, made["release"]))
    ends = [line for line in said(host) if not line.startswith("starts")]
    workers = ["echo.alpha_00", "echo.alpha_01", "echo.zeta_00"]
    assert ends[:2] == ["ended echo_00", "ended echo_01"]
    assert ends[2:] == [f"{word} {name}" for name in workers for word in ("told", "ended")]


def test_each_worker_has_its_own_stop_time(with_workers, worker_file, start_module):
    made = with_workers(slow={"command": worker_file(seconds=600), "stopwaitsecs": 1})
    assert made["inputs"]["stopwaitsecs"] == 30
    start_module(made)
    begun = time.monotonic()
    Supervisor().retire(from_dict(Release, made["release"]))
    assert 1 <= time.monotonic() - begun < 15


def test_what_a_worker_has_started_ends_with_it(with_workers, start_module, host):
    lasting = str(host / "lasting.py")
    Path(lasting).write_text("import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); signal.pause()")
    made = with_workers(parent=f"sh -c 'setsid {sys.executable} {lasting} & exec sleep 600'")
    start_module(made)
    assert len(processes_with(lasting)) == 1
    Supervisor().retire(from_dict(Release, made["release"]))
    assert processes_with(lasting) == []


def processes_with(text):
    """Return the pids of the processes that have this among their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if text.encode() in path.read_bytes().split(b"\0"):
                found.append(path.parent.name)
    return found


def test_a_worker_decides_when_what_it_has_started_ends(with_workers, start_module, host):
    """celery's master lets its children finish their tasks; a SIGTERM of their own would end these."""
    (host / "master.py").write_text(f"""
import os, signal, sys, time
def say(word): print(word, file=open({str(host / "said")!r}, "a"))
child = os.fork()
def end(*_):
    if child: time.sleep(0.5)
    say("master ended" if child else "child told")
    os._exit(0)
signal.signal(signal.SIGTERM, end)
while True: signal.pause()
""")
    made = with_workers(mail=f"{sys.executable} {host}/master.py")
    start_module(made)
    Supervisor().retire(from_dict(Release, made["release"]))
    assert said(host) == ["master ended", "child told"]


DIES = "import sys, time; print('no queue at redis:6379', flush=True); time.sleep({seconds}); sys.exit(3)"


@pytest.mark.parametrize("seconds", [0, 0.5, 1.5])
def test_a_worker_that_dies_fails_the_gate(with_workers, worker_file, start_module, seconds):
    dies = f'{sys.executable} -c "{DIES.format(seconds=seconds)}"'
    made = with_workers(fine=worker_file(), mail={"command": dies, "runs_for": 4})
    failed = start_module(made)
    id, log = made["release"]["id"], made["release"]["workers"][1]["processes"][0]["log"]
    assert failed["msg"].startswith(
        f"Release {id} has not passed the gate and gets no traffic; nothing of echo was serving before. echo.mail_00 is a"
        " worker that has to run for 4 s (runs_for) before the release gets traffic, and has ended. supervisord says"
        " echo.mail_00 is "
    )
    assert f"The end of {log}:\nno queue at redis:6379" in failed["msg"]
    assert infos(made) == {}
    assert release.programs("echo") == []


def test_a_worker_in_the_background_is_refused(with_workers, start_module):
    # It outlives the next start too, which ends what it can.
    made = with_workers(mail="""sh -c 'sh -c "trap : TERM; while :; do sleep 600.25; done" & exit'""")
    failed = start_module(made)
    assert "echo.mail_00 is of a command that puts itself into the background" in failed["msg"]
    assert "sleep 600.25" in failed["msg"]
    assert processes_with("600.25") == []


def test_the_gates_of_workers_and_sockets_overlap(with_workers, worker_file, start_module):
    code = f"import time; time.sleep(2)\nexec(open('{ECHO}/app.py').read())"
    workers = {name: {"command": worker_file(), "numprocs": 2, "runs_for": 3} for name in ("a", "b", "c")}
    made = with_workers(code, **workers)
    begun = time.monotonic()
    assert start_module(made)["changed"] is True
    assert 3 <= time.monotonic() - begun < 12, "not 18 s for six processes one after the other"


def test_a_worker_that_is_killed_comes_back(with_workers, worker_file, start_module, eventually):
    made = with_workers(mail=worker_file())
    start_module(made)
    before = infos(made)["echo.mail_00"]["pid"]
    os.kill(before, signal.SIGKILL)
    eventually(lambda: infos(made)["echo.mail_00"]["pid"] not in (0, before))


def test_a_dead_worker_of_the_live_release_is_seen_and_started_again(with_workers, worker_file, start_module):
    made = with_workers(mail=worker_file())
    start_module(made)
    go_live(made)
    assert serves(made)
    before = {name: one["pid"] for name, one in infos(made).items()}
    Supervisor().call("stopProcess", f"{made['release']['program']}:echo.mail_00", True)
    assert not serves(made)
    assert start_module(made)["changed"] is True
    assert serves(made)
    after = {name: one["pid"] for name, one in infos(made).items()}
    assert [name for name in before if before[name] != after[name]] == ["echo.mail_00"]


def test_a_live_worker_that_does_not_start_is_seen_and_told(with_workers, worker_file, start_module, host, eventually):
    made = with_workers(mail=worker_file())
    start_module(made)
    go_live(made)
    (host / "worker.py").write_text("raise SystemExit('no queue')")
    os.kill(infos(made)["echo.mail_00"]["pid"], signal.SIGKILL)
    eventually(lambda: infos(made)["echo.mail_00"]["statename"] == "BACKOFF")
    assert not serves(made)
    failed = start_module(made)
    assert failed["msg"].startswith(
        f"The live release {made['release']['id']} has a worker that does not run. echo.mail_00 is a worker that"
    )
    answers(made)
    worker = host / "worker.py"
    worker.write_text(WORKER % {"place": host / "said", "seconds": 0})
    assert start_module(made)["changed"] is True
    assert serves(made)


def test_a_restart_comes_to_the_workers_last(with_workers, worker_file, start_module, host):
    made = with_workers(mail={"command": worker_file(), "numprocs": 2})
    start_module(made)
    go_live(made)
    before = infos(made)
    assert start_module(made, restart=True)["changed"] is True
    after = infos(made)
    assert all(after[name]["pid"] != before[name]["pid"] for name in before)
    starts = sorted(after, key=lambda name: Path(f"{made['release']['sockets']}/{name}.starts").stat().st_mtime_ns)
    assert starts == ["echo_00", "echo_01", "echo.mail_00", "echo.mail_01"]


def test_a_restart_stops_at_a_worker_that_does_not_come_back(with_workers, worker_file, start_module, host):
    made = with_workers(mail={"command": worker_file(), "numprocs": 2})
    start_module(made)
    go_live(made)
    before = infos(made)
    (host / "worker.py").write_text("raise SystemExit('no queue')")
    failed = start_module(made, restart=True)
    assert failed["msg"].startswith(
        f"echo.mail_00 of {made['release']['id']} does not come back after its restart; not restarted, and serving as"
        " before: echo.mail_01. echo.mail_00 is a worker that has to run for 1 s"
    )
    assert infos(made)["echo.mail_01"]["pid"] == before["echo.mail_01"]["pid"]


def test_the_status_shows_workers_without_clients(with_workers, worker_file, start_module):
    made = with_workers(mail={"command": worker_file(), "numprocs": 2})
    start_module(made)
    go_live(made)
    status = load("modules/status")
    found = status.status("echo", Supervisor())
    assert [one["name"] for one in found["processes"]] == ["echo_00", "echo_01"]
    assert [(one["name"], one["state"], one["restarts"]) for one in found["workers"]] == [
        ("echo.mail_00", "RUNNING", 0),
        ("echo.mail_01", "RUNNING", 0),
    ]
    assert "connections" not in found["workers"][0]
    titles = [line.split() for line in status.lines(found) if " restarts" in line]
    columns = ["state", "pid", "uptime", "restarts"]
    assert titles == [["process", *columns, "clients"], ["worker", *columns]]


def test_a_release_with_workers_can_be_read_again(with_workers, worker_file):
    made = with_workers(mail={"command": worker_file(), "numprocs": 2, "stopwaitsecs": 9})
    assert release.stored("echo")[made["release"]["id"]].release.workers == from_dict(Release, made["release"]).workers


# Data


@pytest.mark.parametrize(
    ("error", "hinted"),
    [
        ("sqlite3.OperationalError: unable to open database file", True),
        ("sqlite3.OperationalError: attempt to write a readonly database", True),
        ("PermissionError: [Errno 13] Permission denied: 'app.db'", True),
        ("Error: EROFS: read-only file system, open '{path}/app/app.db'", True),
        ("OSError: [Errno 30] Read-only file system: '{path}/app/app.db'", True),
        ("PermissionError: [Errno 13] Permission denied: '/etc/shadow'", False),
        ("OSError: [Errno 30] Read-only file system: '/etc/app.conf'", False),
        ("ModuleNotFoundError: No module named 'redis'", False),
    ],
)
def test_an_app_that_writes_beside_its_code_is_told_of_the_data(planned, start_module, error, hinted):
    made = planned("raise SystemExit('')", numprocs=1, gate_timeout=GATE)
    code = Path(made["code"]["folder"], "app.py")
    code.write_text(f"raise SystemExit({error.format(path=made['release']['path'])!r})")
    failed = start_module(made)
    hint = f"\nAn app cannot write beside its code. {{data}} is a folder for that, which stays: {paths.LIB}/echo/data."
    assert failed["msg"].endswith(hint) is hinted
    assert ("{data}" in failed["msg"]) is hinted
