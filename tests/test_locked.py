"""The lock file of an app, as uv, Poetry and pip write it, becomes requirements with hashes; what it cannot be is refused.

In tests/locks/ are files of these programs, with other hosts in their addresses, and what the programs export of them.
"""

import json
import re
import shutil
from pathlib import Path

import pytest
from ansible_collections.websockets.deploy.plugins.module_utils import locked, source
from ansible_collections.websockets.deploy.plugins.module_utils.inputs import InputError
from packaging.markers import Marker
from packaging.requirements import Requirement
from role import plan

LOCKS = Path(__file__).parent / "locks"
HASH = f"sha256:{'0' * 64}"
PYPROJECT = '[project]\nname = "chat"\nversion = "1"\ndependencies = ["h11>=0.14"]\n'
UV = (
    'version = 1\nrequires-python = ">=3.9"\n[[package]]\nname = "chat"\nversion = "1"\nsource = { virtual = "." }\n'
    'dependencies = [{ name = "h11" }]\n[[package]]\nname = "h11"\nversion = "0.16.0"\n'
    'source = { registry = "https://index.example.com" }\n'
    f'wheels = [{{ url = "https://files.example.com/h11.whl", hash = "{HASH}" }}]\n'
)
POETRY = (
    '[[package]]\nname = "h11"\nversion = "0.16.0"\noptional = false\ngroups = ["main"]\n'
    f'files = [{{file = "h11.whl", hash = "{HASH}"}}]\n'
    '[metadata]\nlock-version = "2.1"\npython-versions = "^3.9"\ncontent-hash = ""\n'
)
PYLOCK = (
    'lock-version = "1.0"\nrequires-python = ">=3.9"\ncreated-by = "x"\n[[packages]]\nname = "h11"\nversion = "0.16.0"\n'
    f'wheels = [{{ name = "h11.whl", url = "https://files.example.com/h11.whl", hashes = {{ sha256 = "{"0" * 64}" }} }}]\n'
)
ONE = f"h11==0.16.0 \\\n    --hash={HASH}\n"


def read(folder, **files):
    """Return the lock of an app of these files; in their names, ``_`` stands for a dot."""
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return locked.read(str(folder), source.scan(folder))


def refusal(folder, **files):
    with pytest.raises(InputError) as error:
        read(folder, **files)
    return str(error.value)


# What the programs write


def environments():
    for python in ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14"):
        for system, platform in (("linux", "Linux"), ("win32", "Windows"), ("darwin", "Darwin")):
            versions = {"python_version": python, "python_full_version": f"{python}.4"}
            yield {**versions, "sys_platform": system, "platform_system": platform, "extra": ""}


def installed(text, environment):
    """Return {(name, version, hashes)} of the requirements that are meant for an environment."""
    found = set()
    for line in text.replace("\\\n", "").splitlines():
        given, *hashes = re.split(r"\s+--hash=", line)
        requirement = Requirement(given)
        if not requirement.marker or Marker(str(requirement.marker)).evaluate(environment):
            found.add((requirement.name, str(requirement.specifier), frozenset(one.strip() for one in hashes)))
    return found


@pytest.mark.parametrize("tool", ["uv", "poetry"])
def test_what_is_installed_is_what_the_program_exports(tool):
    text = read(LOCKS / tool).text
    exported = (LOCKS / tool / "exported.txt").read_text()
    for environment in environments():
        assert installed(text, environment) == installed(exported, environment)
    assert len({len(installed(text, environment)) for environment in environments()}) > 1, "markers matter"


def test_what_pip_has_locked():
    lock = read(LOCKS / "pip")
    assert [(one.name, one.version, len(one.hashes)) for one in lock.packages] == [
        ("click", "8.5.1", 1),
        ("h11", "0.16.0", 1),
        ("wsproto", "1.3.2", 1),
    ]
    assert lock.project


@pytest.mark.parametrize("text", [{"uv_lock": UV}, {"poetry_lock": POETRY}, {"pylock_toml": PYLOCK}], ids=str)
@pytest.mark.parametrize("project", [{"pyproject_toml": PYPROJECT}, {}], ids=["pyproject", "no pyproject"])
def test_each_lock_is_the_same_requirements(tmp_path, text, project):
    assert read(tmp_path, **text, **project).text == ONE


def test_a_package_is_needed_where_one_of_the_ways_to_it_is_open(tmp_path):
    def package(name, *needs, **more):
        return {"name": name, "version": "1", "source": {"registry": "x"}, "sdist": {"hash": HASH}, **more} | {
            "dependencies": [dict(zip(("name", "marker"), need, strict=False)) for need in needs]
        }

    root = package("chat", ["a"], ["b", "os_name == 'b'"], ["e", "extra == 'group-4-chat-dev'"]) | {
        "source": {"editable": "."}
    }
    # a and c need each other; d needs both ways of b; without the extra, nothing needs f.
    others = [
        package("a", ["c", "os_name == 'c'"]),
        package("b", ["d", "os_name == 'd'"], ["c"]),
        package("c", ["a"]),
        package("d", **{"optional-dependencies": {"x": [{"name": "f"}]}}),
        package("e"),
        package("f"),
    ]
    lock = {"version": 1, "package": [root, *others]}
    packages, _ = locked._uv(json.loads(json.dumps(lock)))
    assert {one.name: one.marker for one in packages} == {
        "a": "",
        "b": "(os_name == 'b')",
        "c": "(os_name == 'b') or (os_name == 'c')",
        "d": "(os_name == 'b') and (os_name == 'd')",
        "e": "(python_version < '0')",
    }


@pytest.mark.parametrize(
    ("marker", "without"),
    [
        ("extra == 'redis' and os_name == 'x'", "python_version < '0' and os_name == 'x'"),
        ('extra != "redis"', "python_version > '0'"),
        ("'dev' in dependency_groups", "python_version < '0'"),
        ("'main' in dependency_groups", "python_version > '0'"),
        ("'main' not in dependency_groups", "python_version < '0'"),
        ("'redis' in extras", "python_version < '0'"),
        ("'redis' not in extras or os_name == 'x'", "python_version > '0' or os_name == 'x'"),
        ("'linux' in sys_platform", "'linux' in sys_platform"),
    ],
)
def test_no_extra_is_installed_and_only_the_default_groups(marker, without):
    assert locked._without_optional(marker, ["main"]) == without


# Which file


def test_a_requirements_txt_goes_before_a_lock(tmp_path):
    assert read(tmp_path, requirements_txt="", uv_lock="broken", pyproject_toml=PYPROJECT) is None


def test_a_lock_that_is_no_part_of_the_release_does_not_count(tmp_path):
    for name, text in (("uv.lock", UV), ("pylock.toml", PYLOCK)):
        (tmp_path / name).write_text(text)
    assert locked.read(str(tmp_path), source.scan(tmp_path, ["pylock.toml"])).name == "uv.lock"


def test_several_locks_are_refused(tmp_path):
    assert refusal(tmp_path, uv_lock=UV, pylock_toml=PYLOCK) == (
        "websockets_src is 'uv.lock, pylock.toml': these are several locks, and one decides what is installed; list the"
        " others in websockets_exclude."
    )


@pytest.mark.parametrize(
    "text",
    [
        PYPROJECT,
        '[project]\nname = "chat"\ndependencies = ["h11; os_name == \'x\'"]\n',
        '[tool.poetry.dependencies]\npython = "^3.11"\nh11 = "^0.14"\n',
        '[tool.poetry.dependencies]\nh11 = { version = "^0.14", optional = true }\n',
    ],
)
def test_dependencies_without_a_lock_are_refused(tmp_path, text):
    assert refusal(tmp_path, pyproject_toml=text) == (
        "websockets_src is 'pyproject.toml': it has dependencies, and there is no lock and no requirements.txt beside it;"
        " make one: uv lock (uv.lock), poetry lock (poetry.lock), pip lock . (pylock.toml)."
    )


@pytest.mark.parametrize(
    "text",
    ["", "[tool.ruff]\nline-length = 120\n", '[project]\nname = "a"\n', '[tool.poetry.dependencies]\npython = "^3"\n'],
)
def test_a_project_without_dependencies_needs_no_lock(tmp_path, text):
    assert read(tmp_path, pyproject_toml=text) is None


BUILD = '[build-system]\nrequires = ["setuptools"]\n'


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("", False),
        (BUILD, True),
        ("[tool.uv]\npackage = true\n", True),
        (f"{BUILD}[tool.uv]\npackage = false\n", False),
        (f"{BUILD}[tool.poetry]\npackage-mode = false\n", False),
    ],
)
def test_a_project_that_is_a_package_is_installed_too(tmp_path, text, is_one):
    assert read(tmp_path, uv_lock=UV, pyproject_toml=PYPROJECT + text).project == is_one


# What is refused

EXPORT = {
    "uv_lock": "uv export --no-dev --no-emit-project --no-hashes --output-file requirements.txt.",
    "poetry_lock": "poetry export --without-hashes --output requirements.txt.",
    "pylock_toml": "pip freeze > requirements.txt.",
}
INDEX = 'source = { registry = "https://index.example.com" }'
ELSEWHERE = {
    "uv, git": (
        "uv_lock",
        UV.replace(INDEX, 'source = { git = "https://git.example/h11" }'),
        "h11 is from git https://git.example/h11",
    ),
    "uv, folder": ("uv_lock", UV.replace(INDEX, 'source = { editable = "lib/h11" }'), "h11 is from editable lib/h11"),
    "uv, address": (
        "uv_lock",
        UV.replace(INDEX, 'source = { url = "https://x/h11.whl" }'),
        "h11 is from url https://x/h11.whl",
    ),
    "uv, workspace": (
        "uv_lock",
        UV + '[manifest]\nmembers = ["chat", "lib"]\n',
        "it is the lock of a workspace (chat, lib)",
    ),
    "uv, no hash": ("uv_lock", UV.replace(f', hash = "{HASH}"', ""), "h11 0.16.0 has no hash in it"),
    "Poetry, git": (
        "poetry_lock",
        POETRY.replace("[metadata]", '[package.source]\ntype = "git"\nurl = "https://git.example/h11"\n[metadata]'),
        "h11 is from type git url https://git.example/h11",
    ),
    "PEP 751, git": (
        "pylock_toml",
        PYLOCK
        + '[[packages]]\nname = "a"\nvcs = { type = "git", url = "https://hunter2@git.example/a", commit-id = "1" }\n',
        "a is from vcs type git url https://***@git.example/a commit-id 1",
    ),
    "PEP 751, folder": (
        "pylock_toml",
        PYLOCK + '[[packages]]\nname = "a"\ndirectory = { path = "lib/a" }\n',
        "a is from directory path lib/a",
    ),
    "PEP 751, no hash": ("pylock_toml", PYLOCK.replace(f'sha256 = "{"0" * 64}"', ""), "h11 0.16.0 has no hash in it"),
}


@pytest.mark.parametrize(("name", "text", "why"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_what_is_in_no_index_is_refused(tmp_path, name, text, why):
    assert refusal(tmp_path, **{name: text}) == (
        f"websockets_src is '{name.replace('_', '.')}': {why}, and the role installs only packages of an index; use a"
        f" release of it, or a requirements.txt: {EXPORT[name]}"
    )


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("uv_lock", UV.replace("version = 1", "version = 2", 1), "ValueError: its version is 2, and the role knows 1"),
        ("uv_lock", "", "KeyError: 'version'"),
        ("uv_lock", UV.replace('name = "h11" }', 'name = "gone" }'), "KeyError: 'gone'"),
        ("poetry_lock", POETRY.replace("2.1", "2.0"), "ValueError: Poetry before 2.0 has made it"),
        ("pylock_toml", "packages = 1\nlock-version = '1.0'\n", "TypeError: 'int' object is not iterable"),
    ],
)
def test_what_is_no_lock_is_refused(tmp_path, name, text, why):
    name_of_file, command = name.replace("_", "."), locked.COMMANDS[name.replace("_", ".")]
    assert refusal(tmp_path, **{name: text}) == (
        f"websockets_src is '{name_of_file}': it cannot be read as a lock ({why}); make it again: {command}."
    )


@pytest.mark.parametrize("name", ["uv_lock", "poetry_lock", "pylock_toml", "pyproject_toml"])
@pytest.mark.parametrize("text", ["<<<<<<< HEAD\n", "caf\xe9 = 1\n"])
def test_what_is_not_toml_is_refused(tmp_path, name, text):
    told = refusal(tmp_path, **{name: text})
    assert told.startswith(f"websockets_src is '{name.replace('_', '.')}': it is not TOML (")


@pytest.mark.parametrize("dependencies", ["['a b']", "1", "['']"])
def test_dependencies_that_are_none_are_refused(tmp_path, dependencies):
    told = refusal(tmp_path, pyproject_toml=f'[project]\nname = "a"\ndependencies = {dependencies}\n', uv_lock=UV)
    assert told.startswith("websockets_src is 'pyproject.toml': ")


@pytest.mark.parametrize(
    ("wanted", "has"),
    [("h11>=0.17", "h11 0.16.0"), ("wsproto", "no wsproto"), ("H11[x]==0.15", "H11 0.16.0")],
)
@pytest.mark.parametrize("text", [{"uv_lock": UV}, {"poetry_lock": POETRY}, {"pylock_toml": PYLOCK}], ids=str)
def test_a_lock_that_is_older_than_the_dependencies_is_refused(tmp_path, text, wanted, has):
    (name,) = (name.replace("_", ".") for name in text)
    told = refusal(tmp_path, **text, pyproject_toml=PYPROJECT.replace("h11>=0.14", wanted))
    assert told == (
        f"websockets_src is '{name}': pyproject.toml asks for {wanted}, and the lock has {has}; run"
        f" {locked.COMMANDS[name]}."
    )


@pytest.mark.parametrize("wanted", ["wsproto; os_name == 'x'", "h11==0.16", "H11"])
def test_a_lock_that_has_the_dependencies_is_not(tmp_path, wanted):
    assert read(tmp_path, uv_lock=UV, pyproject_toml=PYPROJECT.replace("h11>=0.14", wanted))


@pytest.mark.parametrize(
    ("python", "fits"),
    [(">=3.13.2", True), (">=3.14", False), ("<3.13", False), ("==3.13.*", True), ("", True), ("^3.14", True)],
)
def test_a_lock_for_another_python_is_refused(tmp_path, python, fits):
    (tmp_path / "uv.lock").write_text(UV.replace(">=3.9", python))
    (tmp_path / "app.py").touch()
    if fits:
        assert plan(src=str(tmp_path))
        return
    with pytest.raises(InputError) as error:
        plan(src=str(tmp_path))
    assert str(error.value) == (
        f"websockets_src is 'uv.lock': it is for Python {python}, and the app would run with 3.13; name another in"
        " websockets_python, or change requires-python and run uv lock."
    )


# What a lock decides


@pytest.fixture
def app(tmp_path):
    for name in ("uv.lock", "pyproject.toml"):
        shutil.copy(LOCKS / "uv" / name, tmp_path)
    (tmp_path / "app.py").touch()
    return tmp_path


def venv(app):
    return plan(src=str(app))["release"]["venv"]


def test_a_lock_decides_the_packages_and_its_comments_do_not(app):
    before = venv(app)
    lock = (app / "uv.lock").read_text()
    (app / "uv.lock").write_text(f"# again\n{lock}")
    (app / "app.py").write_text("1")
    assert venv(app) == before
    (app / "uv.lock").write_text(lock.replace("0.16.0", "0.16.1"))
    assert venv(app) != before


def test_code_that_is_installed_decides(app):
    (app / "pyproject.toml").write_text((app / "pyproject.toml").read_text() + BUILD)
    before = venv(app)
    (app / "app.py").write_text("1")
    assert venv(app) != before


def test_the_plan_names_a_file_with_the_requirements(app):
    code = plan(src=str(app))["code"]
    assert Path(code["requirements"]).read_text() == read(app).text
    assert not code["installs_itself"]
    (app / "requirements.txt").write_text("./lib\n")
    code = plan(src=str(app))["code"]
    assert (code["requirements"], code["installs_itself"]) == ("", True)
