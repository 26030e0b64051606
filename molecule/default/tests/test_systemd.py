"""What systemd gives the services: not on hosts with another init."""

import pytest

testinfra_hosts = ["ansible://debian12", "ansible://debian13"]


@pytest.mark.parametrize(("service", "descriptors"), [("nginx", 8448), ("supervisor", 4352)])
def test_services_may_hold_all_connections_of_the_host(host, service, descriptors):
    shown = host.check_output(f"systemctl show --property LimitNOFILESoft --property NeedDaemonReload {service}")
    assert shown.split() == [f"LimitNOFILESoft={descriptors}", "NeedDaemonReload=no"]


@pytest.mark.parametrize(("service", "exposure"), [("nginx", 25), ("supervisor", 27)])
def test_services_are_in_a_sandbox(host, name, service, exposure):
    judged = host.run(f"systemd-analyze security --no-pager --threshold={exposure} {service}")
    if name == "debian12":
        # It has somebody else's site and program.
        assert judged.rc != 0
    else:
        assert judged.rc == 0, judged.stdout


def test_sandboxes_are_in_force(host, name, echo, confined):
    pids = [host.check_output("cat /run/nginx.pid"), host.check_output("supervisorctl pid"), *echo.pids().values()]
    # debian12 has somebody else's site and program.
    assert [confined(pid) for pid in pids] == [name == "debian13"] * 6


def test_nginx_pins_its_workers_as_its_configuration_says(host, name):
    if name == "debian12":
        pytest.skip("only Debian 13's nginx.conf says so")
    workers = host.check_output("pgrep -P $(cat /run/nginx.pid)").split()
    processors = [host.check_output(f"taskset -cp {pid}").split()[-1] for pid in workers]
    assert len(set(processors)) == len(processors)
