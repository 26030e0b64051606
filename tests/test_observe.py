"""The module observe looks at this machine, and at files like those of a host."""

import errno
import grp
import json
import os
import pwd
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.websockets.deploy.plugins.module_utils import (
    host_files,
    neighbours,
    paths,
    recorded,
    services,
    system,
)
from ansible_collections.websockets.deploy.plugins.module_utils.inputs import InputError
from ansible_collections.websockets.deploy.plugins.module_utils.record import from_dict, to_dict
from ansible_collections.websockets.deploy.plugins.module_utils.site import Others, Site
from role import plan, render


@pytest.fixture
def taken():
    """A port of this machine at which this program listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def my_name():
    with open("/proc/self/comm") as file:
        return file.read().strip()


def claims(app):
    """Return what others have that no server of this app may have."""
    return neighbours.claims(app, recorded.sites(), neighbours.foreign_servers(app))


# Sites that need the app


def test_who_passes_requests_on_to_an_app_is_found(etc):
    for app, lines in {
        "chat": "proxy_pass http://websockets_feed;",
        "feed": "proxy_pass http://websockets_feed/;",
    }.items():
        (etc / f"nginx/conf.d/websockets-{app}.conf").write_text(f"server {{ location / {{ {lines} }} }}\n")
    (etc / "nginx/sites-enabled").mkdir(exist_ok=True)
    (etc / "nginx/sites-enabled/theirs").write_text(
        "server { location /a { proxy_pass\n 'http://websockets_feed'; } }\n"
    )
    (etc / "nginx/conf.d/other.conf").write_text(
        "server { location /a { proxy_pass http://websockets_feed-2; } # proxy_pass http://websockets_feed;\n }\n"
    )
    users = neighbours.users("feed", recorded.sites())
    assert users == {"chat", f"{etc}/nginx/sites-enabled/theirs"}
    assert neighbours.users("chat", recorded.sites()) == set()


# Programs that listen


@pytest.mark.parametrize("address", ["127.0.0.1:", "0.0.0.0:", ""], ids=["same address", "all addresses", "port alone"])
def test_the_program_in_the_way_is_named(taken, my_name, address):
    assert neighbours.listener(f"{address}{taken}") == f"{my_name} listens there already"


def test_a_free_port_is_nobodys(taken, free_port):
    assert neighbours.listener(f"127.0.0.1:{free_port()}") == ""
    # The same port of another address is free as well.
    assert neighbours.listener(f"127.0.0.2:{taken}") == ""


def test_nginx_is_not_in_its_own_way(tmp_path, eventually):
    """The role knows programs by their names: this one is called nginx, and listens."""
    program = tmp_path / "nginx"
    program.symlink_to(sys.executable)
    code = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
    with subprocess.Popen([program, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        port = int(process.stdout.readline())
        assert neighbours.owners(port) == {"nginx"}
        assert neighbours.listener(f"127.0.0.1:{port}") == ""
        process.communicate("")


def test_a_host_without_ipv6_is_told(monkeypatch):
    """Where the kernel has none, it does not even make a socket of that family."""

    class Without(socket.socket):
        def __init__(self, family=socket.AF_INET, *rest, **further):
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
            super().__init__(family, *rest, **further)

    assert system.ipv6() is bool(Path("/proc/net/if_inet6").read_text())
    monkeypatch.setattr(socket, "socket", Without)
    assert system.ipv6() is False
    told = "the kernel does not let nginx listen there (Address family not supported by protocol)"
    assert neighbours.listener("[::]:8080") == told


def test_an_address_of_another_host_is_told():
    told = "the kernel does not let nginx listen there (Cannot assign requested address)"
    assert neighbours.listener("192.0.2.1:8080") == told


# The other apps


@pytest.fixture
def etc(short_path, monkeypatch):
    """Have the module look for files under a temporary folder."""
    for name in ("SRV", "NGINX", "SUPERVISOR"):
        monkeypatch.setattr(paths, name, f"{short_path}{getattr(paths, name)}")
    monkeypatch.setattr(paths, "drop_in", lambda service: f"{short_path}/etc/systemd/system/{service}.conf")
    (short_path / "etc/nginx/conf.d").mkdir(parents=True)
    nginx_folder = short_path / "etc/nginx"
    main = nginx_folder / "nginx.conf"  # as Debian's
    main.write_text(
        f"http {{\n\tinclude {nginx_folder}/conf.d/*.conf;\n\tinclude {nginx_folder}/sites-enabled/*;\n}}\n"
    )
    monkeypatch.setattr(paths, "NGINX_MAIN", str(main))
    (short_path / "etc/supervisor/conf.d").mkdir(parents=True)
    return short_path / "etc"


def put(etc, recorded_too, **inputs):
    """Put another app's site on the host and return its plan; an old version of the role left no record."""
    planned = plan(**inputs)
    text = render("site.conf.j2", planned)
    Path(paths.site_file(planned["release"]["app"])).write_text(text)
    if recorded_too:
        os.makedirs(paths.app_base(planned["release"]["app"]), exist_ok=True)
        recorded.write(from_dict(Site, planned["site"]), text)
    return planned


@pytest.mark.parametrize("recorded_too", [True, False], ids=["recorded", "read"])
def test_servers_of_the_other_apps_are_known(etc, recorded_too):
    for inputs in (
        {"app": "chat", "listen": "8080", "server_name": ["A.example", "*.b.example"], "tls": "none", "origins": ["*"]},
        {"app": "room", "listen": "[::]:443", "server_name": ["c.example"], "tls": "self-signed"},
        {"app": "mine"},
    ):
        put(etc, recorded_too, **inputs)
    (etc / "nginx/conf.d/other.conf").write_text("server { listen 82; server_name d.example; }\n")
    assert claims("mine") == {
        f"{etc}/nginx/conf.d/other.conf": ["0.0.0.0:82 d.example"],
        "chat": [f"{at} {name}" for at in ("0.0.0.0:8080", ":::8080") for name in ("a.example", "*.b.example")],
        "room": [":::80 c.example", ":::443 c.example"],
    }


def at_address(app, listen):
    """Return what observe sees at an address where no program listens."""
    return to_dict(neighbours.listens(app, [listen], recorded.sites(), neighbours.foreign_servers(app))[listen]) | {
        "listener": ""
    }


NOTHING = to_dict(Others())
PLAIN = {**NOTHING, "speaks": "plain HTTP", "proxy_protocol": False}
LISTENS = {
    "nothing": ("", NOTHING),
    "another site at another port": ("server { listen 80 backlog=9; }\n", NOTHING),
    "not an address": ("server {\n  listen unix:/run/x backlog=9;\n}\n", NOTHING),
    "a comment": ("# server { listen 8080 default_server; }\n", NOTHING),
    "another site": ("server {\n  listen 8080;\n}\n", PLAIN),
    "another site with options": ("server {\n  listen 8080 reuseport backlog=9;\n}\n", {**PLAIN, "options": True}),
    "another spelling": ("server {\n  listen *:8080 so_keepalive=on;\n}\n", {**PLAIN, "options": True}),
    "PROXY protocol": ("server {\n  listen 8080 proxy_protocol;\n}\n", {**PLAIN, "proxy_protocol": True}),
    "TLS": ("server {\n  listen 8080 ssl;\n}\n", {**PLAIN, "speaks": "TLS"}),
    "another site for all names": ("server { listen 8080 default_server; }\n", {**PLAIN, "default": True}),
    "the second of two": (
        "server {\n listen 80;\n}\nserver { listen 0.0.0.0:8080 ssl default_server; }\n",
        {**PLAIN, "default": True, "speaks": "TLS"},
    ),
}


NAMES = {
    "in sites-enabled": ("sites-enabled/shop", "server {\n  listen 8080;\n  server_name shop.example A.example;\n}\n"),
    "at IPv6": ("conf.d/shop.conf", "server { listen [::]:8080 ssl; server_name a.example; }\n"),
    "in a folder of their own": ("vhosts/deep/shop", "server { listen *:8080; server_name 'a.example'; }\n"),
    "in lines that are included": ("conf.d/shop.conf", "server { include shop.inc; }\n"),
    "in two lines, with a comment": (
        "conf.d/shop.conf",
        'server{listen 127.0.0.1:9;listen 8080 # server_name b.example;\n;server_name\nb.example\n"a.example";}',
    ),
    "at port 80": ("conf.d/shop.conf", "server { server_name a.example; }\n"),
    "at an address alone": ("conf.d/shop.conf", "server { listen 192.0.2.1; server_name a.example; }\n"),
}


@pytest.mark.parametrize(("path", "text"), NAMES.values(), ids=NAMES)
def test_another_sites_name_is_refused_with_its_file(etc, path, text):
    file = etc / "nginx" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    (etc / "nginx/shop.inc").write_text("listen 8080; server_name a.example;")
    (etc / "nginx/conf.d/more.conf").write_text("include vhosts/*/*;\ninclude conf.d/more.conf;\n")
    listen = {"at port 80": "80", "at an address alone": "192.0.2.1:80"}
    listen = next((at for name, at in listen.items() if NAMES[name] == (path, text)), "8080")
    taken = {"claims": claims("mine")}
    with pytest.raises(InputError) as error:
        plan(taken, listen=listen, server_name=["A.example"], tls="none")
    at = {"80": "0.0.0.0:80", "192.0.2.1:80": "192.0.2.1:80"}.get(listen, ":::8080" if "[" in text else "0.0.0.0:8080")
    assert str(error.value) == (
        f"websockets_server_name is 'a.example': the site in {file} has this name at {at} already; use another name, or"
        " another port in websockets_listen."
    )


@pytest.mark.parametrize(
    "text",
    [
        "server { listen 8080; server_name b.example *.a.example _ ''; }",
        "server { listen 8081; server_name a.example; }",
        "server { listen unix:/run/x; server_name a.example; }",
        "server { listen localhost:8080; server_name a.example; }",
        "# server { listen 8080; server_name a.example; }",
        "upstream a.example { server 127.0.0.1:8080; }",
        "map $host $x { a.example 8080; server_name a.example; }",
        "server { listen 8081; location / { server_name a.example; } }",
        "server { listen 8080; server_name b.example",
        "}}}} ; { '",
    ],
)
def test_what_has_not_the_name_at_the_address_is_no_obstacle(etc, text):
    (etc / "nginx/conf.d/shop.conf").write_text(text)
    plan({"claims": claims("mine")}, listen="8080", server_name=["a.example"], tls="none")


@pytest.mark.parametrize("recorded_too", [True, False], ids=["recorded", "read"])
def test_each_of_several_addresses_is_known(etc, recorded_too):
    several = {"listen": ["443", "127.0.0.1:8443"], "tls": "self-signed", "server_name": ["a.example"]}
    put(etc, recorded_too, app="chat", **several)
    addresses = ["0.0.0.0:80", ":::80", "0.0.0.0:443", ":::443", "127.0.0.1:8443"]
    assert claims("mine") == {"chat": [f"{at} a.example" for at in addresses]}
    for listen in ("443", "[::]:443", "127.0.0.1:8443"):
        assert at_address("mine", listen) == {**PLAIN, "options": True, "default": True, "speaks": "TLS"}
    for listen in ("80", "[::]:80"):
        assert at_address("mine", listen) == {**PLAIN, "default": True}


def test_the_record_of_the_version_before_is_read(etc):
    """It has one server at one address, as a string."""
    planned = put(etc, True, app="chat", listen="0.0.0.0:8080", tls="none")
    record = json.loads(Path(paths.site_record("chat")).read_text())
    assert [server["listen"] for server in record["servers"]] == ["0.0.0.0:8080"] * 2
    old = {"app", "file", "http_file", "servers", "certificate", "origins", "host_header", "address", "url", "tls_port"}
    Path(paths.site_record("chat")).write_text(json.dumps({key: record[key] for key in {*old, "digest"}}))
    assert recorded.site_of("chat").servers == from_dict(Site, planned["site"]).servers
    assert at_address("mine", "8080") == {**PLAIN, "options": True, "default": True}


@pytest.mark.parametrize("recorded_too", [True, False], ids=["recorded", "read"])
@pytest.mark.parametrize(("text", "seen"), LISTENS.values(), ids=LISTENS)
def test_what_others_have_at_an_address(etc, text, seen, recorded_too):
    (etc / "nginx/conf.d/zzz.conf").write_text(text)
    put(etc, recorded_too, app="mine", listen="8080", tls="none")
    assert at_address("mine", "0.0.0.0:8080") == seen
    # Another app of the role gives the same.
    (etc / "nginx/conf.d/zzz.conf").unlink()
    assert at_address("yours", "8080") == {**PLAIN, "options": True, "default": True}


def test_the_server_by_which_a_release_proves_itself_is_nobodys_site(etc):
    planned = plan(app="mine", listen="8080", tls="none")
    Path(planned["release"]["next_file"]).write_text(render("next.conf.j2", planned))
    assert recorded.sites() == {}
    assert at_address("yours", "8080") == NOTHING
    assert neighbours.work("nginx") == []


def test_a_site_that_a_person_has_edited_is_read_again(etc):
    put(etc, True, app="mine", listen="8080", tls="none")
    site = Path(paths.site_file("mine"))
    site.write_text(site.read_text().replace("listen 8080", "listen 8081"))
    assert at_address("yours", "8080") == NOTHING
    assert at_address("yours", "8081") == {**PLAIN, "options": True, "default": True}


def test_the_first_server_answers_for_names_that_no_site_has(etc):
    """If no server of an address is default_server, nginx takes the first one: its site relies on that."""
    (etc / "nginx/conf.d/first.conf").write_text("server {\n  listen 8080;\n}\n")
    assert at_address("mine", "8080")["default"] is True
    (etc / "nginx/conf.d/first.conf").rename(etc / "nginx/conf.d/zzz.conf")
    assert at_address("mine", "8080")["default"] is False


def test_the_plan_refuses_what_one_of_them_has(etc):
    chat = {"app": "chat", "listen": "0.0.0.0:8080", "server_name": ["a.example"], "tls": "none"}
    put(etc, True, **chat)
    with pytest.raises(
        Exception, match=r"^websockets_server_name is 'a.example': the app chat has this name at 0.0.0.0:8080"
    ):
        taken = {"claims": claims("room")}
        plan(taken, app="room", listen="8080", server_name=["a.example"], tls="none")


def test_minfds_is_the_largest_there_is(etc):
    (etc / "supervisor/conf.d/a.conf").write_text("[supervisord]\nminfds=5000\n")
    (etc / "supervisor/conf.d/b.conf").write_text("; minfds = 90000\n[supervisord]\nminfds = 4352\n")
    assert neighbours.minfds() >= 5000
    assert neighbours.minfds() != 90000


def test_the_roles_own_minfds_is_seen(etc):
    (etc / "supervisor/conf.d/websockets.conf").write_text(render("supervisord.conf.j2", plan(max_connections=16000)))
    assert neighbours.minfds() == 16256


def test_the_limit_that_the_role_has_given_nginx_is_seen(etc):
    assert neighbours.nginx_nofile() == 0
    unit = Path(paths.drop_in("nginx"))
    unit.parent.mkdir(parents=True)
    unit.write_text(render("nginx.service.conf.j2", plan(max_connections=16000)))
    assert neighbours.nginx_nofile() == 32256


# The host's own files


def test_files_are_seen_with_their_mode(tmp_path):
    path = tmp_path / "file"
    path.write_text("# A file\n")
    path.chmod(0o640)
    assert host_files.found([str(path), f"{tmp_path}/none"]) == {str(path): "0640 # A file\n"}


@pytest.fixture
def folders(tmp_path):
    """A file of tmpfiles.d and the two folders that it asks for."""
    me = f"{pwd.getpwuid(os.getuid()).pw_name} {grp.getgrgid(os.getgid()).gr_name}"
    (tmp_path / "file").write_text(f"# d x\nd {tmp_path}/a 0755 {me}\nd {tmp_path}/a/b 2750 {me}\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a").chmod(0o755)
    (tmp_path / "a" / "b").chmod(0o2750)
    return tmp_path


def test_folders_that_are_as_they_should_be(folders):
    assert host_files.folders_are_made(f"{folders}/file")


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: (path / "a" / "b").rmdir(),
        lambda path: (path / "a" / "b").chmod(0o750),
        lambda path: (path / "a").chmod(0o777),
        lambda path: ((path / "a" / "b").rmdir(), (path / "a" / "b").symlink_to("/")),
        lambda path: (path / "a" / "b").rmdir() or (path / "a" / "b").touch(0o750),
        lambda path: (path / "file").unlink(),
        lambda path: (path / "file").write_text(f"d {path}/a 0755 no-such-user root\n"),
    ],
    ids=["gone", "other mode", "open to all", "link", "file", "no file of tmpfiles.d", "no user"],
)
def test_folders_that_are_not(folders, harm):
    harm(folders)
    assert not host_files.folders_are_made(f"{folders}/file")


GOOD = {"ActiveState": "active", "UnitFileState": "enabled", "NeedDaemonReload": "no"}


@pytest.mark.parametrize(
    ("supervisor", "idle", "stale"),
    [
        ({}, [], False),
        ({"ActiveState": "inactive"}, ["supervisor"], False),
        ({"ActiveState": "failed"}, ["supervisor"], False),
        ({"ActiveState": "activating"}, ["supervisor"], False),
        ({"UnitFileState": "disabled"}, ["supervisor"], False),
        ({"ActiveState": "inactive", "UnitFileState": ""}, ["supervisor"], False),
        ({"NeedDaemonReload": "yes"}, [], True),
    ],
)
def test_services_of_systemd(tmp_path, monkeypatch, supervisor, idle, stale):
    """systemctl shows each unit as a paragraph, also a unit that does not exist."""
    units = [{"Id": "nginx.service"} | GOOD, {"Id": "supervisor.service"} | GOOD | supervisor]
    shown = "\n\n".join("\n".join(f"{key}={value}" for key, value in unit.items()) for unit in units)
    (tmp_path / "systemctl").write_text(f"#!/bin/sh\ncat <<E\n{shown}\nE\n")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = services.units(False)
    assert (services.idle_units(found), services.stale(found)) == (idle, stale)


def test_a_systemd_that_does_not_answer_runs_no_services(tmp_path, monkeypatch):
    (tmp_path / "systemctl").symlink_to("/bin/false")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = services.units(False)
    assert (services.idle_units(found), services.stale(found)) == (["nginx", "supervisor"], False)


# The machine


def test_an_interpreter_tells_its_version():
    assert system.python_version(sys.executable) == "{}.{}".format(*sys.version_info[:2])


def test_an_interpreter_is_found_by_its_version(tmp_path, monkeypatch):
    monkeypatch.setattr(system, "PROGRAMS", f"/nowhere:{tmp_path}")
    version = "{}.{}".format(*sys.version_info[:2])
    # Not one of another folder of PATH, such as this interpreter's own.
    assert system.interpreter(version) == f"/usr/bin/python{version}"
    (tmp_path / f"python{version}").symlink_to(sys.executable)
    assert system.interpreter(version) == f"{tmp_path}/python{version}"
    assert system.python_version(version) == version


@pytest.mark.parametrize(
    "text",
    [None, "#!/bin/sh\nexit 1\n", "not a program"],
    ids=["none", "one that fails", "no program"],
)
def test_what_is_no_interpreter_has_no_version(tmp_path, text):
    path = tmp_path / "python"
    if text:
        path.write_text(text)
        path.chmod(0o755)
    assert system.python_version(str(path)) == ""


def test_an_interpreter_too_old_for_an_app_has_no_version(tmp_path):
    old = tmp_path / "python"
    old.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -c "import sys; sys.version_info = (3, 8, 10); $1"\n')
    old.chmod(0o755)
    assert system.python_version(str(old)) == ""


def test_packages_that_dpkg_does_not_have_are_missing():
    wanted = ["dpkg", "no-such-package", "no-such-a | dpkg", "no-such-b | no-such-c"]
    assert system.missing(wanted) == ["no-such-package", "no-such-b"]


def test_a_package_can_be_asked_for_with_its_architecture():
    native = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()
    # dpkg is of this machine's architecture, adduser of none.
    wanted = [f"dpkg:{native}", "dpkg:no-such", f"adduser:{native}", f"no-such:{native}", "no-such", "no-such"]
    assert system.missing(wanted) == ["dpkg:no-such", f"no-such:{native}", "no-such"]


def test_a_user_has_a_group_and_a_home_or_does_not_exist():
    me = pwd.getpwuid(os.getuid())
    assert system.account(me.pw_name) == (grp.getgrgid(me.pw_gid).gr_name, me.pw_dir)
    assert system.account("no-such-user") == ("", "")


def test_descriptors_that_the_host_does_not_allow():
    """No limit can be raised above the kernel's."""
    with open("/proc/sys/fs/nr_open") as file:
        above = int(file.read()) + 1
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert system.nofile(above) == hard
    assert system.nofile(16) == hard
