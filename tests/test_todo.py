"""A run skips each step that has nothing to do on the host."""

import pytest
from ansible_collections.websockets.deploy.plugins.module_utils.host_files import HostFile
from role import plan, render, stored

VENV = plan()["release"]["venv"]
ID = plan()["release"]["id"]
# A host on which this release is live, without anything else.
DEPLOYED = {
    "group": "ws-echo",
    "live": ID,
    "serves": True,
    "releases": {ID: stored(ID)},
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
    new = {"group": "", "live": "", "serves": False, "releases": {}, "venvs": [], "programs": []}
    assert todo(**new) == ["host", "release", "start", "drain"]


@pytest.mark.parametrize(
    ("host", "steps"),
    [
        ({"missing_packages": ["nginx"]}, ["host"]),
        ({"group": ""}, ["host"]),
        ({"folders": False}, ["host"]),
        ({"idle_services": ["nginx"]}, ["host"]),
        ({"stale_units": True}, ["host"]),
        ({"releases": {}}, ["release"]),
        ({"venvs": []}, ["release"]),
        ({"serves": False}, ["start"]),
        ({"live": NEW, "serves": True}, ["start", "drain"]),
        ({"programs": [NEW, ID]}, ["drain"]),
        ({"unneeded": True}, ["drain"]),
    ],
    ids=[
        "packages",
        "user",
        "folders",
        "services",
        "units",
        "release gone",
        "packages gone",
        "silent",
        "another is live",
        "another runs",
        "unneeded",
    ],
)
def test_only_what_is_not_as_it_should_be(host, steps):
    assert todo(**host) == steps


def test_other_code():
    other = {"live": NEW, "releases": {NEW: stored(NEW)}, "programs": [NEW]}
    assert todo(**other) == ["release", "start", "drain"]


FILE = {"src": "supervisord.conf.j2", "dest": "/etc/supervisor/conf.d/websockets.conf", "mode": "0644"}
ONE, OTHER = HostFile(**FILE, init=("systemd",)), HostFile(**FILE, init=("sysv",))
TEXT = render("supervisord.conf.j2", plan())


@pytest.mark.parametrize(
    ("there", "folder"),
    [
        ({}, True),
        ({FILE["dest"]: ""}, False),
        ({FILE["dest"]: f"0600 {TEXT}"}, False),
        ({FILE["dest"]: "0644 x"}, False),
    ],
    ids=["no folder", "no file", "other mode", "other text"],
)
def test_a_file_that_is_not_as_its_template_says_is_written(there, folder):
    planned = plan({**DEPLOYED, "files": there}, files=[ONE, OTHER])
    assert planned["host_files"] == [{**FILE, "folder": folder}]
    assert planned["todo"]["host"]


def test_a_file_that_is_as_its_template_says_is_not():
    planned = plan({**DEPLOYED, "files": {FILE["dest"]: f"0644 {TEXT}"}}, files=[ONE])
    assert (planned["host_files"], planned["todo"]["host"]) == ([], False)


def test_a_removal_drains_whatever_there_is():
    assert todo("remove") == ["drain"]
