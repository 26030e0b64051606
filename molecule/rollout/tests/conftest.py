"""What the tests of deploys under load share: versions of the app, and what a host looks like before and after."""

import pathlib
import shutil

import pytest

APPS = pathlib.Path(__file__).parents[1] / "apps"
ECHO = pathlib.Path(__file__).parents[3] / "files" / "echo"


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    """Make a version of an app, the echo app by itself, and return the variables that deploy it."""

    def make(name, *edits, app=ECHO / "app.py", requirements=None):
        folder = tmp_path_factory.mktemp("version")
        code = app.read_text()
        for old, new in edits:
            assert old in code
            code = code.replace(old, new)
        (folder / "app.py").write_text(code)
        (folder / "requirements.txt").write_text(requirements or (ECHO / "requirements.txt").read_text())
        (folder / "version").write_text(f"{name}\n")
        shutil.copy(APPS / "tell.py", folder)
        return {"websockets_src": str(folder), "websockets_command": "{venv}/bin/python tell.py {socket}"}

    return make


@pytest.fixture(scope="module")
def nginx(host):
    """Return the pids of nginx's master and workers, as a function."""
    return lambda: sorted(map(int, host.check_output("pgrep -x nginx").split()))


@pytest.fixture(scope="module")
def packages(host):
    """Return inode, times and path of everything in the virtual environments, as a function."""
    return lambda: host.check_output("find /srv/websockets/echo/venvs -printf '%i %T@ %C@ %p\n' | sort").splitlines()


@pytest.fixture(scope="module")
def left_over(host, echo):
    """Return what is not as it should be where nothing but the live release should be, as {what: (found, expected)}."""

    def look(numprocs=4):
        live, numbers = echo.release, [f"{number:02d}" for number in range(numprocs)]
        looks = {
            "ls /run/websockets/echo": [live],
            f"ls /run/websockets/echo/{live} | grep sock$": [f"echo_{number}.sock" for number in numbers],
            "ls /etc/supervisor/conf.d | grep echo": [f"websockets-echo-{live}.conf"],
            "supervisorctl status | grep -o '^echo-[^ ]*'": [f"echo-{live}:echo_{number}" for number in numbers],
            "pgrep -c -u ws-echo": [str(numprocs)],
            "nginx -T 2>/dev/null | grep -o 'server unix:[^ ;]*' | grep -o '[^/]*$'": [
                f"echo_{number}.sock" for number in numbers
            ],
        }
        found = {command: host.run(command).stdout.split() for command in looks}
        return {command: (found[command], looks[command]) for command in looks if found[command] != looks[command]}

    return look
