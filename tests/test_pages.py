"""Pages of a release: nginx's user gets hard links to them, and to nothing else of the release."""

import os
import stat
from pathlib import Path

import pytest
from ansible_collections.websockets.deploy.plugins.module_utils import pages, paths, release
from ansible_collections.websockets.deploy.plugins.module_utils.release import Release
from ansible_collections.websockets.deploy.plugins.module_utils.site import Page

ONE, TWO, THREE = "111111111111", "222222222222", "333333333333"


def page(source="public", file=False):
    return Page(source, paths.page(paths.live_pages("echo"), source), file)


@pytest.fixture
def made(host):
    """Make a release with these files, {path: text}, and return it; all files are of 1970, as those of an archive."""

    def make(id, files):
        made = Release.of("echo", id)
        for name, text in files.items():
            path = Path(made.code, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o644)
            os.utime(path, (0, 0))
        return made

    return make


def published(id, source="public"):
    """Return {path: text} of what nginx can serve."""
    top = Path(paths.page(paths.pages("echo", id), source))
    return {str(path.relative_to(top)): path.read_text() for path in sorted(top.rglob("*")) if path.is_file()}


def test_a_folder_is_there_with_all_of_its_files(made):
    one = made(ONE, {"public/index.html": "1", "public/a/b/c.css": "2", "app.py": "code", "private/x": "x"})
    umask = os.umask(0o077)
    try:
        assert pages.publish(one, [page()]) == []
    finally:
        os.umask(umask)
    assert published(ONE) == {"index.html": "1", "a/b/c.css": "2"}
    assert os.listdir(paths.pages("echo", ONE)) == ["public"]
    for path in [Path(paths.SRV, "echo", "pages"), *Path(paths.SRV, "echo", "pages").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path


def test_a_file_is_no_copy(made):
    one = made(ONE, {"robots.txt": "x", "web/dist/app.js": "x"})
    assert pages.publish(one, [page("robots.txt", file=True), page("web/dist")]) == []
    for source, name in {"robots.txt": "robots.txt", "web/dist/app.js": "web:dist/app.js"}.items():
        assert os.path.samefile(f"{one.code}/{source}", f"{paths.pages('echo', ONE)}/{name}")


def test_a_name_with_a_dot_is_for_nobody_but_one(made):
    names = (".env", ".git/config", "a/.htpasswd", "a/b", ".well-known/security.txt")
    pages.publish(made(ONE, {f"public/{name}": "x" for name in names}), [page()])
    assert list(published(ONE)) == [".well-known/security.txt", "a/b"]


def test_a_link_stays_inside(made, host):
    one = made(ONE, {"public/a/b.txt": "b", "secret": "s", "public/.env": "e", "public/d/e/f.txt": "f"})
    (host / "outside").write_text("o")
    links = {
        **{"to-file": "a/b.txt", "a/up": "../a/b.txt", "to-folder": "a", "to-link": "to-file"},
        **{
            "out": "../secret",
            "far": f"{host}/outside",
            "hidden": ".env",
            "nowhere": "none",
            "root": "/",
            "d/e/top": "../..",
        },
        # By words this one stays inside, and on the disk it does not.
        "d/by-link": "e/top/../secret",
    }
    for name, target in links.items():
        Path(one.code, "public", name).symlink_to(target)
    os.mkfifo(f"{one.code}/public/fifo")
    pages.publish(one, [page()])
    top = Path(paths.page(paths.pages("echo", ONE), "public"))
    assert {str(path.relative_to(top)) for path in top.rglob("*") if path.is_symlink()} == {
        *("to-file", "a/up", "to-folder", "to-link"),
    }
    assert not (top / "fifo").exists()


def test_no_link_on_the_way_is_followed(made, host):
    one = made(ONE, {"real/index.html": "x"})
    (host / "etc-of-the-host").mkdir()
    (host / "etc-of-the-host" / "shadow").write_text("secret")
    for name, target in {
        "public": "real",
        "web": host,
        "out": f"{host}/etc-of-the-host",
        "file": "real/index.html",
    }.items():
        Path(one.code, name).symlink_to(target)
    wanted = [
        page("public"),
        page("web/etc-of-the-host"),
        page("out"),
        page("out/shadow", file=True),
        page("file", file=True),
    ]
    assert pages.publish(one, wanted) == [one.source for one in wanted]
    assert os.listdir(paths.pages("echo", ONE)) == []


def test_what_a_release_does_not_have_is_told(made):
    one = made(ONE, {"public/index.html": "x"})
    wanted = [
        page("none"),
        page("public/none/deep"),
        page("public/index.html"),
        page("public", file=True),
        page("x", file=True),
    ]
    assert pages.publish(one, wanted) == [one.source for one in wanted]
    assert pages.publish(one, [*wanted, page()]) == [one.source for one in wanted]
    assert published(ONE) == {"index.html": "x"}


def test_one_more_page_of_the_same_release(made):
    one = made(ONE, {"public/index.html": "1", "public/a/x": "2"})
    pages.publish(one, [page("public/a")])
    before = os.stat(paths.page(paths.pages("echo", ONE), "public/a")).st_ino
    pages.publish(one, [page(), page("public/a")])
    assert published(ONE) == {"index.html": "1", "a/x": "2"}
    assert os.stat(paths.page(paths.pages("echo", ONE), "public/a")).st_ino == before


def test_what_was_interrupted_is_made_again(made, monkeypatch):
    one = made(ONE, {"public/index.html": "1", "public/z.html": "1"})

    def interrupted(*_arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(pages, "_file", interrupted)
        pages.publish(one, [page()])
    assert pages.publish(one, [page()]) == []
    assert list(published(ONE)) == ["index.html", "z.html"]


# Times, of which nginx makes an ETag


def times(id):
    top = Path(paths.page(paths.pages("echo", id), "public"))
    return {path.name: int(path.stat().st_mtime) for path in top.iterdir()}


def test_another_file_of_the_same_size_has_another_time(made):
    """A deploy may follow at once, and go back at once."""
    for id, text in ((ONE, "1"), (TWO, "2"), (THREE, "3")):
        pages.publish(made(id, {"public/changed": text, "public/same": "x"}), [page()])
        if id != TWO:  # this one has failed its proof
            pages.point("echo", id)
    one, two, three = map(times, (ONE, TWO, THREE))
    assert len({one["changed"], two["changed"], three["changed"]}) == 3
    assert one["same"] == two["same"] == three["same"], "no browser need get it again"
    assert one["same"] > 1_700_000_000


def test_what_a_command_has_made_again_is_published_again(made):
    one = made(ONE, {"public/changed": "1", "public/same": "x"})
    pages.publish(one, [page()])
    before = times(ONE)
    Path(one.code, "public", "changed").unlink()
    made(ONE, {"public/changed": "2", "public/same": "x"})
    pages.publish(one, [page()])
    assert published(ONE)["changed"] == "1"
    pages.publish(one, [page()], anew=True)
    assert published(ONE) == {"changed": "2", "same": "x"}
    assert times(ONE)["changed"] > before["changed"]
    assert os.listdir(paths.pages("echo", ONE)) == ["public"]


# Where they lead, and where they end


def test_the_pages_that_nginx_serves(made):
    assert pages.live_id("echo") == ""
    pages.publish(made(ONE, {"public/index.html": "1"}), [page()])
    pages.point("echo", ONE)
    assert Path(page().place, "index.html").read_text() == "1"
    pages.point("echo", "")
    assert pages.live_id("echo") == ""
    pages.point("echo", "")


def test_pages_end_with_their_release(made):
    for id in (ONE, TWO):
        os.makedirs(made(id, {"public/x": "x"}).path, exist_ok=True)
        pages.publish(Release.of("echo", id), [page()])
    release.discard(Release.of("echo", ONE))
    assert os.listdir(f"{paths.SRV}/echo/pages") == [TWO]
    pages.point("echo", TWO)
    os.makedirs(paths.pages("echo", THREE))
    release.point(paths.live_link("echo"), f"{paths.RUN}/echo/{TWO}")
    assert release.unneeded("echo", 1)[1] == [paths.pages("echo", THREE)]
    release.prune("echo", 1)
    assert sorted(os.listdir(f"{paths.SRV}/echo/pages")) == [TWO, "live"]
