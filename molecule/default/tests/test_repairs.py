"""What somebody has broken on a deployed host, the next run puts right: it has nothing else to do."""

import re

import pytest

testinfra_hosts = ["ansible://debian13", "ansible://debian12-sysv"]

FILES = "/etc/supervisor/conf.d/websockets.conf /etc/tmpfiles.d/websockets-echo.conf"
OF_INIT = {
    "debian13": "/etc/systemd/system/supervisor.service.d/websockets.conf",
    "debian12-sysv": "/etc/init.d/websockets-tmpfiles",
}
FOLDERS = "/run/websockets /run/websockets/echo /srv/websockets/echo/releases /var/log/websockets/echo"

HARM = {
    "nginx is stopped": "service nginx stop",
    "supervisord is stopped": "service supervisor stop; while pgrep -x supervisord; do sleep 0.1; done",
    "nginx does not start at boot": "systemctl disable nginx || update-rc.d -f nginx remove",
    "a file is edited": f"echo '# edited' >> {FILES.split()[0]}",
    "a file of the init system is edited": "echo '# edited' >> {of_init}",
    "a file of the init system is gone": "rm {of_init}",
    "a file has another mode": "chmod 600 {of_init}",
    "/run is empty": "rm -r /run/websockets",
    "a folder has another mode": "chmod 755 /run/websockets/echo",
    "a process hangs": "kill -STOP {pid}",
    "a process is stopped": "supervisorctl stop {program}:echo_01",
    "the live link is wrong": "ln -sfn /run/websockets/echo/000000000000 /srv/websockets/echo/live",
    "the packages are gone": "rm -r /srv/websockets/echo/venvs/*",
}


@pytest.fixture
def look(host, name):
    """Return what of the host has to be the same after a repair."""
    commands = [
        f"sha256sum {FILES} {OF_INIT[name]}",
        f"stat -c '%A %U %G %n' {FILES} {OF_INIT[name]} {FOLDERS}",
        "readlink /srv/websockets/echo/live",
        "ls /srv/websockets/echo/venvs/*/.complete",
        "supervisorctl status | grep -c '^echo-.*RUNNING'",
        "ps -u ws-echo -o stat= | grep -vc T",
    ]

    def look():
        shown = [host.check_output(command) for command in commands]
        services = [host.service(service) for service in ("nginx", "supervisor")]
        return shown, [(service.is_running, service.is_enabled) for service in services]

    return look


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM)
def test_the_next_run_puts_it_right(host, name, echo, client, deploy, look, wait, harm):
    before = look()
    words = {"of_init": OF_INIT[name], "pid": echo.pids()["echo_01"], "program": f"echo-{echo.release}"}
    host.check_output(harm.format(**words))
    run = deploy()
    assert run.returncode == 0, run.stdout
    assert not re.search(r"changed=0", run.stdout), run.stdout
    # Processes that answer are STARTING for a second.
    wait(f"supervisorctl status | grep -c '^echo-.*RUNNING' | grep -qx {echo.numprocs}")
    assert look() == before
    client(echo)
