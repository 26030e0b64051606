"""What systemd gives the services: not on hosts with another init."""

import pytest

testinfra_hosts = ["ansible://debian12", "ansible://debian13"]


@pytest.mark.parametrize(("service", "descriptors"), [("nginx", 8448), ("supervisor", 4352)])
def test_services_may_hold_all_connections_of_the_host(host, service, descriptors):
    shown = host.check_output(f"systemctl show --property LimitNOFILESoft --property NeedDaemonReload {service}")
    assert shown.split() == [f"LimitNOFILESoft={descriptors}", "NeedDaemonReload=no"]


@pytest.mark.parametrize(("service", "exposure"), [("nginx", 24), ("supervisor", 27)])
def test_services_are_in_a_sandbox(host, name, service, exposure):
    judged = host.run(f"systemd-analyze security --no-pager --threshold={exposure} {service}")
    if name == "debian12":
        # It has somebody else's site and program.
        assert judged.rc != 0
    else:
        assert judged.rc == 0, judged.stdout


def test_sandboxes_are_in_force(host, name):
    if name == "debian12":
        pytest.skip("it has somebody else's site and program")
    here = host.check_output("readlink /proc/1/ns/mnt")
    for pid in (host.check_output("cat /run/nginx.pid"), host.check_output("supervisorctl pid")):
        assert host.check_output(f"readlink /proc/{pid}/ns/mnt") != here
        assert host.file(f"/proc/{pid}/status").contains("^NoNewPrivs:.1$")
        assert host.file(f"/proc/{pid}/status").contains("^Seccomp:.2$")
