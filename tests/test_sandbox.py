"""Services in a sandbox, the words about it, and systemd's own check of the files."""

import json
import shutil
import subprocess

import pytest
from ansible_collections.websockets.deploy.plugins.module_utils import neighbours, paths, sandbox, system
from ansible_collections.websockets.deploy.plugins.module_utils.host_files import HostFile
from role import HOST, plan, render

NEW = {"on": False, "late": False, "now": False, "neighbours": []}
ON = {**NEW, "on": True, "now": True}
LATE = {**NEW, "on": True, "late": True}
SITE = "/etc/nginx/sites-enabled/theirs"
SHARED = {**NEW, "neighbours": [SITE]}


def decided(choice="auto", **host):
    planned = plan(HOST | host, sandbox=choice)
    return planned["sandboxed"], planned["sandbox_says"]


def both(service):
    return {"nginx": service, "supervisor": service}


RESTART = "after the next restart, which disconnects all clients"
BOTH = "on for nginx and supervisor"
ALSO = f"which also has {SITE} (websockets_sandbox=always would put it in a sandbox)"


@pytest.mark.parametrize(
    ("choice", "host", "sandboxes", "said"),
    [
        ("auto", {}, (True, True), BOTH),
        ("auto", {"init": "sysv", "sandboxes": {}}, (False, False), "off, because sandboxes need systemd and this host has another init"),
        ("never", {}, (False, False), "off for nginx and supervisor, because websockets_sandbox is never"),
        # The file of a service that was never in a sandbox may be newer than the service.
        ("never", {"sandboxes": both({**NEW, "late": True})}, (False, False), "off for nginx and supervisor, because websockets_sandbox is never"),
        ("never", {"sandboxes": {"nginx": ON, "supervisor": NEW}}, (False, False), f"off for nginx {RESTART}; off for supervisor, because websockets_sandbox is never"),
        ("never", {"sandboxes": both(ON), "idle_services": ["nginx", "supervisor"]}, (False, False), "off for nginx and supervisor, because websockets_sandbox is never"),
        ("auto", {"sandboxes": {"nginx": SHARED, "supervisor": NEW}}, (False, True), f"off for nginx, {ALSO}; on for supervisor"),
        ("auto", {"sandboxes": both(SHARED)}, (False, False), f"off for nginx and supervisor, {ALSO}"),
        ("always", {"sandboxes": {"nginx": SHARED, "supervisor": NEW}}, (True, True), BOTH),
        # A sandbox stays if work is added to the service later.
        ("auto", {"sandboxes": {"nginx": {**SHARED, "on": True, "now": True}, "supervisor": ON}}, (True, True), BOTH),
        ("auto", {"sandboxes": {"nginx": LATE, "supervisor": ON}}, (True, True), f"on for nginx {RESTART}; on for supervisor"),
        ("auto", {"sandboxes": both({**ON, "late": True})}, (True, True), f"{BOTH}, with its new rules {RESTART}"),
        # This run starts the services.
        ("auto", {"sandboxes": both(LATE), "idle_services": ["nginx", "supervisor"]}, (True, True), BOTH),
    ],
    ids=[
        "new host", "no systemd", "never", "never was", "never again", "never, started by this run", "shared", "both shared",
        "shared, always", "later", "late", "other rules", "started by this run",
    ],
)  # fmt: skip
def test_a_service_is_in_a_sandbox_unless_it_has_other_work(choice, host, sandboxes, said):
    assert decided(choice, **host) == (dict(zip(sandbox.SERVICES, sandboxes, strict=True)), said)


def test_a_file_that_this_run_writes_comes_late_to_a_service_that_runs():
    file = HostFile("nginx.sandbox.conf.j2", paths.sandbox("nginx"), "0644")
    assert plan(files=[file])["sandbox_says"] == f"on for nginx {RESTART}; on for supervisor"
    assert plan({"idle_services": ["nginx"]}, files=[file])["sandbox_says"] == BOTH


@pytest.mark.parametrize("flags", [[], ["--no-new-privs"]], ids=["without", "with"])
def test_a_service_that_runs_in_a_sandbox_is_seen(flags):
    with subprocess.Popen(["setpriv", *flags, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(b"x")
        process.stdin.flush()
        process.stdout.read(1)  # so cat runs by now
        assert system.no_new_privileges(str(process.pid)) is bool(flags)
    assert system.no_new_privileges(str(process.pid)) is False


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
