"""Tools of all parts on the test host: the load client, memory and connections of processes, peers in turn."""

import contextlib
import json
import pathlib
import subprocess
import sys
import time
from collections import Counter

# Whether the kernel divides its time among sessions first.
AUTOGROUP = pathlib.Path("/proc/sys/kernel/sched_autogroup_enabled")


def load(command, *arguments):
    """Run the load client to its end and return its report."""
    done = subprocess.run(
        ["load", command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=300,
    )
    return json.loads(done.stdout)


class Held:
    """Clients that stay connected."""

    def __init__(self, process):
        self.process = process
        self.report = self._ready()

    def _ready(self):
        return json.loads(self.process.stdout.readline().removeprefix("ready "))

    def talk(self):
        """Have each client send a message and wait for its answer."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._ready()


@contextlib.contextmanager
def hold(command, *arguments):
    """Have clients connect; they leave at the end of the block."""
    with subprocess.Popen(
        ["load", command, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Held(process)
        finally:
            process.stdin.close()
            process.wait(30)


def tree(pid):
    """Return a process and all processes that it has started."""
    pids = [pid]
    for parent in pids:
        for task in pathlib.Path(f"/proc/{parent}/task").iterdir():
            pids += map(int, (task / "children").read_text().split())
    return pids


def memory(pids):
    """Return the bytes of memory of processes: their own pages and their share of shared pages (PSS)."""
    rollups = [pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    return sum(int(text.split("\nPss:")[1].split()[0]) * 1024 for text in rollups)


def cpu_ns(pids):
    """Return the nanoseconds of processor time of processes, all their threads, in user mode and in the kernel."""
    threads = [thread for pid in pids for thread in pathlib.Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)


def per_process(sockets):
    """Return the number of connections of each listening Unix socket."""
    connected = Counter()
    for line in pathlib.Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[5] == "03" and fields[7] in sockets:
            connected[fields[7]] += 1
    return [connected[socket] for socket in sockets]


def until(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"Waited {seconds} s in vain for {what}")
        time.sleep(0.05)


def in_turn(peers, rounds):
    """Yield (round, peer) in the order A B C, B C A, ..., so that a change of the machine's speed affects all peers."""
    for number in range(rounds):
        first = number % len(peers)
        for peer in peers[first:] + peers[:first]:
            yield number, peer


def say(*words):
    print(*words, file=sys.stderr, flush=True)
