"""A run skips each step that has nothing to do on the host."""

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.websockets.deploy.plugins.module_utils import paths, recorded, release
from ansible_collections.websockets.deploy.plugins.module_utils.host_files import HostFile
from ansible_collections.websockets.deploy.plugins.module_utils.inputs import InputError
from ansible_collections.websockets.deploy.plugins.module_utils.record import from_dict
from ansible_collections.websockets.deploy.plugins.module_utils.site import Site
from role import nginx_files, plan, read, render, stored

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
    assert todo(**new) == ["host", "release", "start"]


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
        ({"live": "", "programs": []}, ["start", "drain"]),
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
        "none is live",
    ],
)
def test_only_what_is_not_as_it_should_be(host, steps):
    assert todo(**host) == steps


def test_a_release_whose_processes_run_in_the_way_of_an_older_version(monkeypatch):
    """It is repaired as it is: the files of its processes are its own."""
    monkeypatch.setattr(release, "PROCESS", release.PROCESS[1:])
    older = plan()["release"]["id"]
    monkeypatch.undo()
    host = {"live": older, "releases": {older: stored(older)}, "programs": [older]}
    assert todo(**host) == []
    assert todo(**host, serves=False) == ["start"]
    assert plan({**DEPLOYED, **host, "serves": False})["release"]["id"] == older
    assert todo(**host | {"programs": [older, NEW]}) == ["drain"]
    # Without its packages it cannot be made again as it was.
    assert todo(**host, venvs=[]) == ["release", "start", "drain"]


def test_workers_are_counted():
    workers = {"mail": {"command": "celery", "numprocs": 2}, "tick": {"command": "tick"}}
    steps = plan({"group": "ws-echo"}, workers=workers)
    assert steps["todo"]["start"] == [
        f"start 3 workers and 4 processes of {steps['release']['id']} and wait until each answers a handshake, and each worker"
        " has run for a while"
    ]


def test_other_code():
    other = {"live": NEW, "releases": {NEW: stored(NEW)}, "programs": [NEW]}
    assert todo(**other) == ["release", "start", "drain"]


FILE = {"src": "supervisord.conf.j2", "dest": "/etc/supervisor/conf.d/websockets.conf", "mode": "0644"}
ONE, OTHER = HostFile(**FILE, init=("systemd",)), HostFile(**FILE, init=("sysv",))
TEXT = render("supervisord.conf.j2", plan())


@pytest.mark.parametrize(
    ("there", "new"),
    [({}, True), ({FILE["dest"]: f"0600 {TEXT}"}, False), ({FILE["dest"]: "0644 x"}, False)],
    ids=["no file", "other mode", "other text"],
)
def test_a_file_that_is_not_as_its_template_says_is_written(there, new):
    planned = plan({**DEPLOYED, "files": there}, files=[ONE, OTHER])
    assert planned["host_files"] == [{"dest": FILE["dest"], "mode": "0644", "text": TEXT, "new": new}]
    assert planned["todo"]["host"]


def test_a_file_that_is_as_its_template_says_is_not():
    planned = plan({**DEPLOYED, "files": {FILE["dest"]: f"0644 {TEXT}"}}, files=[ONE])
    assert (planned["host_files"], planned["todo"]["host"]) == ([], [])


@pytest.fixture
def settled(nginx_folder):
    """Plan for a host as the run before has left it; return whether this run is settled, and the host's commands."""

    def look(host=None, purpose="deploy", **inputs):
        made = plan(DEPLOYED)
        texts = nginx_files(made, nginx_folder)
        texts[paths.site_record("echo")] = recorded.of_site(from_dict(Site, made["site"]), texts[made["site"]["file"]])
        served = {path: recorded.digest(text) for path, text in texts.items()}
        found = {**DEPLOYED, "served": served, "proof": 1.23, **(host or {})}
        commands = []
        planned = plan(found, purpose, commands=commands, **inputs)
        return planned["settled"], commands

    return look


def test_a_host_as_the_last_run_has_left_it_is_settled_and_free_for_other_runs(settled):
    done, commands = settled()
    assert done
    (command,) = commands
    assert "flock" in command


@pytest.mark.parametrize(
    ("host", "inputs"),
    [
        ({"proof": None}, {}),
        ({"serves": False}, {}),
        ({"served": {}}, {}),
        ({"idle_services": ["nginx"]}, {}),
        ({"unneeded": True}, {}),
        ({}, {"proxy_timeout": 99}),
        ({}, {"environment": {"A": "1"}}),
        ({}, {"purpose": "restart"}),
    ],
    ids=["unproven", "silent", "other files", "a service", "unneeded", "nginx alone", "the app", "a restart"],
)
def test_a_host_with_anything_else_is_not(settled, host, inputs):
    assert settled(host, **inputs) == (False, [])


def test_a_removal_drains_whatever_there_is():
    assert todo("remove") == ["drain"]


def test_a_restart_restarts_whatever_serves():
    planned = plan({**DEPLOYED, "releases": {ID: stored(ID, numprocs=3)}}, "restart")
    assert planned["todo"]["start"] == [f"restart 3 processes of {ID} one after the other"]
    assert planned["release"]["id"] == ID
    assert planned["warnings"] == []


def test_a_restart_of_one_process_warns():
    (warning,) = plan({**DEPLOYED, "releases": {ID: stored(ID, numprocs=1)}}, "restart")["warnings"]
    assert warning.startswith("echo has one process: handshakes fail while it restarts.")


@pytest.mark.parametrize("purpose", ["restart", "rollback"])
def test_without_a_live_release_there_is_nothing_to_do_it_to(purpose):
    with pytest.raises(InputError, match="it has no live release on this host; deploy it first"):
        plan({**DEPLOYED, "live": ""}, purpose)


# The end of a check says it in words.


@pytest.mark.parametrize(
    ("missing", "packages", "of_app"),
    [
        (["nginx", "git"], ["git", "gcc"], ["git"]),
        (["nginx", "supervisor"], ["nginx"], []),
        (["redis-server"], ["redis-server"], ["redis-server"]),
    ],
)
def test_packages_of_the_app_are_apart_from_those_of_the_role(missing, packages, of_app):
    """apt starts a service of the app's, and none of the role's."""
    planned = plan({"missing_packages": missing}, packages=packages)
    assert planned["todo"]["host"][0] == f"install {', '.join(missing)} by apt"
    templar = Templar(DataLoader(), {**read("vars/main.yml"), "__websockets_plan": planned})
    names = ["__websockets_app_packages", "__websockets_role_packages"]
    told = [templar.template(trust_as_template(f"{{{{ {name} }}}}")) for name in names]
    assert told == [of_app, [name for name in missing if name not in of_app]]


def check(planned, cutover=()):
    """Return what tasks/summary.yml says in check mode."""
    (task,) = read("tasks/summary.yml")
    variables = {
        **read("vars/main.yml"),
        **task["vars"],
        "ansible_check_mode": True,
        "__websockets_plan": planned,
        "__websockets_cutover": {"would": list(cutover)},
    }
    return Templar(DataLoader(), variables).template(task["ansible.builtin.debug"]["msg"])


def test_a_check_says_that_nothing_would_change():
    assert check(plan(DEPLOYED)) == "nothing would change"


def test_a_check_of_a_first_deploy_says_everything():
    new = {"missing_packages": ["nginx", "supervisor"], "folders": False, "idle_services": ["nginx"]}
    planned = plan(new, files=[ONE], numprocs=2)
    id = planned["release"]["id"]
    assert check(
        planned, ["write /etc/nginx/conf.d/websockets-echo.conf and reload nginx", f"give {id} the traffic"]
    ) == {
        "app": "echo",
        "this run would": [
            "install nginx, supervisor by apt",
            "create the user ws-echo",
            f"write {FILE['dest']}",
            "make the app's folders",
            "start nginx",
            f"put release {id} in place (2 files)",
            f"install the packages of {id} into {planned['release']['venv']}",
            f"start 2 processes of {id} and wait until each answers a handshake",
            "write /etc/nginx/conf.d/websockets-echo.conf and reload nginx",
            f"give {id} the traffic",
        ],
    }


@pytest.mark.parametrize("purpose", ["deploy", "rollback"])
def test_a_check_says_what_is_drained(purpose):
    releases = {NEW: stored(NEW, previous=ID), ID: stored(ID, previous="")}
    planned = plan({**DEPLOYED, "live": NEW, "releases": releases, "programs": [NEW]}, purpose)
    assert check(planned)["this run would"][-1] == f"drain {NEW}"


def test_a_check_says_what_is_repaired():
    assert check(plan({**DEPLOYED, "serves": False}))["this run would"] == [
        f"start those processes of the live release {ID} again that do not answer"
    ]
