"""All that this scenario does is done in sandboxes, on both systems."""


def test_services_and_processes_are_in_a_sandbox(host, echo, confined):
    workers = host.check_output("pgrep -P $(cat /run/nginx.pid)").split()
    pids = [
        host.check_output("cat /run/nginx.pid"),
        *workers,
        host.check_output("supervisorctl pid"),
        *echo.pids().values(),
    ]
    assert len(pids) >= 7
    assert [pid for pid in pids if not confined(pid)] == []
