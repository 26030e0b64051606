"""If the packages of a release cannot be made, the error has the cause, and the whole log is on the host."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.websockets.deploy.plugins.module_utils import paths
from role import load

release = load("modules/release")


@pytest.fixture(scope="module")
def venv(tmp_path_factory):
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True)
    return folder


class Failed(Exception):
    pass


@pytest.fixture
def app(host, tmp_path):
    os.makedirs(f"{paths.LOG}/echo")
    return tmp_path


@pytest.fixture
def pip(app, venv, monkeypatch):
    """Have pip install the app's requirements; return the words of the error."""
    # No test needs an index. This is a port of this machine at which nothing listens.
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)

    def run(requirements, *arguments, index_url=""):
        (app / "requirements.txt").write_text(requirements)
        command = [f"{venv}/bin/python", "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
        log = release.Log(paths.pip_log("echo"), index_url)
        return failed(lambda it: release.execute(it, log, [*command, *arguments, "-r", "requirements.txt"], str(app)))

    return run


def failed(call, **params):
    def fail_json(msg):
        raise Failed(msg)

    with pytest.raises(Failed) as error:
        call(SimpleNamespace(params={"release": {"app": "echo"}, **params}, fail_json=fail_json, tmpdir="/nonexistent"))
    return str(error.value)


def package(app, name, backend):
    """Make a package whose build needs no other one."""
    folder = app / name
    folder.mkdir()
    (folder / "backend.py").write_text(backend)
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    return f"./{name}\n"


FAULTS = {
    # As setup.py of psycopg2 does it.
    "a program that is missing": (
        "print('running\\n' * 50); print('Error: pg_config executable not found.\\n\\nSee the docs', file=sys.stderr);"
        " raise SystemExit(1)",
        "Error: pg_config executable not found.",
    ),
    "a header that is missing": (
        "print('app.c:1:10: fatal error: Python.h: No such file or directory\\n' + 'note\\n' * 50); raise SystemExit(1)",
        "app.c:1:10: fatal error: Python.h: No such file or directory",
    ),
    "an exception": (
        "print('x\\n' * 50); import numpy_of_mine",
        "ModuleNotFoundError: No module named 'numpy_of_mine'",
    ),
    "a full disk": ("raise OSError(28, 'No space left on device')", "OSError: [Errno 28] No space left on device"),
    "no word of an error": ("print('x\\n' * 50 + 'cannot go on'); raise SystemExit(1)", "cannot go on"),
}


@pytest.mark.parametrize(("fault", "line"), FAULTS.values(), ids=FAULTS)
def test_a_package_that_cannot_be_built(app, pip, fault, line):
    hook = f"import sys\ndef get_requires_for_build_wheel(config_settings=None):\n    {fault}\n"
    told = pip(package(app, "broken", hook))
    assert told.startswith("The release cannot be built; nothing of echo was serving before. ")
    assert "-m pip install failed:\nProcessing ./broken\n" in told
    assert line in told.splitlines()
    assert "See above" not in told
    assert told.splitlines()[-1] == f"The whole log is {paths.pip_log('echo')} on the host."
    assert len(told.splitlines()) < 15
    log = Path(paths.pip_log("echo"))
    assert line in log.read_text()
    assert "[end of output]" in log.read_text()
    assert oct(log.stat().st_mode)[-3:] == "640"


def test_a_wheel_that_cannot_be_built(app, pip):
    hook = (
        "def build_wheel(*_, **__):\n    raise SystemExit(\"error: command 'gcc' failed: No such file or directory\")\n"
    )
    assert "error: command 'gcc' failed: No such file or directory" in pip(package(app, "broken", hook)).splitlines()


def test_a_requirement_that_no_index_has(pip):
    assert "ERROR: No matching distribution found for nope==1" in pip("nope==1\n", "--no-index").splitlines()


def wheel(app, name, requires=""):
    """Make an empty wheel."""
    folder = app / "wheels"
    code = f"""
import zipfile
with zipfile.ZipFile({str(folder / f"{name}-1-py3-none-any.whl")!r}, "w") as made:
    made.writestr("{name}-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: {name}\\nVersion: 1\\n{requires}")
    made.writestr("{name}-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    made.writestr("{name}-1.dist-info/RECORD", "")
"""
    folder.mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-c", code], check=True)
    return ["--no-index", "--find-links", str(folder)]


def test_packages_that_exclude_each_other(app, pip):
    wheel(app, "one", "Requires-Dist: two<1\\n")
    told = pip("one==1\ntwo==1\n", *wheel(app, "two"))
    assert "    one 1 depends on two<1" in told.splitlines()


def test_a_package_with_another_hash(app, pip):
    told = pip(f"one==1 --hash=sha256:{'0' * 64}\n", *wheel(app, "one"))
    assert "THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE" in told
    assert f"Expected sha256 {'0' * 64}" in told


@pytest.mark.parametrize("userinfo", ["user:hunter2", "hunter2", "user:hun%74er2"])
def test_no_password_of_an_index_is_told(app, pip, userinfo):
    told = pip("nope==1\n", "--retries=0", index_url=f"http://{userinfo}@127.0.0.1:9/simple")
    log = Path(paths.pip_log("echo")).read_text()
    for text in (told, log):
        assert "127.0.0.1" in text
        assert "hunter2" not in text
        assert "hun%74er2" not in text


def test_a_build_that_tells_its_index_and_its_password(app, pip):
    hook = (
        "import os\ndef get_requires_for_build_wheel(config_settings=None):\n"
        "    url = os.environ['PIP_INDEX_URL']\n    raise SystemExit(f'error: {url} {url[12:19]}')\n"
    )
    told = pip(package(app, "broken", hook), index_url="http://user:hunter2@127.0.0.1:9/simple")
    assert "error: http://***@127.0.0.1:9/simple (hidden)" in told.splitlines()
    assert "hunter2" not in Path(paths.pip_log("echo")).read_text()


def test_bytes_that_are_not_utf8_are_escaped(app, pip):
    hook = (
        "import os\ndef get_requires_for_build_wheel(config_settings=None):\n"
        "    os.write(2, b'error: caf\\xe9 is missing\\n'); raise SystemExit(1)\n"
    )
    assert "is missing" in pip(package(app, "broken", hook))


@pytest.mark.parametrize("log", [True, False], ids=["log", "no folder for the log"])
def test_a_virtual_environment_that_cannot_be_made(app, log):
    (app / "file").touch()
    if not log:
        os.rmdir(f"{paths.LOG}/echo")
    params = {"python": sys.executable, "pip_index_url": "", "pip_args": [], "wheels": None, "requirements": None}
    params["code"] = {"installs_itself": False}
    told = failed(lambda it: release.install(it, str(app / "file" / "venv"), str(app)), **params)
    assert f"{sys.executable} -m venv {app}/file/venv failed:\n" in told
    assert "Not a directory" in told
    assert ("The whole log is" in told) == log


def install(app, *pip_args, requirements=None, installs_itself=False, wheels=None):
    """Have the module make the packages of a release whose code is in ``code``; return their folder."""
    tmp = app / "tmp"
    shutil.rmtree(tmp, ignore_errors=True)
    tmp.mkdir()
    params = {"release": {"app": "echo"}, "python": sys.executable, "pip_index_url": "", "pip_args": list(pip_args)}
    if requirements:
        (app / "locked.txt").write_text(requirements)
        params["requirements"] = str(app / "locked.txt")

    def fail_json(msg):
        raise Failed(msg)

    params = {"requirements": None, "wheels": wheels, "code": {"installs_itself": installs_itself}, **params}
    module = SimpleNamespace(params=params, tmpdir=str(tmp), fail_json=fail_json)
    release.install(module, str(app / "venv"), str(app / "code"))
    return app / "venv"


BACKEND = """
import os, zipfile
def build_wheel(folder, config_settings=None, metadata_directory=None):
    os.makedirs("build/lib")
    with zipfile.ZipFile(f"{folder}/mine-1-py3-none-any.whl", "w") as made:
        made.writestr("mine.py", open("mine.py").read())
        made.writestr("mine-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: mine\\nVersion: 1\\n")
        made.writestr("mine-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        made.writestr("mine-1.dist-info/RECORD", "")
    return "mine-1-py3-none-any.whl"
"""


@pytest.mark.parametrize("by_lock", [True, False], ids=["lock", "requirements.txt"])
def test_a_build_leaves_nothing_in_the_release(app, monkeypatch, by_lock):
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    package(app, "code", BACKEND)
    (app / "code" / "mine.py").write_text("here = 1\n")
    if not by_lock:
        (app / "code" / "requirements.txt").write_text(".\n")
    before = sorted(path.name for path in (app / "code").rglob("*"))
    venv = install(app, installs_itself=True)
    assert subprocess.run([venv / "bin" / "python", "-c", "import mine"], cwd="/", check=False).returncode == 0
    assert sorted(path.name for path in (app / "code").rglob("*")) == before


def test_a_lock_is_installed_with_its_hashes_and_nothing_else(app, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    (app / "code").mkdir()
    offline = wheel(app, "one", "Requires-Dist: two\\n")
    hashed = hashlib.sha256((app / "wheels" / "one-1-py3-none-any.whl").read_bytes()).hexdigest()
    venv = install(app, *offline, requirements=f"one==1 --hash=sha256:{hashed}\n")
    assert len(list(venv.glob("lib/*/site-packages/one-1.dist-info"))) == 1
    (venv / release.releases.COMPLETE).unlink()
    with pytest.raises(Failed, match="Hashes are required in --require-hashes mode"):
        install(app, *offline, requirements="one==1\n")


def test_wheels_of_the_control_node_are_all_that_pip_asks(app, monkeypatch):
    # The index answers nobody.
    for name, value in (("CONFIG_FILE", os.devnull), ("INDEX_URL", "http://127.0.0.1:9/simple"), ("RETRIES", "0")):
        monkeypatch.setenv(f"PIP_{name}", value)
    (app / "code").mkdir()
    (app / "code" / "requirements.txt").write_text("one==1\n")
    wheel(app, "one")
    with pytest.raises(Failed, match="No matching distribution found for one==1"):
        install(app)
    with tarfile.open(app / "wheels.tar", "w") as archive:
        archive.add(app / "wheels", ".")
    venv = install(app, "--no-such-argument", wheels=str(app / "wheels.tar"))
    assert len(list(venv.glob("lib/*/site-packages/one-1.dist-info"))) == 1
