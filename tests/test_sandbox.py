"""Services in a sandbox, the words about it, and systemd's own check of the files."""

import json
import shutil
import subprocess

import pytest
from ansible_collections.websockets.deploy.plugins.module_utils import neighbours, paths, sandbox
from ansible_collections.websockets.deploy.plugins.module_utils.host_files import HostFile
from role import HOST, plan, render

NEW = {"on": False, "late": False, "neighbours": []}
ON = {**NEW, "on": True}
SITE = "/etc/nginx/sites-enabled/theirs"
SHARED = {**NEW, "neighbours": [SITE]}


def decided(choice="auto", **host):
    planned = plan(HOST | host, sandbox=choice)
    return planned["sandboxed"], planned["sandbox_says"]


def both(service):
    return {"nginx": service, "supervisor": service}


@pytest.mark.parametrize(
    ("choice", "host", "sandboxes", "said"),
    [
        ("auto", {}, (True, True), "nginx and supervisor"),
        ("auto", {"init": "sysv", "sandboxes": {}}, (False, False), "none: sandboxes need systemd, and this host has another init"),
        ("never", {"sandboxes": both(ON)}, (False, False), "none; websockets_sandbox is never"),
        (
            "auto",
            {"sandboxes": {"nginx": SHARED, "supervisor": NEW}},
            (False, True),
            f"supervisor; not nginx, which also has {SITE}: use websockets_sandbox=always if that can run in a sandbox",
        ),
        ("always", {"sandboxes": {"nginx": SHARED, "supervisor": NEW}}, (True, True), "nginx and supervisor"),
        # A sandbox stays if work is added to the service later.
        ("auto", {"sandboxes": {"nginx": {**SHARED, "on": True}, "supervisor": ON}}, (True, True), "nginx and supervisor"),
        (
            "auto",
            {"sandboxes": {"nginx": {**ON, "late": True}, "supervisor": ON}},
            (True, True),
            "nginx and supervisor; in force after your next restart of nginx, which disconnects all clients",
        ),
        # This run starts the services.
        (
            "auto",
            {"sandboxes": both({**ON, "late": True}), "idle_services": ["nginx", "supervisor"]},
            (True, True),
            "nginx and supervisor",
        ),
    ],
    ids=["new host", "no systemd", "never", "shared", "shared, always", "later", "late", "started by this run"],
)  # fmt: skip
def test_a_service_is_in_a_sandbox_unless_it_has_other_work(choice, host, sandboxes, said):
    assert decided(choice, **host) == (dict(zip(sandbox.SERVICES, sandboxes, strict=True)), said)


def test_a_file_that_this_run_writes_comes_late_to_a_service_that_runs():
    file = HostFile("nginx.sandbox.conf.j2", paths.sandbox("nginx"), "0644")
    late = "nginx and supervisor; in force after your next restart of nginx, which disconnects all clients"
    assert plan(files=[file])["sandbox_says"] == late
    assert plan({"idle_services": ["nginx"]}, files=[file])["sandbox_says"] == "nginx and supervisor"


@pytest.mark.parametrize("service", sandbox.SERVICES)
def test_never_takes_nothing_away(service):
    text = render(f"{service}.sandbox.conf.j2", plan(sandbox="never"))
    assert [line for line in text.splitlines() if line and not line.startswith("#")] == ["[Service]"]


# The part of Debian's own units that these tests need.
UNITS = {"nginx": "Type=forking\n", "supervisor": "KillMode=process\n"}


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="the hosts' own is asked in molecule/default")
@pytest.mark.parametrize("service", sandbox.SERVICES)
def test_systemd_knows_every_line(service, tmp_path):
    unit = tmp_path / f"{service}.service"
    text = render(f"{service}.sandbox.conf.j2", plan())
    unit.write_text(f"{text}\n{UNITS[service]}ExecStart=/bin/true\n")
    command = ["systemd-analyze", "security", "--no-pager", "--offline=true", "--json=short", unit]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Unknown" not in done.stderr
    assert "Failed to parse" not in done.stderr
    assert json.loads(done.stdout)


# Work of a service that is not the role's


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Put the services' configuration into a temporary folder."""
    for folder in ("sites-enabled", "conf.d"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(paths, "NGINX", str(tmp_path))
    monkeypatch.setattr(paths, "SUPERVISOR", str(tmp_path))
    return tmp_path


def test_debians_own_configuration_is_no_work(nginx_folder, files):
    shutil.copy(nginx_folder / "nginx.conf", files / "nginx.conf")
    assert neighbours.work("nginx") == []
    (files / "sites-enabled" / "default").symlink_to(nginx_folder / "sites-available" / "default")
    assert neighbours.work("nginx") == [f"{files}/sites-enabled/default"]


@pytest.mark.parametrize("text", ["server {", "  server{", "http { server\n {}", "stream {\n}"])
def test_another_site_is_seen(files, text):
    (files / "sites-enabled" / "theirs").write_text(f"{text}\n")
    assert neighbours.work("nginx") == [f"{files}/sites-enabled/theirs"]


@pytest.mark.parametrize("kind", ["program", "fcgi-program", "eventlistener"])
def test_another_program_is_seen(files, kind):
    (files / "conf.d" / "websockets-echo-0123456789ab.conf").write_text("[program:echo-0123456789ab]\n")
    (files / "supervisord.conf").write_text("[supervisord]\n; [program:example]\n")
    assert neighbours.work("supervisor") == []
    (files / "conf.d" / "theirs.conf").write_text(f"[{kind}:theirs]\n")
    assert neighbours.work("supervisor") == [f"{files}/conf.d/theirs.conf"]
