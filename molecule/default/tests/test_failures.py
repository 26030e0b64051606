"""Deploys that cannot succeed: nginx serves what it served before, and the error says why."""

import pytest

# What is tried here is the same on all hosts, and each try is a deploy.
testinfra_hosts = ["ansible://debian13"]


@pytest.fixture
def unharmed(echo, client):
    """Compare release, processes and an echo before and after the test."""
    before = echo.release, echo.pids()
    yield
    assert (echo.release, echo.pids()) == before
    client(echo)


def test_release_that_does_not_start_gets_no_traffic(host, deploy, unharmed):
    failed = deploy(websockets_command="{venv}/bin/python -c 'raise SystemExit(\"no database\")' app.py {socket}")
    assert failed.returncode != 0
    assert "has not passed the gate" in failed.stdout
    assert "echo_00.sock" in failed.stdout
    assert "no database" in failed.stdout
    assert host.check_output("ls /etc/supervisor/conf.d | grep -c '^websockets-echo-'") == "1"


def test_missing_package_is_in_pips_own_words(deploy, unharmed, tmp_path):
    (tmp_path / "app.py").write_text("raise SystemExit")
    (tmp_path / "requirements.txt").write_text("websockets==0.0.1.dev1\n")
    failed = deploy(websockets_src=str(tmp_path))
    assert failed.returncode != 0
    assert "websockets==0.0.1.dev1" in failed.stdout


def test_package_with_another_hash_is_not_installed(host, deploy, unharmed, tmp_path):
    venvs = host.check_output("ls -d /srv/websockets/echo/venvs/*/.complete")
    (tmp_path / "app.py").write_text("raise SystemExit")
    (tmp_path / "requirements.txt").write_text(f"websockets==17.4 --hash=sha256:{'0' * 64}\n")
    failed = deploy(websockets_src=str(tmp_path))
    assert failed.returncode != 0
    assert "nginx serves what it served before" in failed.stdout
    assert "THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE" in failed.stdout
    assert host.check_output("ls -d /srv/websockets/echo/venvs/*/.complete") == venvs


def test_nginx_that_refuses_keeps_its_working_files(host, deploy, unharmed):
    site = host.file("/etc/nginx/conf.d/websockets-echo.conf").content_string
    host.check_output("echo 'nonsense on;' > /etc/nginx/conf.d/zz-broken.conf")
    try:
        failed = deploy(websockets_proxy_timeout=7)
        assert failed.returncode != 0
        assert 'unknown directive "nonsense" in /etc/nginx/conf.d/zz-broken.conf:1' in failed.stdout
        assert host.file("/etc/nginx/conf.d/websockets-echo.conf").content_string == site
    finally:
        host.check_output("rm /etc/nginx/conf.d/zz-broken.conf")


def test_port_of_another_program_is_refused_before_anything_is_touched(deploy, unharmed):
    failed = deploy(websockets_listen="22")
    assert failed.returncode != 0
    assert "Nothing has been touched" in failed.stdout
    assert "websockets_listen is '22': sshd listens there already" in failed.stdout


def test_name_of_another_app_is_refused_before_anything_is_touched(deploy, unharmed):
    failed = deploy(websockets_listen="8081")
    assert failed.returncode != 0
    assert "websockets_server_name is 'localhost': the app asgi has this name at 0.0.0.0:8081 already" in failed.stdout


def test_misspelt_variable_is_refused(deploy, unharmed):
    failed = deploy(websockets_numproc=8)
    assert failed.returncode != 0
    assert (
        "websockets_numproc is not an input of the role websockets: did you mean websockets_numprocs?" in failed.stdout
    )
