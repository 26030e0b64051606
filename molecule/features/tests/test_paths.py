"""An app at a path, with its pages beside it, and two apps under one name."""

import dataclasses
import pathlib
import shutil
import urllib.error

import pytest

testinfra_hosts = ["ansible://debian12"]

PROJECT = pathlib.Path(__file__).parents[3]
PORT = 8180
PATHS = {
    **{"app": "site", "listen": str(PORT), "path": "/ws/", "numprocs": 2},
    "nginx_locations": {
        "/": "{release}/public",
        "= /robots.txt": "{release}/robots.txt",
        "/down/": "http://127.0.0.1:9",
    },
}


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    """The echo app with pages."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(PROJECT / "files" / "echo", folder, dirs_exist_ok=True)
    (folder / "robots.txt").write_text("User-agent: *\n")
    (folder / "public" / ".git").mkdir(parents=True)
    for name, text in {
        "index.html": "<p>one",
        "same.css": "p {}",
        ".env": "TOKEN=secret",
        ".git/config": "secret",
    }.items():
        (folder / "public" / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def site(echo, host, code, deploy, play):
    variables = {f"websockets_{name}": value for name, value in {**PATHS, "src": str(code)}.items()}
    done = deploy(**variables)
    assert done.returncode == 0, done.stdout
    assert f"ws://localhost:{PORT}/ws/" in done.stdout
    yield dataclasses.replace(echo, name="site", numprocs=2, port=PORT, path="ws/", variables=variables)
    gone = play("remove", **variables, app_to_remove="site")
    assert gone.returncode == 0, gone.stdout
    assert not host.file("/srv/websockets/site").exists


def status(app, path, **headers):
    try:
        return app.get(path, **headers).status
    except urllib.error.HTTPError as error:
        return error.code


def test_the_app_at_its_path_and_pages_beside_it(site, client):
    client(site)
    index = site.get()
    assert index.read() == b"<p>one"
    assert index.headers["Content-Type"] == "text/html; charset=utf-8"
    assert index.headers["Cache-Control"] == "no-cache"
    assert index.headers["X-Content-Type-Options"] == "nosniff"
    assert status(site, "", **{"If-None-Match": index.headers["ETag"]}) == 304
    assert site.get("robots.txt").read() == b"User-agent: *\n"
    assert status(site, "down/") == 502
    for path in ("none", ".env", ".git/config", "app.py", "public/index.html", "../app.py", "%2e%2e/app.py"):
        assert status(site, path) in (400, 404), path
    client(site)


def test_nginxs_user_can_read_the_pages_and_nothing_else(host, site):
    base = f"/srv/websockets/site/releases/{site.release}"
    reads = "runuser -u www-data -- cat"
    host.run_expect([0], f"{reads} /srv/websockets/site/pages/live/public/index.html")
    for path in ("app/app.py", "app/public/index.html", "run"):
        assert host.file(f"{base}/{path}").exists
        host.run_expect([1], f"{reads} {base}/{path}")
    there = host.check_output(
        "find /srv/websockets/site/pages -name '.?*' -o -perm /022 -not -type l -o -not -user root"
    )
    assert there == ""


def test_a_deploy_and_a_rollback_turn_the_pages_with_the_app(site, code, deploy, play, load):
    first = site.release
    with load("paths", rate=100, held=100, app=site) as report:
        (code / "public" / "index.html").write_text("<p>two")
        done = deploy(**site.variables)
        assert done.returncode == 0, done.stdout
        second, index = site.release, site.get()
        assert (second != first, index.read()) == (True, b"<p>two")
        done = play("rollback", **site.variables)
        assert done.returncode == 0, done.stdout
        assert site.release == first
    assert site.get(**{"If-None-Match": index.headers["ETag"]}).read() == b"<p>one"
    assert site.get(**{"If-Modified-Since": index.headers["Last-Modified"]}).read() == b"<p>one"
    assert report.harm() == {}
    assert report.codes() == {1012: 2 * 100}
    assert status(site, "same.css", **{"If-None-Match": site.get("same.css").headers["ETag"]}) == 304


@pytest.fixture
def feed(site, deploy, play):
    variables = {"app": "feed", "src": site.variables["websockets_src"], "listen": "127.0.0.1:8181", "numprocs": 1}
    variables = {f"websockets_{name}": value for name, value in variables.items()}
    done = deploy(**variables)
    assert done.returncode == 0, done.stdout
    yield dataclasses.replace(site, name="feed", numprocs=1, path="feed/", variables=variables)
    gone = play("remove", **variables, app_to_remove="feed")
    assert gone.returncode == 0, gone.stdout


def with_feed(site):
    locations = site.variables["websockets_nginx_locations"] | {"/feed/": "http://websockets_feed"}
    return site.variables | {"websockets_nginx_locations": locations}


def test_an_app_that_is_not_there_is_refused(site, deploy):
    before = site.release, site.pids()
    done = deploy(**with_feed(site))
    assert done.returncode != 0
    assert "Nothing has been touched on this host." in done.stdout
    assert "feed is not on this host yet; deploy it first, or name it before site in" in done.stdout
    assert (site.release, site.pids()) == before


def test_two_apps_under_one_name(site, feed, deploy, play, client, load):
    done = deploy(**with_feed(site))
    assert done.returncode == 0, done.stdout
    client(site)
    client(feed)
    assert site.get().status == 200
    # It goes through its own site, and so a deploy is as one of any app.
    first = feed.release
    with load("paths-feed", rate=100, held=100, app=feed) as report:
        done = deploy(**feed.variables, websockets_environment={"ANOTHER": "release"})
        assert done.returncode == 0, done.stdout
    assert report.harm() == {}
    assert (feed.release != first, report.codes()) == (True, {1012: 100})
    refused = play("remove", **feed.variables, app_to_remove="feed")
    assert refused.returncode != 0
    assert "nginx passes requests on to it from site; change or remove that first." in refused.stdout
    client(feed)
    done = deploy(**site.variables)
    assert done.returncode == 0, done.stdout
    assert status(site, "feed/") == 404
