"""What becomes of the processes when supervisord itself is killed."""

# On debian12 somebody else's program is to keep its pid (test_neighbours.py).
testinfra_hosts = ["ansible://debian13", "ansible://debian12-sysv"]


def test_killed_supervisord_leaves_no_second_set_of_processes(host, name, echo, wait):
    before = echo.pids()
    host.check_output(f"kill -9 {host.check_output('supervisorctl pid')}")
    wait(" && ".join(f"! test -e /proc/{pid}" for pid in before.values()))
    if name == "debian12-sysv":
        host.check_output("service supervisor start")  # SysV init restarts nothing by itself
    wait(f"supervisorctl status | grep -c '^echo-.*RUNNING' | grep -qx {echo.numprocs}")
    running = host.check_output("pgrep -u ws-echo -f app.py").split()
    assert sorted(map(int, running)) == sorted(echo.pids().values())
    assert len(running) == echo.numprocs
