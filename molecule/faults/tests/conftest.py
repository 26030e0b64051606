"""What the tests of faults share."""

import pathlib
import shutil
import time

import pytest

ECHO = pathlib.Path(__file__).parents[3] / "files" / "echo"


@pytest.fixture
def version(tmp_path):
    """Return the variables that deploy the echo app with another file beside it."""

    def make(name, size=0):
        folder = tmp_path / name
        shutil.copytree(ECHO, folder)
        (folder / "version").write_text(f"{name} {time.time_ns()}" + "." * size)  # no earlier run has deployed it
        return {"websockets_src": str(folder)}

    return make


@pytest.fixture
def programs(host):
    """Return the ids of the releases that supervisord runs, as a function."""
    return lambda: {line.split(":")[0] for line in host.check_output("supervisorctl status").splitlines()}
