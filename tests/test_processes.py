"""What a release has started is found and ended, whatever has started it: under a real supervisord, from real wrappers."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.websockets.deploy.plugins.module_utils import handshake, paths, release
from ansible_collections.websockets.deploy.plugins.module_utils.probe import Probe
from ansible_collections.websockets.deploy.plugins.module_utils.record import from_dict
from ansible_collections.websockets.deploy.plugins.module_utils.release import Release
from ansible_collections.websockets.deploy.plugins.module_utils.supervisor import Supervisor
from conftest import run_supervisord
from role import ECHO, ROOT, plan, put_in_place
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import unix_connect

SERVER = f"{shlex.quote(sys.executable)} {ECHO}/app.py"
# How people start a server from something else, {name of a file: its text}, and the command.
WRAPPERS = {
    "a script without exec": ({"start.sh": f'{SERVER} "$1"\n'}, "sh start.sh {socket}"),
    "sh -c": ({"x": ""}, f"sh -c '{SERVER} \"$0\"; exit $?' {{socket}}"),
    "a loop": ({"start.sh": f'while :; do {SERVER} "$1"; done\n'}, "sh start.sh {socket}"),
    "a master of workers": (
        {
            "master.py": "import multiprocessing, runpy, sys\n"
            f"work = lambda: runpy.run_path('{ECHO}/app.py', run_name='__main__')\n"
            "worker = multiprocessing.get_context('fork').Process(target=work); worker.start(); worker.join()\n"
        },
        f"{sys.executable} master.py {{socket}}",
    ),
    "a session of its own, without an environment": (
        {
            "master.py": "import subprocess, sys\n"
            f"subprocess.run([sys.executable, '{ECHO}/app.py', sys.argv[1]], start_new_session=True, env={{}})\n"
        },
        f"{sys.executable} master.py {{socket}}",
    ),
}
# As the first version of the role has written it.
FIRST_RUN = """#!/bin/sh
folder={sockets}
[ -d $folder ] || (umask 027 && mkdir -p $folder)
set -- $folder/$SUPERVISOR_PROCESS_NAME.sock
exec /usr/bin/setpriv --pdeathsig TERM -- {command}
"""


@pytest.fixture
def start(host, eventually):
    """Start a release of these files, and return it once all of its processes answer."""

    def begin(files, command, first=False, **inputs):
        folder = host / f"app-{len(os.listdir(host))}"
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
        made = plan(**{"src": str(folder), "command": command, "user": "nobody-yet", "numprocs": 2, **inputs})
        made["release"]["user"] = str(os.getuid())
        put_in_place(made)
        path = Path(made["release"]["path"])
        if first:
            text = (path / "program.conf").read_text().replace("stopasgroup = true\n", "")
            (path / "program.conf").write_text(text)
            words = command.replace("{socket}", '"$1"')
            (path / "run").write_text(FIRST_RUN.format(command=words, **made["release"]))
        begun = from_dict(Release, made["release"])
        release.point(begun.program_file, f"{path}/program.conf")
        Supervisor().add(begun.program)
        eventually(lambda: answers(begun))
        return begun

    return begin


def answers(begun):
    return not any(handshake.fault(process.socket, Probe(message="hello"), {}) for process in begun.processes)


def pids(begun):
    """Return the pids of everything that works in the folder of a release, which nothing leaves."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if os.path.samefile(folder / "cwd", begun.code):
                found.add(int(folder.name))
    return found


def shell_of(begun):
    """Return the pid of a release's only process, as Supervisor knows it: a shell's or a master's."""
    (process,) = Supervisor().processes(begun.program).values()
    return process["pid"]


@pytest.fixture
def client():
    """Connect to a process, and return the close code that the client gets."""
    with contextlib.ExitStack() as stack:

        def connect(begun, number=0):
            websocket = stack.enter_context(unix_connect(begun.processes[number].socket))

            def code():
                with pytest.raises(ConnectionClosed):
                    websocket.recv(timeout=20)
                return websocket.close_code

            return code

        yield connect


@pytest.mark.parametrize("first", [False, True], ids=["", "of the first version"])
@pytest.mark.parametrize(("files", "command"), WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.usefixtures("supervisord")
def test_nothing_outlives_its_release_and_its_clients_are_told(start, client, files, command, first):
    old = start(files, command, first=first)
    new = start(files, command, first=first, environment={"A": "1"})
    told, kept = [client(old, 0), client(old, 1)], pids(new)
    assert len(pids(old)) >= 4, "this starts more than Supervisor knows"
    Supervisor().retire(old)
    assert pids(old) == set()
    assert [code() for code in told] == [1012, 1012]
    assert kept == pids(new)
    assert answers(new)


@pytest.mark.usefixtures("supervisord")
def test_what_ignores_sigterm_is_killed_when_its_time_is_over(start):
    stubborn = {"start.sh": f"(trap '' TERM; while :; do sleep 1; done) & {SERVER} \"$1\"\n"}
    begun = start(stubborn, "sh start.sh {socket}", stopwaitsecs=1, numprocs=1)
    Supervisor().retire(begun)
    assert pids(begun) == set()


@pytest.mark.parametrize("first", [False, True], ids=["", "of the first version"])
@pytest.mark.usefixtures("supervisord")
def test_sigterm_comes_once(start, host, first):
    """For many servers, a second one is an order to drop their clients."""
    count = (
        f"import os, signal\nwrite = lambda *_: open('{host}/terms', 'a').write('x')\n"
        "signal.signal(signal.SIGTERM, write); os.fork() or os.execlp('sleep', 'sleep', '1000')\n"
        f"source = open('{ECHO}/app.py').read()\n"
        "exec(source.replace('stop.set)', '(lambda: (write(), loop.call_later(1, stop.set))))')"
        ".replace('asyncio.get_running_loop()', '(loop := asyncio.get_running_loop())'))\n"
    )
    files = {"app.py": count, "start.sh": f'{sys.executable} app.py "$1"\n'}
    begun = start(files, "sh start.sh {socket}", first=first, numprocs=1)
    Supervisor().retire(begun)
    assert pids(begun) == set()
    assert (host / "terms").read_text() == "x"


@pytest.mark.parametrize("wrapper", ["a script without exec", "a master of workers"])
@pytest.mark.usefixtures("supervisord")
def test_what_a_killed_master_leaves_ends_at_the_next_start(start, client, eventually, wrapper):
    begun = start(*WRAPPERS[wrapper], numprocs=1)
    before, told = pids(begun), client(begun)
    os.kill(shell_of(begun), signal.SIGKILL)
    assert told() == 1012
    eventually(lambda: len(pids(begun)) == len(before) and not pids(begun) & before and answers(begun))


def test_what_a_killed_supervisord_leaves_ends_at_the_next_start(start, host, client, eventually, supervisord):
    begun = start(*WRAPPERS["a script without exec"], numprocs=1)
    before, told = pids(begun), client(begun)
    supervisord.kill()
    supervisord.wait()
    with run_supervisord(host):
        assert told() == 1012
        eventually(lambda: len(pids(begun)) == len(before) and not pids(begun) & before and answers(begun))


@pytest.mark.usefixtures("supervisord")
def test_a_server_that_removes_its_socket_at_its_end_does_not_take_the_next_ones(start, eventually):
    """uvicorn and gunicorn do."""
    code = (
        f"import os, sys\nsource = open('{ECHO}/app.py').read()\n"
        "exec(source + '\\n    __import__(\"time\").sleep(0.3); os.unlink(sys.argv[1])')\n"
    )
    files = {"app.py": code, "start.sh": f'{sys.executable} app.py "$1"\n'}
    begun = start(files, "sh start.sh {socket}", numprocs=1)
    before = pids(begun)
    os.kill(shell_of(begun), signal.SIGKILL)
    eventually(lambda: not pids(begun) & before and answers(begun))


@pytest.mark.usefixtures("supervisord")
def test_a_restart_leaves_nothing_of_the_process_before(start, eventually):
    begun = start(*WRAPPERS["a script without exec"])
    before = pids(begun)
    Supervisor().restart(begun, "echo_00")
    eventually(lambda: answers(begun))
    assert len(pids(begun)) == len(before)
    assert len(pids(begun) & before) == len(before) // 2


# What belongs to somebody else


@contextlib.contextmanager
def somebody(program, name, url, command=("sleep", "1000")):
    """Run a process that another supervisord, or another program of this one, could have started."""
    marks = {"SUPERVISOR_GROUP_NAME": program, "SUPERVISOR_PROCESS_NAME": name, "SUPERVISOR_SERVER_URL": url}
    with subprocess.Popen(command, env=os.environ | marks) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.usefixtures("supervisord")
def test_what_is_somebody_elses_stays(start, eventually):
    begun = start(*WRAPPERS["a script without exec"], numprocs=1)
    program, url = begun.program, f"unix://{paths.SUPERVISOR_SOCKET}"
    # A container has the processes of its own host, which may have these names.
    inside = [f"SUPERVISOR_GROUP_NAME={program}", "SUPERVISOR_PROCESS_NAME=echo_00", f"SUPERVISOR_SERVER_URL={url}"]
    unshare = ["unshare", "--pid", "--fork", "--kill-child", *([] if os.getuid() == 0 else ["-r"])]
    with (
        somebody(f"{program}x", "echo_00", url) as longer,
        somebody(f"chat-{begun.id}", "echo_00", url) as of_another_app,
        somebody("echo-0123456789ab", "echo_00", url) as of_another_release,
        somebody(program, "echo_00", "unix:///run/another.sock") as of_another_supervisord,
        somebody("x", "x", "x", [*unshare, "env", *inside, "sleep", "1000"]) as container,
    ):
        children = Path(f"/proc/{container.pid}/task/{container.pid}/children")
        (pid,) = eventually(lambda: children.read_text().split())
        eventually(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
        before = pids(begun)
        os.kill(shell_of(begun), signal.SIGKILL)
        eventually(lambda: not pids(begun) & before and answers(begun))
        Supervisor().retire(begun)
        assert pids(begun) == set()
        others = [longer, of_another_app, of_another_release, of_another_supervisord, container]
        assert [other.poll() for other in others] == [None] * 5


@pytest.mark.skipif(os.getuid() != 0, reason="only root can have the rights of root in a container")
def test_roots_rights_in_a_container_suffice():
    """There root cannot read the environment of another user's process."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import role;"
        "from ansible_collections.websockets.deploy.plugins.module_utils import processes;"
        "print(*(one.pid for one in processes.of('echo-0123456789ab')))"
    )
    look = ["setpriv", "--bounding-set", "-sys_ptrace", sys.executable, "-c", code, str(ROOT / "tests")]
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sleep", "1000"]
    with somebody("echo-0123456789ab", "echo_00", f"unix://{paths.SUPERVISOR_SOCKET}", as_nobody) as process:
        found = subprocess.run(look, capture_output=True, text=True, check=True)
        assert found.stdout == f"{process.pid}\n"
