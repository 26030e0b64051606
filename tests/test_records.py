"""Whatever a host's folders and records have become, the next run can read the host, and repairs it."""

import contextlib
import io
import json
import os
import shutil
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.websockets.deploy.plugins.module_utils import inputs, lock, paths, recorded, release
from ansible_collections.websockets.deploy.plugins.module_utils.record import from_dict, to_dict
from ansible_collections.websockets.deploy.plugins.module_utils.release import Release
from ansible_collections.websockets.deploy.plugins.module_utils.run import Run
from ansible_collections.websockets.deploy.plugins.module_utils.site import Site
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from role import load, plan, read, render

observe, status = load("modules/observe"), load("modules/status")

ONE, TWO, THREE = "111111111111", "222222222222", "333333333333"
SURROGATE = "caf\udce9.txt"  # how Python names the file caf\xe9.txt


@pytest.fixture
def etc(host, monkeypatch):
    """Have nginx's and systemd's files be in the temporary folder too."""
    monkeypatch.setattr(paths, "NGINX", f"{host}/etc/nginx")
    monkeypatch.setattr(paths, "drop_in", lambda service: f"{host}/etc/systemd/{service}.conf")
    monkeypatch.setattr(paths, "sandbox", lambda service: f"{host}/etc/systemd/{service}-sandbox.conf")
    monkeypatch.setattr(paths, "tmpfiles", lambda app: f"{host}/etc/tmpfiles.conf")
    for folder in ("nginx/conf.d", "nginx/sites-enabled", "systemd"):
        os.makedirs(host / "etc" / folder)
    return host


def put(identity, since=None, previous="", live=False):
    """Put a release of echo on the host, and return its folder."""
    made = Release.of("echo", identity, "ws-echo", f"{paths.app_base('echo')}/venvs/{identity}", 1)
    for folder in (made.code, made.venv, made.logs):
        os.makedirs(folder, exist_ok=True)
    Path(made.venv, release.COMPLETE).touch()
    Path(made.path, "release.json").write_text(json.dumps({**to_dict(made), "files": {"app.py": "file 0"}}))
    if since is not None:
        release.went_live(made, previous)
        os.utime(f"{made.path}/previous", (since, since))
    if live:
        release.point(made.live_link, made.sockets)
    return Path(made.path)


def look():
    """Return what the next run sees of the host. Like Ansible, this refuses a text that is not UTF-8."""
    planned = plan()
    arguments = {
        **{"app": "echo", "user": "ws-echo", "python": "/usr/bin/python3", "site": planned["site"]},
        **{"probe": planned["probe"], "headers": {}, "run": planned["run"], "minfds": 16, "worker_connections": 16},
        **{"platforms": read("vars/main.yml")["__websockets_platforms"], "keep_releases": 5},
    }
    return told(observe, arguments)["host"]


def told(module, arguments):
    out = io.StringIO()
    with patch_module_args(arguments), pytest.raises(SystemExit), contextlib.redirect_stdout(out):
        module.main()
    result = json.loads(out.getvalue())
    json.dumps(result, ensure_ascii=False).encode()
    assert "failed" not in result, result
    return result


# Records of releases

NAMES = ("localhost", "127.0.0.1")
VALID = {"id": TWO, "user": "u", "venv": "/v", "numprocs": 1, "files": {"a": "file 0"}}
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([SURROGATE, ONE]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.just(SURROGATE), inner),
    max_leaves=4,
)
texts = st.one_of(
    st.binary(max_size=20),
    anything.map(lambda value: json.dumps(value).encode()),
    st.integers(0, 80).map(lambda size: json.dumps(VALID).encode()[:size]),
    st.sampled_from(sorted(VALID)).map(lambda key: json.dumps({k: v for k, v in VALID.items() if k != key}).encode()),
    st.tuples(st.sampled_from(sorted(VALID)), anything).map(lambda item: json.dumps(VALID | dict([item])).encode()),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(b"")
@example(b"\xef\xbb\xbf{}")
@example(b"[" * 100_000)
@example(b"9" * 5000)
@example(json.dumps(VALID | {"numprocs": 10**9}).encode())
@example(json.dumps(VALID | {"numprocs": True}).encode())
@example(json.dumps(VALID | {"files": {SURROGATE: "file 0"}}).encode())
@example(json.dumps(VALID | {"files": {"link": f"link {SURROGATE}"}}).encode())
@example(json.dumps(VALID | {"files": ["app.py"]}).encode())
@example(json.dumps(VALID | {"id": ONE}).encode())
@given(texts)
def test_whatever_a_record_has_the_other_releases_are_found(host, text):
    put(ONE, since=100)
    put(THREE, since=300, previous=TWO, live=True)
    record = put(TWO, since=200) / "release.json"
    record.write_bytes(text)
    found = release.stored("echo")
    there = {id: to_dict(one) for id, one in found.items()}
    json.dumps(there, ensure_ascii=False).encode()
    assert plan({"live": THREE, "releases": there}, "rollback", rollback_to=ONE)["release"]["id"] == ONE
    if TWO in found:
        assert release.unneeded("echo", 5)[0] == []
        return
    with pytest.raises(
        inputs.InputError, match=f"{TWO}, which was live before, is not on this host any more; name {ONE}"
    ):
        plan({"live": THREE, "releases": there}, "rollback")
    assert release.prune("echo", 5) == [TWO]
    assert sorted(os.listdir(f"{paths.app_base('echo')}/releases")) == [ONE, THREE]
    assert sorted(os.listdir(f"{paths.app_base('echo')}/venvs")) == [ONE, THREE]


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda folder: (folder / "release.json").unlink(), id="no record"),
        pytest.param(
            lambda folder: [(folder / "release.json").unlink(), (folder / "release.json").mkdir()], id="folder"
        ),
        pytest.param(lambda folder: [shutil.rmtree(folder), folder.touch()], id="no folder"),
        pytest.param(lambda folder: [shutil.rmtree(folder), folder.symlink_to("/etc")], id="link elsewhere"),
    ],
)
def test_what_is_no_release_is_removed_like_one(host, harm):
    put(ONE, since=100, live=True)
    harm(put(TWO, since=200))
    assert list(release.stored("echo")) == [ONE]
    assert release.prune("echo", 5) == [TWO]
    assert os.listdir(f"{paths.app_base('echo')}/releases") == [ONE]
    assert os.path.isdir("/etc")


@pytest.mark.parametrize(
    "text", [b"", b"\xff\n", b"../../x\n", SURROGATE.encode("utf-8", "surrogateescape"), b"\0" * 9]
)
def test_a_marker_of_another_text_names_no_release(etc, text):
    (put(ONE, since=100, live=True) / "previous").write_bytes(text)
    found = look()["releases"][ONE]
    assert (found["previous"], found["since"] > 0) == ("", True)


@pytest.mark.parametrize("target", ["/etc", "releases", f"/run/{SURROGATE}", ""])
def test_a_live_link_that_leads_elsewhere_names_no_release(etc, target):
    put(ONE, since=100)
    link = paths.live_link("echo")
    if target:
        os.symlink(target, link)
    else:
        os.mkdir(link)
    assert look()["live"] == ""


def test_names_that_are_not_utf8_are_only_escaped(etc, supervisord):
    put(ONE, since=100, live=True)
    base = os.fsencode(paths.app_base("echo"))
    for folder in (b"releases/caf\xe9", b"venvs/caf\xe9", b"../caf\xe9/releases", b"releases/.caf\xe9"):
        os.makedirs(os.path.join(base, folder))
    Path(os.fsdecode(base), "venvs", "caf\udce9", release.COMPLETE).touch()
    for name in ("conf.d/websockets-caf\udce9.conf", "sites-enabled/caf\udce9"):
        Path(paths.NGINX, name).write_bytes(b"server { listen 80; server_name caf\xe9; }\n")
    Path(paths.drop_in("nginx")).write_bytes(b"# caf\xe9\n")
    found = look()
    assert list(found["releases"]) == [ONE]
    assert f"{paths.app_base('echo')}/venvs/caf\\xe9" in found["venvs"]
    assert told(status, {})["text"][0].startswith(f"echo: {ONE} live since ")
    release.prune("echo", 5)
    assert [name for name in os.listdir(base) if b"\xe9" in name] == []
    assert Path(os.fsdecode(base), "releases", "caf\udce9").is_dir()


# The live release


def test_packages_stay_while_nothing_says_which_ones_the_live_release_uses(host):
    put(ONE, since=100)
    (put(TWO, since=200, previous=ONE, live=True) / "release.json").write_text("{")
    assert release.prune("echo", 5) == []
    assert sorted(os.listdir(f"{paths.app_base('echo')}/venvs")) == [ONE, TWO]


def test_a_live_release_without_a_record_is_planned_again(etc):
    identity = plan(look())["release"]["id"]
    (put(identity, since=100, live=True) / "release.json").write_text("{")
    seen = look()
    planned = plan(seen)
    path = f"{paths.SRV}/echo/releases/{identity}/release.json"
    serves = f"{path}, the record of the live release, cannot be read. It serves meanwhile; this run"
    assert planned["warnings"] == [f"{serves} writes it again."]
    assert planned["todo"]["release"]
    other = plan(seen, environment={"A": "1"})
    assert other["warnings"] == [f"{serves} puts {other['release']['id']} in its place."]


def test_a_rollback_from_a_live_release_without_a_record_needs_a_name(host):
    put(ONE, since=100)
    put(TWO, since=200, previous=ONE, live=True)
    (Path(Release.of("echo", TWO).path) / "release.json").write_text("{")
    there = {"live": TWO, "releases": {id: to_dict(one) for id, one in release.stored("echo").items()}}
    with pytest.raises(inputs.InputError) as error:
        plan(there, "rollback")
    assert str(error.value) == (
        f"websockets_rollback_to is '': the record of {TWO}, which is live, cannot be read, so name the release to go"
        f" back to; it can go back to {ONE}."
    )
    assert plan(there, "rollback", rollback_to=ONE)["release"]["id"] == ONE
    assert plan(there, "remove")["release"]["id"] == TWO


# Other records


@pytest.fixture
def served(etc):
    """Put a site of echo's in nginx's folder; return it and its text."""
    planned = plan(listen="127.0.0.1:443", tls="self-signed")
    text = render("site.conf.j2", planned)
    Path(paths.site_file("echo")).write_text(text)
    os.makedirs(paths.app_base("echo"))
    return from_dict(Site, planned["site"]), text


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(b"[]")
@example(b'{"digest": 1}')
@given(texts)
def test_whatever_the_record_of_a_site_has_its_text_is_read(served, text):
    site, written = served
    Path(paths.site_record("echo")).write_bytes(text)
    assert {server.listen for server in recorded.site_of("echo").servers} == {"127.0.0.1:80", "127.0.0.1:443"}
    recorded.write(site, written)
    assert recorded.site_of("echo") == site


def test_a_record_of_other_types_does_not_count(served):
    recorded.write(*served)
    record = Path(paths.site_record("echo"))
    good, mine = json.loads(record.read_text()), {f"127.0.0.1:{port} {name}" for port in (80, 443) for name in NAMES}
    for key in good:
        for value in (None, 1, "x", [1], {"a": 1}, [None]):
            record.write_text(json.dumps(good | {key: value}))
            site = recorded.site_of("echo")
            json.dumps(to_dict(site))
            assert {claim for server in site.servers for claim in server.claims()} <= mine, (key, value)


@pytest.mark.parametrize("listen", ["localhost:8080", "unix:/run/x.sock", "127.0.0.1:99999"])
def test_a_site_that_a_person_has_given_another_address_is_in_no_ones_way(etc, listen):
    text = render("site.conf.j2", plan(listen="127.0.0.1:8081"))
    Path(paths.site_file("chat")).write_bytes(text.replace("127.0.0.1:8081", listen).encode() + b"# caf\xe9\n")
    assert look()["claims"] == {"chat": []}


@pytest.mark.parametrize("text", [b"{", b"[1]", b'{"id": 1, "who": null}', b"\xff", b"null"])
def test_a_lock_that_no_run_has_written_is_nobodys(host, text):
    Path(paths.LOCK).write_bytes(text)
    with lock.held(Run("me", "me@here")):
        pass
