"""What somebody has broken on a deployed host, the next run puts right: it has nothing else to do."""

import functools

import pytest

testinfra_hosts = ["ansible://debian13", "ansible://debian12-sysv"]

SUPERVISORD = "/etc/supervisor/conf.d/websockets.conf"
OF_INIT = {
    "debian13": "/etc/systemd/system/supervisor.service.d/websockets.conf",
    "debian12-sysv": "/etc/init.d/websockets-tmpfiles",
}
CONTENT = "sha256sum {}; stat -c '%A %U %G' {}"

# What is broken, and what shows it.
HARM = {
    "nginx is stopped": ("service nginx stop", "service nginx status >&2; echo $?"),
    "nginx does not start at boot": (
        "systemctl disable nginx || update-rc.d -f nginx remove",
        "systemctl is-enabled nginx || ls /etc/rc2.d | grep S..nginx",
    ),
    "supervisord is stopped": (
        "service supervisor stop; while pgrep -x supervisord; do sleep 0.1; done",
        "service supervisor status >&2; echo $?",
    ),
    "a process is stopped": (
        "supervisorctl stop {program}:echo_01",
        "supervisorctl status | grep -c '^echo-.*RUNNING'",
    ),
    "a process hangs": ("kill -STOP {pid}", "ps -u ws-echo -o stat= | grep -c T"),
    "the live link is wrong": (
        "ln -sfn /run/websockets/echo/000000000000 /srv/websockets/echo/live",
        "readlink /srv/websockets/echo/live",
    ),
    "/run is empty": (
        "rm -r /run/websockets",
        "stat -c '%A %U %G %n' /run/websockets /run/websockets/echo; find /run/websockets/echo -name '*.sock' | sort",
    ),
    "a folder has another mode": ("chmod 755 /run/websockets/echo", "stat -c '%A %U %G' /run/websockets/echo"),
    "a file is edited": (f"echo '# edited' >> {SUPERVISORD}", CONTENT.format(SUPERVISORD, SUPERVISORD)),
    "a file of the init system is edited": ("echo '# edited' >> {of_init}", "sha256sum {of_init}"),
    "a file of the init system is gone": ("rm {of_init}", "sha256sum {of_init}; stat -c '%A %U %G' {of_init}"),
    "a file of the init system has another mode": ("chmod 600 {of_init}", "stat -c '%A %U %G' {of_init}"),
    "the packages are gone": ("rm -r /srv/websockets/echo/venvs/*", "ls /srv/websockets/echo/venvs/*/.complete"),
}

# What one run puts right together. No repair is another's by the way: at most one of a group makes the role start
# the release again (a process, its socket or supervisord), nothing else of it is of the same service or file, and a
# folder is not in one group with a file, which makes the role go through the folders.
GROUPS = [
    ("a process hangs", "a folder has another mode", "nginx is stopped"),
    ("/run is empty", "nginx does not start at boot"),
    ("a process is stopped", "a file is edited", "a file of the init system is edited", "the packages are gone"),
    ("supervisord is stopped", "a file of the init system is gone"),
    ("the live link is wrong", "a file of the init system has another mode"),
]
assert sorted(what for group in GROUPS for what in group) == sorted(HARM)


@pytest.fixture(scope="module")
def repaired(host, name, echo, deploy, wait):
    """Break a group of things and deploy, once; return what was to be seen before, when it was broken, and after."""

    @functools.cache
    def run(group):
        words = {"of_init": OF_INIT[name], "pid": echo.pids()["echo_01"], "program": f"echo-{echo.release}"}

        def look():
            return {what: host.run(shows.format(**words)).stdout for what, (_, shows) in HARM.items()}

        before = look()
        for what in group:
            host.check_output(HARM[what][0].format(**words))
        broken = look()
        done = deploy()
        assert done.returncode == 0, done.stdout
        # Processes that answer are STARTING for a second.
        wait(f"supervisorctl status | grep -c '^echo-.*RUNNING' | grep -qx {echo.numprocs}")
        return before, broken, look()

    return run


@pytest.mark.parametrize(("group", "what"), [pytest.param(group, what, id=what) for group in GROUPS for what in group])
def test_the_next_run_puts_it_right(repaired, echo, client, group, what):
    before, broken, after = repaired(group)
    assert broken[what] != before[what], "it was not broken"
    assert after[what] == before[what]
    client(echo)


@pytest.mark.parametrize("group", GROUPS, ids=", ".join)
def test_all_else_is_as_before(repaired, group):
    before, _, after = repaired(group)
    assert after == before
