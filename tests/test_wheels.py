"""The control node gets the wheels for a host's own Python, glibc and architecture, from an index that is a folder here."""

import hashlib
import io
import os
import sys
import tarfile
import zipfile

import pytest
from ansible_collections.websockets.deploy.plugins.module_utils import source, system, wheels
from ansible_collections.websockets.deploy.plugins.module_utils.inputs import InputError
from packaging.markers import default_environment

# A host with another Python than that of these tests.
MARKERS = system.markers(sys.executable) | {
    **{"python_version": "3.99", "python_full_version": "3.99.1", "platform_machine": "x86_64", "glibc": "2.36"},
    **{"implementation_name": "cpython", "platform_python_implementation": "CPython"},
}
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
BACKEND = """
import zipfile
def build_wheel(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(f"{{folder}}/{0}", "w") as made:
        made.writestr("mine-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: mine\\nVersion: 1\\n")
        made.writestr("mine-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        made.writestr("mine-1.dist-info/RECORD", "")
    return "{0}"
"""


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Put a wheel into the index, as a function."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))

    def put(name, tag="py3-none-any", requires=""):
        with zipfile.ZipFile(folder / f"{name}-1-{tag}.whl", "w") as made:
            about = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n{requires}"
            made.writestr(f"{name}-1.dist-info/METADATA", about)
            made.writestr(f"{name}-1.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
            made.writestr(f"{name}-1.dist-info/RECORD", "")

    return put


@pytest.fixture
def get(tmp_path):
    """Get the wheels of an app with these files; return their names."""

    def run(installs_itself=False, lock="", markers=None, **files):
        app, cache = tmp_path / "app", tmp_path / "cache"
        for folder in (app, cache):
            folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (app / name.replace("_", ".")).write_text(text)
        found = source.scan(str(app))
        text = lock + str(found)
        locked = source.text_once(lock, str(cache)) if lock else ""
        needed = wheels.Needed(str(app), found, text, locked, installs_itself)
        path = wheels.archive_once(needed, MARKERS | (markers or {}), str(cache), "", [])
        with tarfile.open(path) as archive:
            return sorted(name for name in archive.getnames() if name.endswith(".whl"))

    return run


def test_wheels_are_those_for_the_host(index, get):
    for name, tag in {
        "plain": "py3-none-any",
        "fast": "cp399-cp399-manylinux_2_36_x86_64",
        "old": "cp399-cp399-manylinux2014_x86_64",
        "stable": "cp39-abi3-manylinux_2_17_x86_64",
    }.items():
        index(name, tag)
    # The same of other hosts.
    for tag in ("cp310-cp310-manylinux_2_36_x86_64", "cp399-cp399-manylinux_2_38_x86_64"):
        index("fast", tag)
    assert get(requirements_txt="plain\nfast\nold\nstable\n") == [
        "./fast-1-cp399-cp399-manylinux_2_36_x86_64.whl",
        "./old-1-cp399-cp399-manylinux2014_x86_64.whl",
        "./plain-1-py3-none-any.whl",
        "./stable-1-cp39-abi3-manylinux_2_17_x86_64.whl",
    ]


def test_markers_ask_the_host(index, get):
    index(
        "one", requires='Requires-Dist: two; python_version >= "3.99"\nRequires-Dist: gone; python_version < "3.99"\n'
    )
    index("two")
    wanted = "one\ngone; platform_machine != 'x86_64'\n"
    assert get(requirements_txt=wanted) == ["./one-1-py3-none-any.whl", "./two-1-py3-none-any.whl"]


@pytest.mark.parametrize(
    "tag",
    ["cp399-cp399-manylinux_2_38_x86_64", "cp399-cp399-manylinux_2_36_aarch64", "cp310-cp310-manylinux_2_36_x86_64"],
    ids=["newer glibc", "another processor", "another Python"],
)
def test_a_package_without_a_wheel_for_the_host_is_refused(index, get, tag):
    index("fast", tag)
    with pytest.raises(InputError) as error:
        get(requirements_txt="fast==1\n")
    assert str(error.value).startswith(
        "websockets_wheels is 'build': pip on the control node finds no wheel of fast==1 for Python 3.99 on x86_64 with"
        " glibc 2.36, and makes none that fits every machine; use a version that has one, or use host. pip says:\n"
    )


def sdist(folder, name, tag):
    """Put a source distribution into the index; return its hash."""
    path = folder / "index" / f"{name}-1.tar.gz"
    texts = {"PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n", "pyproject.toml": PROJECT}
    texts["backend.py"] = BACKEND.format(f"{name}-1-{tag}.whl").replace("mine", name)
    with tarfile.open(path, "w:gz") as made:
        for file, text in texts.items():
            info = tarfile.TarInfo(f"{name}-1/{file}")
            info.size = len(text)
            made.addfile(info, io.BytesIO(text.encode()))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("locked", [True, False], ids=["lock", "requirements.txt"])
def test_a_package_of_sources_in_python_alone_is_built(index, get, tmp_path, locked):
    hashed = sdist(tmp_path, "old", "py3-none-any")
    index("one")
    if locked:
        assert get(lock=f"old==1 ; python_version > '3' \\\n    --hash=sha256:{hashed}\n") == [
            "./old-1-py3-none-any.whl"
        ]
        with pytest.raises(InputError, match=r"finds no wheel of old==1 .*, and makes none that fits every machine;"):
            get(lock=f"old==1 \\\n    --hash=sha256:{'0' * 64}\n")
    else:
        assert get(requirements_txt="one\nold==1\n") == ["./old-1-py3-none-any.whl", "./one-1-py3-none-any.whl"]


def test_a_package_of_sources_for_a_compiler_is_refused(index, get, tmp_path):
    sdist(tmp_path, "old", "cp311-cp311-linux_x86_64")
    with pytest.raises(InputError, match=r"finds no wheel of old==1 .*, and makes none that fits every machine;"):
        get(requirements_txt="old==1\n")


def test_a_package_of_a_lock_has_its_hash(index, get):
    index("one", requires="Requires-Dist: two\n")
    with pytest.raises(InputError, match="THESE PACKAGES DO NOT MATCH THE HASHES"):
        get(lock=f"one==1 --hash=sha256:{'0' * 64}\n")


@pytest.mark.parametrize("tag", ["py3-none-any", "cp399-cp399-linux_x86_64"])
def test_a_wheel_of_the_app_itself(index, get, tag):
    files = {"pyproject_toml": PROJECT, "backend_py": BACKEND.format(f"mine-1-{tag}.whl")}
    if tag == "py3-none-any":
        assert get(True, "# nothing else\n", **files) == ["./own/mine-1-py3-none-any.whl"]
        return
    with pytest.raises(InputError, match="is only for machines like the control node"):
        get(True, "# nothing else\n", **files)


def test_hosts_of_one_kind_share_the_wheels(index, get, monkeypatch):
    index("one")
    first = get(requirements_txt="one\n")
    monkeypatch.setattr(wheels, "_run", None)
    assert get(requirements_txt="one\n") == first


@pytest.mark.parametrize(
    ("markers", "why"),
    [
        (
            {"glibc": ""},
            "wheels can be chosen for CPython with glibc only, and the host has CPython 3.99, or use host.",
        ),
        (
            {"implementation_name": "pypy", "platform_python_implementation": "PyPy"},
            "wheels can be chosen for CPython with glibc only, and the host has PyPy 3.99, or use host.",
        ),
    ],
)
def test_another_kind_of_python_is_refused(get, markers, why):
    with pytest.raises(InputError) as error:
        get(requirements_txt="one\n", markers=markers)
    assert str(error.value) == f"websockets_wheels is 'build': {why}"


def test_a_control_node_without_pip_is_told(get, monkeypatch):
    monkeypatch.setattr(wheels.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError) as error:
        get(requirements_txt="one\n")
    assert str(error.value) == (
        f"websockets_wheels is 'build': the Python that runs Ansible on the control node, {sys.executable}, has no pip;"
        f" install it there ({sys.executable} -m ensurepip, or Debian's python3-pip), or use host."
    )


def test_code_of_the_app_in_its_requirements_is_refused(get):
    with pytest.raises(InputError, match=r"requirements\.txt has a path of the app's own code"):
        get(True, requirements_txt="./lib\n")


def test_an_interpreter_says_what_kind_it_is():
    found = system.markers(sys.executable)
    assert found.pop("glibc")
    assert found == default_environment() | {"platform_release": "", "platform_version": ""}
    assert system.markers("/no/such/python") == {}
