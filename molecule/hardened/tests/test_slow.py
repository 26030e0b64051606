"""A thousand clients that take their time do not keep the others waiting, and are sent away."""

import statistics
import time

import pytest

SLOW = 1000
HANDSHAKE_TIMEOUT = 10  # the default of websockets_handshake_timeout
WINDOW = 2  # seconds
# A handshake may take twice as long as this, whatever a quiet one takes: below, it is the scheduler that is measured. A
# client that waits for slow ones waits for seconds.
NOISE = 50  # milliseconds

# Where one gets into TLS by address alone: slowhttptest sends no name.
testinfra_hosts = ["ansible://debian13"]
pytestmark = pytest.mark.usefixtures("unharmed")

ATTACKS = {
    "headers": "-H -i 3 -x 24",
    "body": "-B -i 3 -x 24 -s 8192",
    "read": "-X -w 10 -y 20 -n 1 -z 5 -k 3",
}


@pytest.fixture
def descriptors(host):
    """Return what nginx's workers have open, as a function; the kernel may have connections longer that they closed."""
    workers = "$(pgrep -P $(cat /run/nginx.pid) | sed 's|.*|/proc/&/fd|')"
    return lambda: int(host.check_output(f"ls {workers} | grep -c '^[0-9]'"))


@pytest.fixture
def slow(other):
    """Begin slow connections, and have none left at the end."""
    yield lambda options: other.check_output(
        f"systemd-run --quiet --unit=slow --property=LimitNOFILE=4096 slowhttptest -c {SLOW} -r {SLOW} -l 30 {options}"
    )
    other.run("systemctl stop slow.service; systemctl reset-failed slow.service")


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_thousand_slow_connections_are_not_noticed(address, visit, descriptors, slow, attack):
    def p99():
        waited = visit(WINDOW)
        return sorted(waited)[int(len(waited) * 0.99) - 1]

    quiet, under_attack = [p99(), p99()], []
    before = descriptors()
    slow(f"{ATTACKS[attack]} -u https://{address}/")
    deadline = time.monotonic() + 15
    while descriptors() < before + 0.9 * SLOW:
        assert time.monotonic() < deadline, "they have not come"
    there = time.monotonic()
    while descriptors() > before + 0.9 * SLOW:
        under_attack.append(p99())
        assert time.monotonic() < there + HANDSHAKE_TIMEOUT + WINDOW, "they stay"
    while descriptors() > before:
        assert time.monotonic() < there + HANDSHAKE_TIMEOUT + 5, "they stay"
    quiet += [p99(), p99()]
    print(f"{attack}: quiet {quiet}, under attack {under_attack}, {time.monotonic() - there:.1f} s")
    # Medians: one window may have had a bad moment of the machine.
    assert statistics.median(under_attack) <= 2 * max(statistics.median(quiet), NOISE), (quiet, under_attack)
