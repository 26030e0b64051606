"""Calls to a real supervisord."""

import dataclasses
import os
import resource
import sys

import pytest
from ansible_collections.websockets.deploy.plugins.module_utils import release, supervisor
from ansible_collections.websockets.deploy.plugins.module_utils.release import Release
from ansible_collections.websockets.deploy.plugins.module_utils.supervisor import Supervisor, SupervisorError

# Programs end with their supervisord, even if it is killed.
PYTHON = f"setpriv --pdeathsig KILL {sys.executable}"
SLEEP = f"{PYTHON} -c 'import signal; signal.pause()'"


@pytest.fixture
def program(host):
    """Write a program's file as Debian's other packages would, and return its path."""

    def write(name, command=SLEEP, **options):
        lines = {
            "command": command,
            "process_name": "%(program_name)s_%(process_num)02d",
            "startsecs": 0,
            "stopwaitsecs": 1,
            **options,
        }
        path = host / "conf.d" / f"{name}.conf"
        path.write_text(f"[program:{name}]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items()))
        return path

    return write


@pytest.fixture
def running(supervisord, program):
    """A supervisord that runs another program, ``theirs``."""
    program("theirs")
    client = Supervisor()
    client.add("theirs")
    return client


def pids(client, name):
    return {process: information["pid"] for process, information in client.processes(name).items()}


def as_release(name, path, sockets):
    return dataclasses.replace(Release.of(name, "0"), program=name, program_file=str(path), sockets=str(sockets))


def test_a_supervisord_that_does_not_answer(host):
    with pytest.raises(
        SupervisorError, match=rf"^supervisord does not answer at {host}/supervisor.sock \(.*No such file"
    ):
        Supervisor().call("getState")
    with pytest.raises(SupervisorError, match="does not answer"):
        Supervisor().wait(timeout=0)


def test_add_starts_every_process_of_one_program(running, program):
    program("mine", numprocs=3)
    assert running.processes("mine") == {}
    running.add("mine")
    assert sorted(running.processes("mine")) == ["mine_00", "mine_01", "mine_02"]
    assert all(pids(running, "mine").values())


def test_add_leaves_other_programs_alone_changed_or_not(running, program):
    before = pids(running, "theirs")
    program("theirs", command=SLEEP + " # changed")
    program("new")
    program("mine")
    running.add("mine")
    assert pids(running, "theirs") == before
    assert running.processes("new") == {}, "the role starts only its own programs"


def test_add_of_what_supervisord_does_not_find(running):
    with pytest.raises(SupervisorError, match="BAD_NAME: mine"):
        running.add("mine")


def test_a_broken_file_is_told_in_supervisords_own_words(running, program, host):
    (host / "conf.d" / "broken.conf").write_text("[program:broken]\nnumprocs = many\ncommand = x\n")
    before = pids(running, "theirs")
    program("mine")
    with pytest.raises(
        SupervisorError, match=r"CANT_REREAD: .*many.* in section 'program:broken' \(file: '.*broken\.conf'\)"
    ):
        running.add("mine")
    assert pids(running, "theirs") == before


def test_retire_ends_a_program_and_removes_what_it_had(running, program, host):
    path = program("mine", numprocs=2)
    running.add("mine")
    ended, before = pids(running, "mine").values(), pids(running, "theirs")
    (host / "sockets").mkdir()
    (host / "sockets" / "mine_00.sock").touch()
    running.retire(as_release("mine", path, host / "sockets"))
    assert running.processes("mine") == {}
    assert not [pid for pid in ended if os.path.exists(f"/proc/{pid}/exe")]
    assert not path.exists()
    assert not (host / "sockets").exists()
    assert pids(running, "theirs") == before


def test_retire_stops_one_process_after_the_other(running, program, host, eventually):
    """If all processes stopped at once, all clients would reconnect at once."""
    log = host / "stops"
    stop = f"open('{log}', 'a').write('%s %s\\n' % (word, __import__('os').environ['SUPERVISOR_PROCESS_NAME']))"
    code = (
        f"import signal, time\ndef say(word): {stop}\n"
        "def end(*_): say('stops'); time.sleep(0.05); say('ended'); raise SystemExit\n"
        "signal.signal(signal.SIGTERM, end); say('ready'); signal.pause()"
    )
    script = host / "app.py"
    script.write_text(code)
    path = program("mine", command=f"{PYTHON} {script}", numprocs=3)
    running.add("mine")
    eventually(lambda: log.exists() and log.read_text().count("ready") == 3)
    running.retire(as_release("mine", path, host / "sockets"))
    stops = [line for line in log.read_text().splitlines() if not line.startswith("ready")]
    assert stops == [f"{word} mine_0{number}" for number in range(3) for word in ("stops", "ended")]


def test_retire_of_a_program_that_does_not_start(running, program, host, eventually):
    path = program("mine", command="/bin/false", startsecs=1)
    running.add("mine")
    eventually(lambda: running.processes("mine")["mine_00"]["statename"] in supervisor.FAILED)
    running.retire(as_release("mine", path, host / "sockets"))
    assert running.processes("mine") == {}
    assert not path.exists()


def test_retire_of_what_is_not_there_is_done(running, host):
    running.retire(as_release("gone", host / "conf.d" / "gone.conf", host / "sockets"))


def test_descriptors_are_raised_for_what_starts_next_without_a_restart(running, program, supervisord):
    before = pids(running, "theirs")
    assert running.raise_descriptors(300) is True
    program("mine")
    running.add("mine")
    (pid,) = pids(running, "mine").values()
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] == 300
    assert resource.prlimit(supervisord.pid, resource.RLIMIT_NOFILE)[0] == 300
    assert pids(running, "theirs") == before


def test_descriptors_that_are_enough_stay(running, supervisord):
    running.raise_descriptors(300)
    assert running.raise_descriptors(300) is False
    assert running.raise_descriptors(10) is False
    assert resource.prlimit(supervisord.pid, resource.RLIMIT_NOFILE)[0] == 300


def test_the_hard_limit_is_not_lowered(running, supervisord):
    hard = resource.prlimit(supervisord.pid, resource.RLIMIT_NOFILE)[1]
    running.raise_descriptors(300)
    assert resource.prlimit(supervisord.pid, resource.RLIMIT_NOFILE)[1] == hard


def test_the_release_that_gets_no_traffic_is_found_by_its_file(running, host):
    """The module drain finds the releases to stop by their files in Supervisor's folder."""
    (host / "conf.d" / "websockets-chat-0123456789ab.conf").write_text(
        f"[program:chat-0123456789ab]\ncommand = {SLEEP}\n"
    )
    (identity,) = release.programs("chat")
    old = Release.of("chat", identity)
    running.add(old.program)
    running.retire(old)
    assert release.programs("chat") == []
    assert running.processes(old.program) == {}
