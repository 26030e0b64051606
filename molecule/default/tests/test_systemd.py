"""What systemd gives the services: not on hosts with another init."""

import pytest

testinfra_hosts = ["ansible://debian12", "ansible://debian13"]


@pytest.mark.parametrize(("service", "descriptors"), [("nginx", 8448), ("supervisor", 4352)])
def test_services_may_hold_all_connections_of_the_host(host, service, descriptors):
    shown = host.check_output(f"systemctl show --property LimitNOFILESoft --property NeedDaemonReload {service}")
    assert shown.split() == [f"LimitNOFILESoft={descriptors}", "NeedDaemonReload=no"]
