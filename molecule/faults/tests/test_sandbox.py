"""All that this scenario does is done in sandboxes, on both systems."""


def test_services_and_processes_are_in_a_sandbox(host, echo, confined):
    services = host.check_output("pgrep -x nginx; supervisorctl pid").split()
    # nginx's master and at least one worker, and supervisord.
    assert len(services) >= 3
    assert [pid for pid in [*services, *echo.pids().values()] if not confined(pid)] == []
