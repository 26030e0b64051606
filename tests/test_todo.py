"""What a run has seen to be as it should be, it does not do again."""

import pytest
from role import plan

VENV = plan()["release"]["venv"]
ID = plan()["release"]["id"]
# A host on which this release is live, and nothing else is there.
DEPLOYED = {
    "live": ID,
    "serves": True,
    "releases": {ID: {"files": {}}},
    "venvs": [VENV],
    "programs": [ID],
}
NEW = "0" * 12


def todo(purpose="deploy", **host):
    steps = plan({**DEPLOYED, **host}, purpose)["todo"]
    return [step for step, there_is in steps.items() if there_is]


def test_nothing():
    assert todo() == []


def test_everything_on_a_new_host():
    assert todo(live="", serves=False, releases={}, venvs=[], programs=[]) == ["release", "start", "drain"]


@pytest.mark.parametrize(
    ("host", "steps"),
    [
        ({"releases": {}}, ["release"]),
        ({"venvs": []}, ["release"]),
        ({"serves": False}, ["start"]),
        ({"live": NEW, "serves": True}, ["start", "drain"]),
        ({"programs": [NEW, ID]}, ["drain"]),
        ({"surplus": True}, ["drain"]),
    ],
    ids=["release gone", "packages gone", "silent", "another is live", "another runs", "surplus"],
)
def test_only_what_is_not_as_it_should_be(host, steps):
    assert todo(**host) == steps


def test_other_code():
    other = {"live": NEW, "releases": {NEW: {"files": {}}}, "programs": [NEW]}
    assert todo(**other) == ["release", "start", "drain"]


def test_a_removal_drains_whatever_there_is():
    assert todo("remove") == ["drain"]
