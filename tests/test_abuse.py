"""Each case of tests/abuse.py gets its answer from the real echo app behind a real nginx.

No process dies of them, nothing is left of them, and another client does not notice.
"""

import socket

import role
from abuse import CASES, MEBIBYTE, answers
from ansible_collections.websockets.deploy.plugins.module_utils import handshake, unix
from ansible_collections.websockets.deploy.plugins.module_utils.probe import Probe

# The echo app with a shorter wait: it waits 10 s for clients that do not answer its close, and holds their messages.
IMPATIENT = f"""
import functools, runpy
from websockets.asyncio import server
server.unix_serve = functools.partial(server.unix_serve, close_timeout=0.5)
runpy.run_path({str(role.ECHO / "app.py")!r}, run_name="__main__")
"""


def resident(pid):
    """Return the bytes of memory that only this process has (proc_pid_smaps_rollup)."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        sizes = {line.split()[0]: int(line.split()[1]) * 1024 for line in file.readlines()[1:]}
    return sizes["Private_Dirty:"] + sizes["Private_Clean:"]


def test_each_has_its_answer_and_no_process_dies(served, nginx_folder, short_path, eventually):
    assert len(CASES) >= 60
    # nginx also waits for the rest of a body that it has refused, 5 s by default.
    (nginx_folder / "conf.d" / "impatient.conf").write_text("lingering_timeout 100ms;\n")
    (short_path / "app.py").write_text(IMPATIENT)
    site = served(short_path / "app.py", connections_per_address=1000, handshakes_per_address=1000)
    workers = site.workers()
    pids = [*workers, *(process.pid for process in site.processes[:-1])]

    def memory_after(rounds):
        for _ in range(rounds):
            for what, (sent, expected) in CASES.items():
                connection = socket.create_connection(("127.0.0.1", site.port), timeout=10)
                assert answers(connection, sent, expected) == expected, what
        eventually(lambda: not any(unix.connections(site.planned["release"]["live_link"]).values()))
        return {pid: resident(pid) for pid in pids}

    # After some rounds Python's heap grows by a few MiB at most.
    before = memory_after(20)
    after = memory_after(10)
    assert site.workers() == workers
    assert [process.poll() for process in site.processes] == [None] * 3
    handshake.ask(("127.0.0.1", site.port), Probe(message="hello"))
    grown = {pid: after[pid] - before[pid] for pid in pids}
    # If each round kept a message of a MiB, it would grow by more; if it kept connections, by a multiple.
    assert sum(grown.values()) < 8 * MEBIBYTE, grown
