"""Several hosts, in batches: the first one that fails stops the rest, and no host is left half-way."""

import json

import pytest

# The tests see both hosts; they run once, from the one with the small disk.
testinfra_hosts = ["ansible://debian12"]

BOTH = "debian12:debian13"


@pytest.fixture
def full_disk(host):
    """Leave less room on the canary's disk than any release needs."""
    host.check_output("head -c 1G /dev/zero > /srv/websockets/full 2>/dev/null || true")
    yield
    host.check_output("rm -f /srv/websockets/full")


def live(play, tmp_path):
    status = tmp_path / "status.json"
    assert play("status", limit=BOTH, status_file=str(status)).returncode == 0
    return {name: (apps[0]["live"], apps[0]["draining"]) for name, apps in json.loads(status.read_text()).items()}


def test_canary_that_fails_leaves_the_others_as_they_are(full_disk, host, echo, play, version, load, tmp_path):
    before = live(play, tmp_path)
    with load("full-disk", rate=100, held=40) as report:
        failed = play("site", limit=BOTH, websockets_serial=1, **version("canary", size=5_000_000))
    assert failed.returncode != 0, failed.stdout
    assert "No space left on device" in failed.stdout
    assert live(play, tmp_path) == before
    assert report.harm() == {}
    assert host.check_output("ls -A /srv/websockets/echo/releases | grep -c partial || true") == "0"


def test_batch_in_which_one_fails_goes_all_the_way_with_the_others(full_disk, play, version, tmp_path):
    before = live(play, tmp_path)
    failed = play("site", limit=BOTH, websockets_serial=2, **version("pair", size=5_000_000))
    assert failed.returncode != 0, failed.stdout
    after = live(play, tmp_path)
    assert after["debian12"] == before["debian12"]
    assert after["debian13"] != before["debian13"]
    assert after["debian13"][1] == []


def test_next_run_brings_both_to_the_same(play, version, tmp_path, host, echo, client):
    done = play("site", limit=BOTH, websockets_serial=1, **version("pair", size=5_000_000))
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("PLAY [Deploy]") == 2
    client(echo)
