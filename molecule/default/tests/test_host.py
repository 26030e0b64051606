"""Packages, services, folders and what the host shows of them."""

import pytest


@pytest.mark.parametrize("package", ["nginx", "supervisor"])
def test_package_is_installed(host, package):
    assert host.package(package).is_installed


@pytest.mark.parametrize("service", ["nginx", "supervisor"])
def test_service_runs_now_and_at_boot(host, name, service):
    assert host.service(service).is_running, host.run(f"journalctl -n 20 -u {service}").stdout
    assert host.service(service).is_enabled


def test_nothing_listens_that_was_not_asked_for(host, name):
    lines = host.check_output("ss -Hltn").splitlines()
    listening = {line.split()[3].rsplit(":", 1)[1] for line in lines}
    foreign = {"8090"} if name == "debian12" else set()
    # A new nginx shows its welcome page at 80; debian12 had it before this project came.
    welcome = {"80"} if name == "debian12" else set()
    assert listening == {"22", "8080", "8081"} | foreign | welcome
    # UDP, and whatever listens without a port.
    assert host.check_output("ss -Hlun; ss -Hlwn") == ""


def test_app_runs_as_its_own_user_that_cannot_log_in(host, echo):
    user = host.user("ws-echo")
    assert user.shell == "/usr/sbin/nologin"
    assert user.groups == ["ws-echo"]
    for pid in echo.pids().values():
        assert host.check_output(f"stat -c %U /proc/{pid}") == "ws-echo"


def test_app_cannot_write_its_own_code(host, echo):
    release = f"/srv/websockets/echo/releases/{echo.release}"
    assert host.check_output(f"find {release} ! -user root") == ""
    assert host.check_output(f"find {release} ! -type l -perm /022") == ""


def test_secrets_are_for_root_and_the_app_only(host, asgi):
    release = f"/srv/websockets/asgi/releases/{asgi.release}"
    holders = host.check_output(f"grep -rl s3cret {release} /etc/supervisor /etc/nginx").splitlines()
    assert sorted(holders) == [f"{release}/command", f"{release}/run"]
    for path in holders:
        script = host.file(path)
        assert (script.user, script.group, script.mode) == ("root", "ws-asgi", 0o640)
        assert host.run(f"setpriv --reuid ws-echo --clear-groups cat {path}").rc != 0


def test_supervisord_answers_root_only(host):
    socket = host.file("/run/supervisor.sock")
    assert socket.is_socket
    assert (socket.user, socket.mode) == ("root", 0o700)


def test_processes_may_hold_all_connections_of_the_host(host, echo):
    for pid in echo.pids().values():
        limit = host.check_output(f"grep 'Max open files' /proc/{pid}/limits").split()
        assert int(limit[3]) >= 4096
