"""A command before the start of a release, and commands in the live release, as a person has them on real hosts."""

import os
import pathlib
import pty
import shutil
import subprocess

import pytest
import testinfra

testinfra_hosts = ["ansible://debian13"]

PROJECT = pathlib.Path(__file__).parents[3]
HOSTS = ("debian12", "debian13")
HOME = "/var/lib/websockets/prepared/ws-prepared"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("app")
    for path in (PROJECT / "files/echo/app.py", PROJECT / "files/echo/requirements.txt"):
        shutil.copy(path, folder)
    shutil.copy(pathlib.Path(__file__).parents[1] / "apps/commands/prepare.sh", folder)
    return folder


@pytest.fixture(scope="module")
def hosts(request):
    inventory = request.config.option.ansible_inventory
    return {name: testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory) for name in HOSTS}


@pytest.fixture(scope="module")
def variables(source):
    """Return the variables of a version of an app that has a command before its start."""
    return lambda version, **more: {
        "websockets_app": "prepared",
        "websockets_src": str(source),
        "websockets_listen": "8090",
        "websockets_numprocs": 1,
        "websockets_before_start": "sh prepare.sh",
        "websockets_environment": {"VERSION": version},
        "websockets_secrets": {"TOKEN": "hunter2"},
        **more,
    }


@pytest.fixture(scope="module")
def prepared(host, play, variables):
    """Deploy the app's first version, and remove the app at the end."""
    run = play("site", **variables("one"))
    assert run.returncode == 0, run.stdout
    yield
    assert play("remove", **variables("one"), app_to_remove="prepared").returncode == 0


def ran(host):
    return host.check_output(f"cat {HOME}/ran").split()


def live(host):
    return host.check_output("readlink /srv/websockets/prepared/live").rsplit("/", 1)[-1]


def code(host):
    return f"/srv/websockets/prepared/releases/{live(host)}/app"


def test_on_one_of_two_hosts(hosts, play, variables):
    both = {"limit": ",".join(HOSTS), "websockets_before_start_on": "one"}
    try:
        run = play("site", **variables("one"), **both)
        assert run.returncode == 0, run.stdout
        assert ran(hosts["debian12"]) == ["one"]
        assert not hosts["debian13"].file(f"{HOME}/ran").exists

        before = {name: live(host) for name, host in hosts.items()}
        hosts["debian12"].check_output(f"touch {HOME}/fail")
        run = play("site", **variables("two"), **both)
        assert run.returncode != 0
        assert "websockets_before_start has ended with exit status 3" in run.stdout
        assert "has not run to its end on debian12, the first host of this run" in run.stdout
        assert {name: live(host) for name, host in hosts.items()} == before

        hosts["debian12"].check_output(f"rm {HOME}/fail")
        run = play("site", **variables("two"), **both)
        assert run.returncode == 0, run.stdout
        assert ran(hosts["debian12"]) == ["one", "two", "two"]
        assert all(live(host) != before[name] for name, host in hosts.items())
        assert not hosts["debian13"].file(f"{HOME}/ran").exists
    finally:
        gone = play("remove", **variables("one"), limit=both["limit"], app_to_remove="prepared")
    assert gone.returncode == 0, gone.stdout


def test_it_runs_once_for_a_release_and_what_it_builds_belongs_to_root(host, prepared, play, variables):
    assert ran(host) == ["one"]
    assert host.check_output(f"cat {code(host)}/static/built") == "built with hunter2 by ws-prepared"
    assert host.check_output(f"find {code(host)} ! -user root -o ! -type l -perm /6022") == ""
    assert host.check_output(f"sudo -u ws-prepared head -c 5 {code(host)}/static/built") == "built"
    assert host.file("/etc/passwd").user == "root"
    assert host.run("pgrep -x sleep -u ws-prepared").rc == 1, "what it has started in the background is gone"
    log = host.file("/var/log/websockets/prepared/before_start.log")
    assert (log.content_string, log.mode, log.group) == ("the token is (hidden)\n", 0o640, "adm")

    again = play("site", **variables("one"))
    assert again.returncode == 0, again.stdout
    assert "changed=0" in again.stdout
    assert ran(host) == ["one"]

    # A rollback leaves the database as it is, unless it is asked.
    assert play("site", **variables("two")).returncode == 0
    two = live(host)
    assert play("rollback", websockets_only="prepared").returncode == 0
    assert ran(host) == ["one", "two"]
    asked = {"websockets_before_start_at_rollback": True, "websockets_rollback_to": two}
    run = play("rollback", websockets_only="prepared", **asked)
    assert run.returncode == 0, run.stdout
    assert (live(host), ran(host)) == (two, ["one", "two", "two"])


def test_a_command_that_fails_changes_nothing(host, echo, deploy, load):
    before = echo.release, echo.pids(), host.check_output("ls /srv/websockets/echo/releases")
    command = "sh -c 'echo no database for $TOKEN; touch made; exit 3'"
    with load("before-start", rate=100, held=100) as report:
        run = deploy(websockets_before_start=command, websockets_secrets={"TOKEN": "hunter2"})
    assert run.returncode != 0
    assert "websockets_before_start has ended with exit status 3" in run.stdout
    assert "no database for (hidden)" in run.stdout
    assert "hunter2" not in run.stdout
    assert (echo.release, echo.pids(), host.check_output("ls /srv/websockets/echo/releases")) == before
    assert report.harm() == {}


def test_the_next_run_goes_on_where_one_was_killed(host, prepared, play, start, variables, wait):
    before = live(host)
    host.check_output(f"touch {HOME}/wait")
    run = start("site", **variables("three"))
    wait("pgrep -x sleep -u ws-prepared >/dev/null")
    # The module on the host is the parent of the command.
    host.check_output("kill -9 $(awk '/^PPid/ {print $2}' /proc/$(pgrep -x sleep -u ws-prepared)/status)")
    said, _ = run.communicate(timeout=60)
    assert run.returncode != 0, said
    assert live(host) == before
    wait("! pgrep -x sleep -u ws-prepared >/dev/null")
    host.check_output(f"rm {HOME}/wait")
    # The folder is still the user's.
    assert host.run("find /srv/websockets/prepared/releases -user ws-prepared | grep -q .").rc == 0
    again = play("site", **variables("three"))
    assert again.returncode == 0, again.stdout
    assert ran(host)[-2:] == ["three", "three"]
    assert live(host) != before
    assert host.check_output(f"find {code(host)} ! -user root") == ""


# bin/run


@pytest.fixture(scope="module")
def command(tmp_path_factory, request):
    """Return the arguments of bin/run for the host, up to the command."""
    checkout = tmp_path_factory.mktemp("checkout")
    for path in (PROJECT / "playbooks", PROJECT / ".collections", PROJECT / "ansible.cfg"):
        (checkout / path.name).symlink_to(path)
    shutil.copytree(PROJECT / "bin", checkout / "bin", symlinks=True)
    # The tests have an environment already.
    (checkout / "bin/lib/venv.sh").write_text("use_venv() { :; }\n")
    inventory = request.path.parents[1] / "inventory"
    return lambda *words: [str(checkout / "bin/run"), "-i", str(inventory), "--limit", "debian13", *words]


@pytest.fixture(scope="module")
def secret(deploy):
    """Deploy the echo app with a secret, and at the end without one."""
    assert deploy(websockets_secrets={"TOKEN": "hunter2"}).returncode == 0
    yield
    assert deploy().returncode == 0


def test_a_command_in_the_live_release(secret, echo, command):
    show = "import os, sys; print(os.environ['TOKEN'], os.getcwd(), sys.argv[1], sys.stdin.read()); sys.exit(7)"
    done = subprocess.run(
        command("--", "python", "-c", show, "it's  {{ one }}"), input="in", capture_output=True, text=True, check=False
    )
    code = f"/srv/websockets/echo/releases/{echo.release}/app"
    assert (done.returncode, done.stdout) == (7, f"hunter2 {code} it's  {{{{ one }}}} in\n"), done.stderr


def test_a_command_with_a_terminal(secret, command):
    words = command("--", "sh", "-c", "id -un; tty; trap 'echo caught' INT; echo ready; read line; exit 4")
    pid, terminal = pty.fork()
    if not pid:
        os.execv(words[0], words)
    seen = b""
    try:
        while b"ready" not in seen:
            seen += os.read(terminal, 1000)
        os.write(terminal, b"\x03")
        while b"caught" not in seen:
            seen += os.read(terminal, 1000)
        os.write(terminal, b"\n")
    except OSError:
        pytest.fail(f"it has ended: {seen.decode()}")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
    assert b"ws-echo" in seen
    assert b"/dev/pts/" in seen


def test_a_command_for_an_app_that_is_not_there(command):
    done = subprocess.run(command("--app", "nobody", "--", "true"), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (125, "")
    assert "there is no app nobody on this host; its apps: echo" in done.stderr
