"""What git says of the app's code: its revision, its submodules, its large files; and the files that are left out."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from ansible_collections.websockets.deploy.plugins.module_utils import release, source
from ansible_collections.websockets.deploy.plugins.module_utils.inputs import InputError
from ansible_collections.websockets.deploy.plugins.module_utils.record import from_dict
from ansible_collections.websockets.deploy.plugins.module_utils.release import Release, Revision
from role import load, plan, stored
from test_source import from_git, git, repository, write  # noqa: F401

ONE, TWO = "111111111111", "222222222222"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 9\n".format("0" * 64)


@pytest.fixture(autouse=True)
def config(tmp_path_factory, monkeypatch):
    """A user's own configuration of git, which lets submodules be folders of this machine."""
    path = tmp_path_factory.mktemp("home") / "gitconfig"
    path.write_text("[protocol.file]\n  allow = always\n[user]\n  name = t\n  email = t@example.com\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(path))
    return path


def commit(folder, text="x"):
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", text)
    return git(folder, "rev-parse", "HEAD")


def new(folder, **files):
    write(folder, **files)
    git(folder, "init", "-q", "-b", "main")
    commit(folder)
    return folder


# Submodules


@pytest.fixture
def app(tmp_path):
    """A repository with a submodule lib, which has a submodule deep, by addresses that start at the repository."""
    new(tmp_path / "deep", **{"deep.py": "d"})
    new(tmp_path / "lib", **{"lib.py": "l"})
    git(tmp_path / "lib", "submodule", "add", "-q", "../deep", "deep")
    commit(tmp_path / "lib")
    folder = new(tmp_path / "app", **{"app.py": "a", "service__app.py": "s"})
    git(folder, "submodule", "add", "-q", "../lib", "vendor/lib")
    commit(folder)
    return folder


def test_submodules_are_part_of_a_revision(app):
    files = set(source.scan(from_git(app, "main")))
    assert {"app.py", "vendor/lib/lib.py", "vendor/lib/deep/deep.py"} <= files


def test_the_submodules_are_those_of_the_revision(app, tmp_path):
    git(app, "tag", "v1")
    write(tmp_path / "lib", **{"lib.py": "newer"})
    commit(tmp_path / "lib")
    assert Path(from_git(app, "v1"), "vendor/lib/lib.py").read_text() == "l"
    git(app, "submodule", "update", "-q", "--init")
    git(app / "vendor/lib", "pull", "-q", "origin", "main")
    commit(app)
    assert Path(from_git(app, "main"), "vendor/lib/lib.py").read_text() == "newer"


def test_the_same_code_with_submodules_from_git_and_from_a_folder_is_the_same_release(app):
    git(app, "submodule", "update", "-q", "--init", "--recursive")
    assert plan(repo=str(app), version="main", src="")["release"] == plan(src=str(app))["release"]


def test_a_submodule_that_git_cannot_fetch_is_in_gits_own_words(app, tmp_path):
    shutil.rmtree(tmp_path / "lib")
    with pytest.raises(InputError) as error:
        from_git(app, "main")
    assert str(error.value).startswith(f"websockets_repo is '{app}': git cannot fetch its submodules (vendor/lib): ")
    assert f"repository '{tmp_path}/lib' does not exist" in str(error.value)


def test_a_submodule_without_an_address_is_refused(app):
    git(app, "rm", "-q", "--cached", ".gitmodules")
    git(app, "commit", "-q", "-m", "x")
    with pytest.raises(InputError, match=r"git cannot fetch its submodules \(vendor/lib\): .*No url .*\.gitmodules"):
        from_git(app, "main")


def test_no_password_of_a_submodule_is_told(app):
    git(app, "config", "-f", ".gitmodules", "submodule.vendor/lib.url", "http://user:hunter2@127.0.0.1:9/lib.git")
    commit(app)
    with pytest.raises(InputError, match=r"http://\*\*\*@127\.0\.0\.1:9/lib\.git") as error:
        from_git(app, "main")
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("further", [{"src": "service"}, {"exclude": ["/vendor/"]}], ids=["beside", "left out"])
def test_a_submodule_that_is_no_part_of_the_app_is_not_fetched(app, tmp_path, further):
    shutil.rmtree(tmp_path / "lib")
    from_git(app, "main", **further)


def test_an_empty_submodule_of_a_folder_is_refused(app, tmp_path):
    git(tmp_path, "clone", "-q", app, "clone")
    with pytest.raises(InputError) as error:
        plan(src=str(tmp_path / "clone"))
    assert str(error.value) == (
        "websockets_src has vendor/lib: this git submodule is empty. Run git submodule update --init --recursive in the"
        " folder, or leave it out (websockets_exclude)."
    )
    plan(src=str(tmp_path / "clone"), exclude=["vendor"])
    plan(src=str(tmp_path / "clone" / "service"))


# Git LFS


@pytest.mark.parametrize("by_git", [False, True], ids=["folder", "git"])
def test_pointers_are_refused(tmp_path, by_git):
    app = new(tmp_path / "app", **{"app.py": "a", "model.bin": POINTER, "data__words.bin": POINTER})
    inputs = {"repo": str(app), "src": "", "version": "main"} if by_git else {"src": str(app)}
    with pytest.raises(InputError) as error:
        plan(**inputs)
    assert str(error.value).startswith(
        "websockets_src has model.bin, data/words.bin: Git LFS has put pointers there instead of the files. Install git-lfs"
    )
    plan(**inputs, exclude=["*.bin"])


def test_what_only_mentions_git_lfs_is_no_pointer(tmp_path):
    write(tmp_path, **{"app.py": "a", "notes.md": f"A pointer is\n{POINTER}", "long": POINTER + "x" * 1024})
    plan(src=str(tmp_path))


def test_a_filter_of_the_users_own_puts_the_files_there(tmp_path, config):
    """So does git lfs install."""
    app = new(tmp_path / "app", **{"app.py": "a", "model.bin": POINTER, ".gitattributes": "*.bin filter=large\n"})
    config.write_text(config.read_text() + '[filter "large"]\n  smudge = "echo the file"\n')
    assert Path(from_git(app, "main"), "model.bin").read_text() == "the file\n"


# git's own words


def test_a_checkout_that_fails_is_in_gits_own_words(tmp_path, config):
    app = new(tmp_path / "app", **{"app.py": "a", "model.bin": "b", ".gitattributes": "*.bin filter=large\n"})
    config.write_text(config.read_text() + '[filter "large"]\n  required = true\n  smudge = "echo no key >&2; false"\n')
    with pytest.raises(InputError, match=r"^websockets_version is 'main': git cannot check it out: (?s:.*)no key"):
        from_git(app, "main")


def test_the_users_line_ends_are_not_the_revisions(repository, config):  # noqa: F811
    config.write_text(config.read_text() + "[core]\n  autocrlf = true\n  eol = crlf\n")
    write(repository, **{"app.py": "a\n", ".gitattributes": "* text=auto\n"})
    commit(repository)
    assert Path(from_git(repository, "main"), "app.py").read_bytes() == b"a\n"


# The revision


def told(**inputs):
    planned = plan(**inputs)
    return from_dict(Revision, planned["code"]["revision"])


def test_a_revision_has_its_commit_and_the_tag_of_just_this_commit(repository):  # noqa: F811
    first, last = git(repository, "rev-parse", "main~1"), git(repository, "rev-parse", "main")
    for version, expected in {
        "v1.0": Revision(first, "v1.0"),
        "light": Revision(first, "v1.0"),
        first: Revision(first, "v1.0"),
        "main~1": Revision(first, "v1.0"),
        "main": Revision(last),
        last[:9]: Revision(last),
    }.items():
        assert told(repo=str(repository), version=version, src="service") == expected
    git(repository, "tag", "v2.0")
    assert told(repo=str(repository), version="main", src="") == Revision(last, "v2.0")


def test_the_revision_of_a_folder(repository):  # noqa: F811
    last = git(repository, "rev-parse", "main")
    service = {"src": str(repository / "service")}
    for path in ("__pycache__/x", "service/__pycache__/x", "service/x.pyc", "elsewhere", "service/.venv/pyvenv.cfg"):
        (repository / path).parent.mkdir(exist_ok=True, parents=True)
        (repository / path).touch()
    assert told(**service) == Revision(last)
    (repository / "service" / "new").mkdir()
    (repository / "service" / "new" / "file").touch()
    assert told(**service) == Revision(last, changed=True)
    assert told(**service, exclude=["new"]) == Revision(last)
    shutil.rmtree(repository / "service" / "new")
    (repository / "service" / "app.py").write_text("edited")
    assert told(**service) == Revision(last, changed=True)


@pytest.mark.parametrize("inside", [True, False], ids=["of no repository", "unknown to its repository"])
def test_a_folder_without_a_revision(tmp_path, repository, inside):  # noqa: F811
    folder = (tmp_path if inside else repository) / "else"
    write(folder, **{"app.py": ""})
    assert told(src=str(folder)) == Revision()


def test_a_repository_without_a_commit(tmp_path):
    write(tmp_path / "app", **{"app.py": ""})
    git(tmp_path / "app", "init", "-q")
    git(tmp_path / "app", "add", ".")
    assert told(src=str(tmp_path / "app")) == Revision()


def test_without_git_a_folder_has_no_revision(repository, monkeypatch):  # noqa: F811
    monkeypatch.setenv("PATH", "/nonexistent")
    assert told(src=str(repository)) == Revision()


def test_the_revision_is_no_part_of_the_id(repository):  # noqa: F811
    before = plan(src=str(repository))["release"]
    git(repository, "commit", "-q", "--allow-empty", "-m", "x")
    assert plan(src=str(repository))["release"] == before


C = "4f2a9c1d0e6b8a7f3c5d9e1b2a4c6d8e0f1a3b5c"  # pragma: allowlist secret


@pytest.mark.parametrize(
    ("revision", "name"),
    [
        (Revision(), ONE),
        (Revision(C), f"{ONE} (4f2a9c1)"),
        (Revision(C, "v1.2.0"), f"{ONE} (v1.2.0, 4f2a9c1)"),
        (Revision(C, "", True), f"{ONE} (4f2a9c1+changes)"),
    ],
)
def test_a_release_is_named_with_its_revision(revision, name):
    assert revision.after(ONE) == name
    there = {
        "live": TWO,
        "releases": {ONE: stored(ONE, previous="", revision=revision), TWO: stored(TWO, previous="", since=1)},
    }
    with pytest.raises(InputError, match=re.escape(f"name {name}.")):
        plan(there, "rollback")
    assert plan(there, "rollback", rollback_to=ONE)["called"] == name


def test_the_summary_of_a_deploy_has_the_revision_of_its_code(repository):  # noqa: F811
    planned = plan(repo=str(repository), version="v1.0", src="")
    assert (
        planned["called"]
        == f"{planned['release']['id']} (v1.0, {git(repository, 'rev-parse', '--short=7', 'v1.0^{commit}')})"
    )


def test_status_names_the_revisions(host, supervisord):
    for identity, since, known in ((ONE, 100, {"commit": C, "tag": "v1", "changed": False}), (TWO, 200, None)):
        made = Release.of("echo", identity)
        os.makedirs(made.path)
        record = {"id": identity, "user": "u", "venv": "/v", "numprocs": 1, "files": {}, "revision": known}
        Path(made.path, "release.json").write_text(json.dumps({k: v for k, v in record.items() if v is not None}))
        release.went_live(made, "")
        os.utime(f"{made.path}/previous", (since, since))
        release.point(made.live_link, made.sockets)
    status = load("modules/status")
    app = status.status("echo", status.Supervisor())
    lines = [re.sub(r"\d{4}-.*", "DATE", line) for line in status.lines(app)]
    assert lines[0] == f"echo: {TWO} live since DATE"
    assert lines[-1] == f"  can go back to {ONE} (v1, 4f2a9c1), of DATE"
    assert app["previous"][0]["revision"] == {"commit": C, "tag": "v1", "changed": False}
    assert app["revision"]["commit"] == ""


# What is left out


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        ([], {"app.py", "a.log", "logs/a.log", "logs/b/c.log", "docs/app.py", "ü.log"}),
        (["*.log"], {"app.py", "docs/app.py"}),
        (["/*.log"], {"app.py", "logs/a.log", "logs/b/c.log", "docs/app.py"}),
        (["logs/"], {"app.py", "a.log", "docs/app.py", "ü.log"}),
        (["logs/**/*.log", "!a.log"], {"app.py", "a.log", "logs/a.log", "docs/app.py", "ü.log"}),
        (["# a comment", "", "/docs"], {"app.py", "a.log", "logs/a.log", "logs/b/c.log", "ü.log"}),
        (["*", "!app.py", "!docs/"], {"app.py", "docs/app.py"}),
    ],
)
def test_patterns_mean_what_they_mean_in_a_gitignore(tmp_path, patterns, left):
    write(
        tmp_path,
        **{"app.py": "", "a.log": "", "logs__a.log": "", "logs__b__c.log": "", "docs__app.py": "", "ü.log": ""},
    )
    write(tmp_path, **{".git__info__exclude": "app.py"})
    assert set(source.scan(tmp_path, patterns)) == left


def test_a_gitignore_counts_only_if_it_is_given(tmp_path, config):
    (config.parent / "ignored").write_text("app.py\n")
    config.write_text(config.read_text() + f"[core]\n  excludesFile = {config.parent}/ignored\n")
    write(tmp_path / "app", **{"app.py": "", "x.log": "", ".gitignore": "*.log\n"})
    assert set(source.scan(tmp_path / "app")) == {"app.py", "x.log", ".gitignore"}
    patterns = (tmp_path / "app" / ".gitignore").read_text().splitlines()
    assert set(source.scan(tmp_path / "app", patterns)) == {"app.py", ".gitignore"}


def test_what_is_left_out_is_not_looked_at(tmp_path):
    write(tmp_path, **{"app.py": "", "data__a": ""})
    os.mkfifo(tmp_path / "data" / "pipe")
    with open(os.fsencode(tmp_path) + b"/data/caf\xe9", "w"):
        pass
    before = plan(src=str(tmp_path), exclude=["data"])["release"]["id"]
    shutil.rmtree(tmp_path / "data")
    assert plan(src=str(tmp_path))["release"]["id"] == before


def test_patterns_need_git(tmp_path, monkeypatch):
    write(tmp_path, **{"app.py": ""})
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(InputError, match=r"^websockets_exclude needs git on the control node; install it\.$"):
        plan(src=str(tmp_path), exclude=["x"])


# Warnings

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\n"  # pragma: allowlist secret


@pytest.mark.parametrize(
    ("files", "doubt"),
    [
        ({".env": "A=1"}, "has .env, which look like secrets; they belong into websockets_secrets"),
        (
            {"conf__.env.production": "", "tls__host.pem": KEY, "id": f"x\n{KEY}"},
            "has id, conf/.env.production, tls/host.pem, which look like secrets; they belong into websockets_secrets",
        ),
        (
            {"node_modules__a__b.js": "", "web__node_modules__c.js": ""},
            "has node_modules, web/node_modules, which a Python app seldom needs",
        ),
    ],
)
def test_a_doubtful_file_is_a_warning_with_the_input(tmp_path, files, doubt):
    write(tmp_path, **{"app.py": "", ".env.example": "", "x.py": f"KEY = '{KEY}'"}, **files)
    remedy = (
        "List them in websockets_exclude to leave them out, or with a ! in front to keep them without this warning."
    )
    assert plan(src=str(tmp_path))["warnings"] == [f"The app's folder {doubt}. {remedy}"]
    names = ["node_modules", ".env", ".env.production", "*.pem", "id"]
    assert plan(src=str(tmp_path), exclude=names)["warnings"] == []
    kept = plan(src=str(tmp_path), exclude=[f"!{name}" for name in [*names, "**/node_modules/**"]])
    assert kept["warnings"] == []
    assert kept["release"] == plan(src=str(tmp_path))["release"]


def test_a_large_folder_is_a_warning(tmp_path):
    write(tmp_path, **{"app.py": "", "small": "x", "data__model": ""})
    os.truncate(tmp_path / "data" / "model", source.LARGE + 1)
    (warning,) = plan(src=str(tmp_path))["warnings"]
    assert warning.startswith("The app's folder has 200 MB, the most of it in data/model, ")
    assert plan(src=str(tmp_path), exclude=["!/data/**"])["warnings"] == []
