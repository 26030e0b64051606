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


def test_processes_are_scheduled_as_the_inputs_say_from_the_services_next_start(host, name, echo, deploy, wait):
    properties = "systemctl show --property CPUSchedulingPolicy nginx supervisor"

    def scheduled():
        """Return {pid: class} of nginx with its workers, supervisord, and the app's processes: B is SCHED_BATCH."""
        pids = [host.check_output("cat /run/nginx.pid"), *host.check_output("pgrep -P $(cat /run/nginx.pid)").split()]
        pids += [host.check_output("supervisorctl pid"), *echo.pids().values()]
        assert len(pids) >= 7
        return {int(pid): host.check_output(f"ps -o cls= -p {pid}").strip() for pid in pids}

    before = scheduled()
    # On debian12 both services ran before the role came.
    late = name == "debian12"
    assert set(before.values()) == {"TS" if late else "B"}
    done = deploy(websockets_cpu_scheduling="other")
    assert (done.returncode, "scheduling: " in done.stdout) == (0, False), done.stdout
    assert set(host.check_output(properties).split()) == {"CPUSchedulingPolicy=0"}
    done = deploy()
    when = " after the next restart, which disconnects all clients" if late else ""
    assert f"scheduling: batch for nginx and supervisor{when} sockets: " in " ".join(done.stdout.split()), done.stdout
    assert set(host.check_output(properties).split()) == {"CPUSchedulingPolicy=3"}
    assert scheduled() == before
    host.check_output("systemctl restart nginx supervisor")
    wait(f"test $(supervisorctl status | grep -c '^echo-.*RUNNING') = {echo.numprocs}", 30)
    assert set(scheduled().values()) == {"B"}
