"""nginx's configuration of the apps."""

import re


def test_configuration_is_valid(host):
    assert host.run("nginx -t").rc == 0


def test_upstream_has_exactly_the_processes(host, echo, asgi):
    whole = host.check_output("nginx -T 2>/dev/null")
    for app in (echo, asgi):
        upstream = re.search(rf"upstream websockets_{app.name} \{{(.*?)\n\}}", whole, re.S)[1]
        peers = re.findall(r"^\s*server unix:(\S+)", upstream, re.M)
        assert peers == [f"/srv/websockets/{app.name}/live/{process}.sock" for process in app.processes]
        assert re.search(r"^\s*least_conn;", upstream, re.M)


def test_workers_can_hold_all_connections_of_the_host(host):
    worker = host.check_output("pgrep -f 'nginx: worker' | head -n 1")
    assert int(host.check_output(f"grep 'Max open files' /proc/{worker}/limits").split()[3]) >= 8192
    connections = re.search(r"^\s*worker_connections\s+(\d+);", host.file("/etc/nginx/nginx.conf").content_string, re.M)
    assert int(connections[1]) >= 8192
