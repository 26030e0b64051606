"""A run that has nothing to do does nothing, to the host and to its clients."""

testinfra_hosts = ["ansible://debian13"]


def look(host):
    """Return the pids and the files that a deploy could touch, with inode, times, mode and owner."""
    folders = "/etc/nginx /etc/supervisor /etc/systemd /etc/tmpfiles.d /srv/websockets /run/websockets"
    return (
        sorted(host.check_output("pgrep 'nginx|supervisord|python'").split()),
        host.check_output(f"find {folders} -printf '%i %T@ %C@ %m %u %p\n' | sort").splitlines(),
    )


def test_run_that_changes_nothing(host, load, deploy, version):
    app = version("same")
    assert deploy(**app).returncode == 0
    before = look(host)
    with load("noop") as report:
        run = deploy(**app)
    # The raw look for Python, the app, the plan and the summary: one module runs on the host, and it makes the proof.
    assert "ok=4    changed=0 " in run.stdout
    assert "went through nginx and came back in" in run.stdout
    assert host.check_output("cat /run/websockets.lock") == "", "another run need not wait"
    assert look(host) == before
    assert report["closes"] == []
    assert report.harm() == {}
