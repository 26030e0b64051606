"""Too many clients, of one address and of many: they are refused, and the others do not notice."""

import concurrent.futures

import pytest
from conftest import AT_ONCE, RATE

SECONDS, REFUSALS = 8, 200
MAX_CONNECTIONS, PER_ADDRESS = 4096, 512  # the defaults

testinfra_hosts = ["ansible://debian12"]
pytestmark = pytest.mark.usefixtures("unharmed")


def test_flood_of_one_address_is_limited_and_another_address_is_not(address, other, crowd, visit):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        flood = pool.submit(crowd, other, "flood", address, SECONDS, REFUSALS)
        # Each of these has to be let in. How long they wait is the machine's doing: the attacker takes half of it.
        visit(SECONDS)
    answers, seconds = flood.result()["answers"], flood.result()["seconds"]
    assert set(answers) == {"101", "503"}
    assert answers["503"] >= REFUSALS
    # nginx counts in thousandths of a second, and lets one through before the burst.
    assert answers["101"] <= AT_ONCE + RATE * seconds + 2


def test_one_client_more_than_the_host_is_sized_for_is_refused(host, crowd, visit):
    found = crowd(host, "fill", "127.0.0.1", MAX_CONNECTIONS, PER_ADDRESS)
    assert found == {
        "answers": {"101": MAX_CONNECTIONS},
        "one more": "503",
        "talked": MAX_CONNECTIONS,
        "after one has gone": "101",
    }
    visit(1)
