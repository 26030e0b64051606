"""The app's code: which files of a folder or a git revision are part of a release, and which are refused."""

import hashlib
import multiprocessing
import os
import subprocess
import tarfile

import pytest
from ansible_collections.websockets.deploy.plugins.module_utils import source
from ansible_collections.websockets.deploy.plugins.module_utils.inputs import InputError
from role import plan


def write(folder, **files):
    """Make files. Names are keywords, so ``__`` stands for a slash."""
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


# Folders


@pytest.mark.parametrize(
    "left_out",
    [
        *(".git/config", ".git", ".hg/x", ".svn/x", ".venv/bin/python", ".tox/x", "__pycache__/app.cpython-313.pyc"),
        *("app.pyc", "lib/__pycache__/x", ".mypy_cache/x", ".pytest_cache/x", ".ruff_cache/x"),
        *("env/pyvenv.cfg", "lib/any name/pyvenv.cfg"),
    ],
)
def test_what_is_no_part_of_an_app_is_left_out(tmp_path, left_out):
    (tmp_path / "app.py").touch()
    (tmp_path / left_out).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / left_out).touch()
    assert set(source.scan(tmp_path)) == {"app.py"}


@pytest.mark.parametrize("kept", [".env", ".github/x", "git", "lib/venv/x", "a b/ü.txt", "pyvenv.cfg"])
def test_everything_else_is_part_of_it(tmp_path, kept):
    (tmp_path / kept).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / kept).touch()
    assert set(source.scan(tmp_path)) == {kept}


def test_scan_tells_files_from_executables_and_links(tmp_path):
    write(tmp_path, plain="a", tool="b", lib__c="c")
    (tmp_path / "tool").chmod(0o700)
    (tmp_path / "lib" / "up").symlink_to("../plain")
    (tmp_path / "folder").symlink_to("lib")

    def sha(text):
        return hashlib.sha256(text.encode()).hexdigest()

    assert source.scan(tmp_path) == {
        "plain": ("file", sha("a")),
        "tool": ("executable", sha("b")),
        "lib/c": ("file", sha("c")),
        "lib/up": ("link", "../plain"),
        "folder": ("link", "lib"),
    }


@pytest.mark.parametrize(
    ("place", "target"),
    [
        pytest.param("secrets", "/etc/shadow", id="absolute"),
        pytest.param("lib/up", "../../outside", id="above"),
        pytest.param("self", "..", id="the folder above"),
        pytest.param("round", "lib/../../app.py", id="out and in again"),
    ],
)
def test_a_link_out_of_the_app_is_refused(tmp_path, place, target):
    app = tmp_path / "app"
    write(app, lib__x="")
    (app / place).symlink_to(target)
    with pytest.raises(InputError) as error:
        plan(src=str(app))
    assert str(error.value) == (
        f"websockets_src is '{app / place}': it is a link to {target}, outside the app's folder; copy the file."
    )


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError) as error:
        plan(src=str(tmp_path))
    remedy = "it is neither a file nor a link; move it out of the app's folder."
    assert str(error.value) == f"websockets_src is '{tmp_path}/pipe': {remedy}"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"caf\xe9.txt", r"caf\xe9.txt"),
        (b"caf\xe9/app.py", r"caf\xe9/app.py"),
        (b"\xe4\xf6/\xc3\xbc.txt", r"\xe4\xf6/ü.txt"),
    ],
)
@pytest.mark.parametrize("by_git", [False, True], ids=["folder", "git"])
def test_a_name_that_is_not_utf8_is_refused(tmp_path, name, shown, by_git):
    write(tmp_path, **{"app.py": ""})
    path = os.path.join(os.fsencode(tmp_path), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w"):
        pass
    if by_git:
        git(tmp_path, "init", "-q", "-b", "main")
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-q", "-m", "first")
    with pytest.raises(InputError) as error:
        plan(**({"repo": str(tmp_path), "src": ""} if by_git else {"src": str(tmp_path)}))
    assert str(error.value) == f"websockets_src has {shown}: this name is not UTF-8; rename it."


def test_a_link_to_a_name_that_is_not_utf8_is_refused(tmp_path):
    write(tmp_path, **{"app.py": ""})
    os.symlink(b"caf\xe9.txt", os.fsencode(tmp_path / "menu"))
    with pytest.raises(InputError) as error:
        plan(src=str(tmp_path))
    assert str(error.value) == (
        r"websockets_src has menu: it is a link to caf\xe9.txt, which is not UTF-8; rename the file and make the link again."
    )


def test_a_name_that_is_not_utf8_does_not_matter_where_it_is_no_part_of_the_app(tmp_path):
    write(tmp_path, **{"app.py": ""})
    for name in (b"caf\xe9.pyc", b".git/caf\xe9"):
        os.makedirs(os.path.dirname(os.fsencode(tmp_path) + b"/" + name), exist_ok=True)
        with open(os.fsencode(tmp_path) + b"/" + name, "w"):
            pass
    assert list(source.scan(tmp_path)) == ["app.py"]


@pytest.mark.parametrize("name", ["ü.txt", "Icon\r", "a\nb", "tab\t", "\x1b[31m", "-rf", "a b", "'", '"', "\\xe9"])
def test_other_odd_names_are_released(tmp_path, name):
    write(tmp_path / "app", **{"app.py": ""})
    (tmp_path / "app" / name).write_text("x")
    found = source.scan(tmp_path / "app")
    source.archive(tmp_path / "app", found, tmp_path / "packed")
    with tarfile.open(tmp_path / "packed") as tar:
        tar.extractall(tmp_path / "out")
    assert source.scan(tmp_path / "out") == found
    assert name in found


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError) as error:
        plan(src=str(tmp_path), command="{venv}/bin/app {socket}")
    assert (
        str(error.value)
        == f"websockets_src is '{tmp_path}': it has no files for a release; name the folder of the app."
    )


def test_a_folder_without_the_commands_file_is_refused(tmp_path):
    write(tmp_path, main="", readme="")
    with pytest.raises(InputError) as error:
        plan(src=str(tmp_path))
    assert str(error.value) == (
        "websockets_command is '{venv}/bin/python app.py {socket}': there is no app.py in the app's folder"
        f" ({tmp_path}), which has main, readme."
    )


# Archives


@pytest.fixture
def packed(tmp_path):
    app = tmp_path / "app"
    write(app, app="a" * 100_000, lib__tool="b")
    (app / "lib" / "tool").chmod(0o711)
    (app / "lib" / "link").symlink_to("../app")
    os.link(app / "app", app / "second name")

    def pack(name="release.tar.gz"):
        source.archive(app, source.scan(app), tmp_path / name)
        return tmp_path / name

    pack.app = app
    return pack


def test_an_archive_brings_back_what_was_scanned(packed, tmp_path):
    # The umask of the control node's user must not decide what the app can read.
    with tarfile.open(packed()) as tar:
        tar.extractall(tmp_path / "out")
        assert {(member.mode, member.uid, member.uname) for member in tar if member.isreg()} == {
            (0o644, 0, "root"),
            (0o755, 0, "root"),
        }
    assert source.scan(tmp_path / "out") == source.scan(packed.app)
    assert (tmp_path / "out" / "second name").stat().st_nlink == 1


def test_an_archive_depends_on_nothing_else(packed):
    one = packed("one")
    for path in packed.app.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    (packed.app / "app").chmod(0o640)
    assert packed("another name").read_bytes() == one.read_bytes()


# Requirements


def text_of(folder):
    return source.requirements(folder, source.scan(folder))


def test_requirements_are_the_file_and_what_it_includes(tmp_path):
    write(tmp_path, **{"requirements.txt": "-r sub/more.txt  # comment\n--constraint=limits.txt\nwebsockets\n"})
    write(tmp_path, **{"sub__more.txt": "-c ../other.txt\nuvicorn\n", "limits.txt": "h11<1\n", "other.txt": "idna\n"})
    text = text_of(tmp_path)
    for word in ("websockets", "uvicorn", "h11<1", "idna"):
        assert word in text


@pytest.mark.parametrize(
    "line", ["-r more.txt", "-rmore.txt", "--requirement more.txt", "--requirement=more.txt", "-c more.txt"]
)
def test_an_included_file_decides(tmp_path, line):
    write(tmp_path, **{"requirements.txt": f"{line}\n", "more.txt": "a==1\n"})
    before = text_of(tmp_path)
    write(tmp_path, **{"more.txt": "a==2\n"})
    assert text_of(tmp_path) != before


def test_files_that_include_each_other_end(tmp_path):
    write(tmp_path, **{"requirements.txt": "-r more.txt\n", "more.txt": "a==1\n-r requirements.txt\n"})
    assert "a==1" in text_of(tmp_path)


@pytest.mark.parametrize("line", ["./lib", "lib @ file:lib", "file:lib"])
def test_code_that_is_a_requirement_decides(tmp_path, line):
    write(tmp_path, **{"requirements.txt": f"{line}\n", "lib__code.py": "1"})
    before = text_of(tmp_path)
    write(tmp_path, lib__new="")
    assert text_of(tmp_path) != before


def test_an_editors_mark_of_utf8_hides_no_line(tmp_path):
    write(tmp_path, **{"requirements.txt": "\ufeff-r more.txt\n", "more.txt": "a==1\n"})
    assert "a==1" in text_of(tmp_path)


@pytest.mark.parametrize("name", ["requirements.txt", "sub/more.txt"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_requirements_that_are_not_utf8_are_refused(tmp_path, name, encoding):
    write(tmp_path, **{"app.py": "", "requirements.txt": "-r sub/more.txt\n", "sub__more.txt": ""})
    (tmp_path / name).write_bytes("# café\nwebsockets\n".encode(encoding))
    with pytest.raises(
        InputError, match=rf"^websockets_src has {name}: it is not UTF-8 \(byte \d\); save it as UTF-8\.$"
    ):
        plan(src=str(tmp_path))


@pytest.mark.parametrize(
    "line", ["--require-hashes", "# -e .", "# -r gone.txt", "-r https://example.com/r.txt", "-i https://x/"]
)
def test_other_lines_are_pips_matter(tmp_path, line):
    write(tmp_path, **{"requirements.txt": f"{line}\n"})
    assert text_of(tmp_path) == f"{line}\n"


def test_no_requirements_at_all(tmp_path):
    assert text_of(tmp_path) == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("-e .", "an editable requirement cannot be part of a release; remove -e.", id="editable"),
        pytest.param(
            "--editable=./lib", "an editable requirement cannot be part of a release; remove -e.", id="editable, long"
        ),
        pytest.param(
            "-egit+https://x/y",
            "an editable requirement cannot be part of a release; remove -e.",
            id="editable, no space",
        ),
        pytest.param("-r gone.txt", "there is no gone.txt in the app's folder.", id="include missing"),
        pytest.param("-c ../limits.txt", "there is no ../limits.txt in the app's folder.", id="include outside"),
    ],
)
def test_requirements_that_cannot_be_released(tmp_path, line, message):
    write(tmp_path, **{"app.py": "", "requirements.txt": f"websockets\n{line}\n"})
    with pytest.raises(InputError) as error:
        plan(src=str(tmp_path))
    assert str(error.value) == f"websockets_src is 'requirements.txt: {line}': {message}"


# git


def git(folder, *arguments):
    identity = [
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.com",
        "-c",
        "commit.gpgsign=false",
        "-c",
        "tag.gpgsign=false",
    ]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A repository in which each revision's app.py is the revision's name."""
    folder = tmp_path / "repository"
    write(folder, **{"app.py": "first", "service__app.py": "", "service__tool": ""})
    (folder / "service" / "tool").chmod(0o755)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    git(folder, "tag", "light")
    git(folder, "tag", "-m", "annotated", "v1.0")
    for branch, parent in (("main", "main"), ("feature/x", "v1.0")):
        if branch != "main":
            git(folder, "switch", "-q", "-c", branch, parent)
        write(folder, **{"app.py": branch})
        git(folder, "commit", "-q", "-a", "-m", branch)
    git(folder, "switch", "-q", "main")
    return folder


def from_git(repository, version, **inputs):
    planned = plan(repo=str(repository), version=version, **{"src": "", **inputs})
    return planned["code"]["folder"]


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("HEAD", "main"),
        ("main", "main"),
        ("feature/x", "feature/x"),
        ("light", "first"),
        ("v1.0", "first"),
        ("refs/tags/v1.0", "first"),
        pytest.param("{main}", "main", id="full commit"),
        pytest.param("{main~1}", "first", id="full commit that no name points to"),
        pytest.param("{main~1:8}", "first", id="abbreviated commit"),
        ("main~1", "first"),
    ],
)
def test_a_revision(repository, version, text):
    if version.startswith("{"):
        name, _, length = version.strip("{}").partition(":")
        version = git(repository, "rev-parse", name)[: int(length or 40)]
    folder = from_git(repository, version)
    with open(os.path.join(folder, "app.py")) as file:
        assert file.read() == text
    assert os.access(os.path.join(folder, "service", "tool"), os.X_OK)
    assert not [path for path in source.scan(folder) if path.startswith(".git")]


def test_the_same_code_from_git_and_from_a_folder_is_the_same_release(repository):
    by_git = plan(repo=str(repository), version="main", src="service")["release"]
    assert by_git == plan(src=str(repository / "service"))["release"]


def test_a_folder_that_the_revision_does_not_have(repository):
    with pytest.raises(InputError) as error:
        from_git(repository, "v1.0", src="gone")
    assert str(error.value) == "websockets_src is 'gone': v1.0 of websockets_repo has no such folder."


def test_a_revision_that_does_not_exist(repository):
    with pytest.raises(InputError) as error:
        from_git(repository, "v9")
    assert str(error.value) == (
        f"websockets_version is 'v9': {repository} has no such branch, tag or commit; push it, or name another."
    )


def test_a_repository_that_does_not_exist(tmp_path):
    with pytest.raises(InputError) as error:
        from_git(tmp_path / "gone", "main")
    assert str(error.value).startswith(
        f"websockets_repo is '{tmp_path}/gone': git cannot read it: fatal: '{tmp_path}/gone' does not appear to be a git"
    )


def test_a_commit_without_files(repository):
    git(repository, "switch", "-q", "--orphan", "empty")
    git(repository, "commit", "-q", "--allow-empty", "-m", "empty")
    with pytest.raises(InputError) as error:
        from_git(repository, "empty", command="app {socket}")
    assert (
        str(error.value)
        == f"websockets_repo is '{repository}': it has no files for a release; name the folder of the app."
    )


def test_without_git(repository, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(InputError) as error:
        from_git(repository, "main~1^0")
    assert str(error.value) == "websockets_repo needs git on the control node; install it."


def test_the_repository_of_a_git_hook_is_not_the_apps(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "theirs"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    folder = source.checkout(str(repository), "main", str(tmp_path))
    with open(os.path.join(folder, "app.py")) as file:
        assert file.read() == "main"
    assert not (tmp_path / "theirs").exists()
    assert not (tmp_path / "index").exists()


def test_hosts_of_one_run_check_out_at_the_same_time(repository, tmp_path):
    """Ansible has a process for each host, and all of them call this at once."""
    cache = tmp_path / "cache"
    cache.mkdir()
    with multiprocessing.get_context("fork").Pool(6) as pool:
        folders = pool.starmap(source.checkout, [(str(repository), "main", str(cache))] * 6, chunksize=1)
    (folder,) = set(folders)
    assert set(source.scan(folder)) == {"app.py", "service/app.py", "service/tool"}
    assert sorted(os.listdir(cache)) == sorted({os.path.basename(folder), os.path.basename(folder) + ".lock"})


def test_a_checkout_that_was_interrupted_is_made_again(repository, tmp_path):
    folder = source.checkout(str(repository), "main", str(tmp_path))
    os.rename(folder, f"{folder}.partial")
    os.unlink(f"{folder}.partial/app.py")
    assert "app.py" in source.scan(source.checkout(str(repository), "main", str(tmp_path)))


@pytest.mark.parametrize(
    "userinfo",
    [
        pytest.param("user:hunter2@", id="password"),
        pytest.param("hunter2@", id="token as the user"),
        pytest.param(":hunter2@", id="no user"),
        pytest.param("user:with@hunter2@", id="@ in it"),
        pytest.param("user:with/hunter2@", id="slash in it"),
    ],
)
def test_a_password_in_the_address_is_not_shown(tmp_path, userinfo):
    # This is port 9 of this machine, where nothing listens.
    with pytest.raises(InputError) as error:
        source.checkout(f"http://{userinfo}127.0.0.1:9/app.git", "main", str(tmp_path))
    assert "websockets_repo is 'http://***@127.0.0.1:9/app.git': git cannot read it: " in str(error.value)
    assert "hunter2" not in str(error.value)
