"""Each case of tests/abuse.py has its answer from a deployed host, over TLS; nothing dies of them, nothing is left."""

import concurrent.futures
import time

import pytest
from abuse import CASES, MEBIBYTE, answers
from conftest import AT_ONCE, RATE

pytestmark = pytest.mark.usefixtures("unharmed")

ROUNDS = 2
# First, because the servers wait for something: 5 s by nginx for the rest, 10 s by the app for an answer to its close.
FIRST = ("handshake: a body of a terabyte", "frames: 10,000 fragments")


def test_each_has_its_answer_and_nothing_is_left(host, pids, wait, open_connection):
    nginx, processes = pids()
    memory_of = " ".join(f"/proc/{pid}/smaps_rollup" for pid in [*nginx, *processes.values()])
    cases = sorted(CASES, key=lambda what: what not in FIRST) * ROUNDS
    start, sent = time.monotonic(), 0

    def answer(what):
        return what, answers(open_connection(), *CASES[what])

    def paced():
        """Yield the cases, so that limits, which have tests of their own, do not answer: a case is about two requests."""
        nonlocal sent
        for what in cases:
            sent += 2
            time.sleep(max(0, start + (sent - AT_ONCE) / RATE - time.monotonic()))
            yield what

    def memory():
        with concurrent.futures.ThreadPoolExecutor(len(FIRST) * ROUNDS + 2) as pool:
            found = [pool.submit(answer, what) for what in paced()]
            wrong = {what: back for what, back in (one.result() for one in found) if back != CASES[what][1]}
        assert wrong == {}
        return int(host.check_output(f"cat {memory_of} | awk '/^Private/ {{sum += $2}} END {{print sum * 1024}}'"))

    before = memory()
    grown = memory() - before
    wait("! ss -xH state connected | grep -q '/run/websockets/echo/.*sock '")
    # Heaps move by some MiB: tests/test_abuse.py, with more rounds, looks closer. A bomb that has gone off would be more.
    assert grown < 16 * MEBIBYTE
