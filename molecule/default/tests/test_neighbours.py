"""Somebody else's site and program were on debian12 before, and have not noticed anything."""

testinfra_hosts = ["ansible://debian12"]


def test_programs_keep_their_pids(host):
    assert host.check_output("supervisorctl pid") == host.file("/root/supervisord.pid").content_string.strip()
    assert host.check_output("supervisorctl pid foreign") == host.file("/root/foreign.pid").content_string.strip()


def test_nginx_keeps_its_master(host):
    assert host.file("/run/nginx.pid").content_string == host.file("/root/nginx.pid").content_string


def test_site_still_answers(host):
    read = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8090/').read())"
    assert host.check_output(f'python3 -c "{read}"') == r"b'foreign\n'"


def test_files_are_unchanged(host):
    assert host.run("sha256sum --check --quiet /root/foreign.sha256").rc == 0
