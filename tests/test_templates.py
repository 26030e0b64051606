"""Templates, rendered by Ansible itself and judged by the programs that read them."""

import functools
import os
import re
import shlex
import stat
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.websockets.deploy.plugins.module_utils import nginx, paths, tls
from ansible_collections.websockets.deploy.plugins.module_utils.inputs import InputError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from role import ROLE, nginx_files, plan, render
from supervisor.options import ServerOptions

INPUTS = {
    "defaults": {},
    "small messages": {"message_size": 1},
    "large messages": {"message_size": 1048576},
    "one process": {"numprocs": 1},
    "many processes": {"numprocs": 512, "max_connections": 65535},
    "names with - and _": {"app": "a-b_c-1"},
    "longest name": {"app": "a" * 34, "user": "u" * 32},
    "several names, with a wildcard": {
        "server_name": ["*.example.com", "ws_1.example.com", "192.0.2.1"],
        "origins": ["https://www.example.com", f"https://{'a' * 200}.example:3000"],
    },
    "any origin": {"origins": ["*"]},
    "an origin of all": {"origin_required": True},
    "load balancers": {"trusted_proxies": ["192.0.2.10", "10.0.0.0/8", "2001:db8::/32"]},
    "PROXY protocol": {"trusted_proxies": ["192.0.2.10"], "proxy_protocol": True},
    "an authorizer": {"auth_request": "http://[::1]:9000/check?app=echo%20"},
    "large bodies": {"body_size": 1 << 30},
    "port alone": {"listen": "18080", "tls": "none"},
    "IPv6": {"listen": "[::]:18080", "tls": "none"},
    "several addresses": {"listen": ["18080", "127.0.0.1:18081", "[::1]:18082"], "tls": "none"},
    "several addresses with TLS": {
        **{"listen": ["18443", "[::1]:18444"], "listen_plain": ["18080", "127.0.0.1:18081"], "tls": "self-signed"},
    },
    "log without query strings": {"access_log": "path"},
    "clients of one address together": {"sticky": "address"},
    "requests with one cookie together": {"sticky": f"cookie {'n' * 64}", "app": "a" * 34, "user": "u"},
    "cookie and headers behind TLS": {
        **{"listen": "18443", "listen_plain": "18080", "tls": "self-signed", "hsts": 9, "sticky": "cookie node"},
        **{"header_size": 131072, "origins": ["https://*.example.com", "https://a.example"]},
    },
    "no log": {"access_log": "none", "listen": "18443", "listen_plain": "18080", "tls": "self-signed"},
    "a path": {"path": "/a/ws/"},
    "pages of its own with TLS": {
        **{"path": "/ws/", "listen": "18443", "listen_plain": "18080", "tls": "self-signed", "hsts": 60},
        "nginx_locations": {"/": "{release}/public", "= /robots.txt": "{release}/web/robots.txt", "/x/": "return 204;"},
        **{"nginx_server": "add_header X-Frame-Options DENY always;", "before_start": "make pages"},
    },
    "other servers": {
        **{"path": "/ws/", "trusted_proxies": ["192.0.2.10"]},
        "nginx_locations": {
            "/": "http://[::1]:9000\n",
            "^~ /a/": "http://unix:/run/a.sock",
            "/b/": "http://websockets_echo",
        },
    },
    "long timeouts": {"ping_interval": 86399, "proxy_timeout": 86400, "stopwaitsecs": 86400},
}
# What an earlier app has at the same address.
BESIDE = {"listens": {"127.0.0.1:8080": {"options": True, "default": True, "speaks": "plain HTTP"}}}
every_input = pytest.mark.parametrize("inputs", INPUTS.values(), ids=INPUTS)


# nginx


@every_input
def test_nginx_takes_the_site(nginx_folder, inputs):
    planned = plan(**inputs)
    connections = planned["sizes"]["worker_connections"]
    tuned = nginx.tune(nginx.read(paths.NGINX_MAIN), connections, connections)
    certificate = planned["site"]["certificate"]
    pair = (
        dict(zip((certificate["path"], certificate["key"]), tls.make(["localhost"]), strict=True))
        if certificate
        else {}
    )
    words = nginx.test({paths.NGINX_MAIN: tuned, **pair, **nginx_files(planned, nginx_folder)})
    # nginx would write a warning to each host's log. Only the warning about this machine's open files does not count.
    warnings = [line for line in words.splitlines() if "[warn]" in line and "RLIMIT_NOFILE" not in line]
    assert [line for line in warnings if "open file resource limit" not in line] == []


def test_nginx_takes_two_apps_beside_each_other(nginx_folder):
    chat = plan(app="chat", server_name=["chat.example"])
    room = plan(BESIDE, app="chat-room", server_name=["room.example"])
    assert "[warn]" not in nginx.test(nginx_files(chat, nginx_folder) | nginx_files(room, nginx_folder))


def test_nginx_takes_two_apps_that_trust_other_proxies(nginx_folder):
    """Their variables are nginx's own names for all sites. These are the names of apps that are most like each other."""
    one = plan(app="a-b", server_name=["a.example"], trusted_proxies=["192.0.2.1", "192.0.2.1"])
    other = plan(BESIDE, app="a_b", server_name=["b.example"], trusted_proxies=["192.0.2.2"])
    longest = plan(BESIDE, app="a" * 34, user="a", server_name=["c.example"], trusted_proxies=["192.0.2.3"])
    files = [nginx_files(made, nginx_folder) for made in (one, other, longest)]
    assert "[warn]" not in nginx.test(files[0] | files[1] | files[2])
    assert len({made["site"]["variables"] for made in (one, other, longest)}) == 3


def test_nginx_warns_of_two_apps_with_one_name(nginx_folder):
    chat, room = plan(app="chat"), plan(BESIDE, app="room")
    files = nginx_files(chat, nginx_folder) | nginx_files(room, nginx_folder)
    assert 'conflicting server name "localhost" on 127.0.0.1:8080' in nginx.test(files)


@every_input
def test_nginxs_peers_are_the_releases_processes(inputs):
    planned = plan(**inputs)
    site = render("site.conf.j2", planned)
    peers = re.findall(r"(?m)^    server unix:(\S+) max_fails=0;$", site)
    assert peers == [process["peer"] for process in planned["release"]["processes"]]


def test_the_site_is_the_same_for_the_next_release():
    """A deploy of new code must not reload nginx."""
    assert render("site.conf.j2", plan()) == render("site.conf.j2", plan(environment={"A": "1"}, command="x {socket}"))


# Supervisor


@pytest.fixture
def options(tmp_path, monkeypatch):
    """Return what Supervisor's own parser reads in these files, included as on Debian."""

    def parse(**files):
        folder = tmp_path / "conf.d"
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (folder / f"{name}.conf").write_text(text)
        main = tmp_path / "supervisord.conf"
        main.write_text(f"[supervisord]\nlogfile={tmp_path}/log\nminfds=1024\n[include]\nfiles = {folder}/*.conf\n")
        # Supervisor requires that the folders of logs exist, but this is no host.
        monkeypatch.setattr("supervisor.datatypes.existing_dirpath", lambda path: path)
        parsed = ServerOptions()
        parsed.realize(["-c", str(main)])
        return parsed

    return parse


@pytest.fixture
def users(monkeypatch):
    """Supervisor looks up the user of a program, which does not exist here."""
    made = {}
    monkeypatch.setattr("supervisor.options.name_to_uid", lambda name: made.setdefault(name, len(made) + 5000))
    return made


@every_input
def test_supervisor_reads_the_program_as_it_is_meant(options, users, inputs):
    planned = plan(**inputs)
    release = planned["release"]
    (group,) = options(program=render("program.conf.j2", planned)).process_group_configs
    assert group.name == release["program"]
    logs = {process.name: process.stdout_logfile for process in group.process_configs}
    assert logs == {process["name"]: process["log"] for process in release["processes"]}
    for process in group.process_configs:
        read = {
            name: getattr(process, name)
            for name in (
                "command",
                "directory",
                "uid",
                "umask",
                "autostart",
                "stopwaitsecs",
                "stopsignal",
                "stopasgroup",
                "killasgroup",
                "redirect_stderr",
            )
        }
        assert read == {
            "command": f"/bin/sh {release['path']}/run",
            "directory": release["code"],
            "uid": users[release["user"]],
            "umask": 0o007,
            "autostart": True,
            "stopwaitsecs": planned["inputs"]["stopwaitsecs"],
            "stopsignal": 15,
            "stopasgroup": True,
            "killasgroup": True,
            "redirect_stderr": True,
        }
        assert process.autorestart is not False
        assert process.stdout_logfile_maxbytes * process.stdout_logfile_backups > 0, "a log without end fills the disk"


@pytest.mark.parametrize("template", ["program.conf.j2", "supervisord.conf.j2"])
def test_supervisor_knows_every_option(template):
    """Supervisor accepts misspelt options silently, so each option has to be in its source."""
    import supervisor.options

    source = Path(supervisor.options.__file__).read_text()
    for name in re.findall(r"(?m)^(\w+) = ", render(template, plan())):
        assert re.search(rf"""['"]{name}['"]""", source), f"{template}: {name}"


@pytest.mark.parametrize("debians", [1024, 100000], ids=["more than Debian's", "never less than the host has"])
def test_minfds_counts_although_it_is_in_an_included_file(options, debians):
    """Debian's own file sets minfds too."""
    planned = plan({"minfds": debians}, max_connections=4096)
    assert options(websockets=render("supervisord.conf.j2", planned)).minfds == max(4352, debians)


def test_supervisor_reads_two_apps_and_the_hosts_file_together(options, users):
    texts = {app: render("program.conf.j2", plan(app=app)) for app in ("chat", "room")}
    parsed = options(websockets=render("supervisord.conf.j2", plan()), **texts)
    assert sorted(group.name.split("-")[0] for group in parsed.process_group_configs) == ["chat", "room"]


# The script that starts a process, run by the real /bin/sh

# Texts that mean something to a shell, Ansible, Supervisor or this role.
NASTY = [
    *(
        "'",
        '"',
        "`id`",
        "$HOME",
        "${HOME}",
        "$(id)",
        "\\",
        "\\\\",
        "\\n",
        "\n",
        "\r\n",
        "\t",
        " ",
        "  ",
        "*",
        "?",
        "~",
        "#",
        "!",
        ";",
    ),
    *(
        "&&",
        "|",
        ">",
        "%",
        "%(ENV_HOME)s",
        "%%",
        "{{",
        "}}",
        "{{ 7 * 7 }}",
        "{% raw %}",
        "{#",
        "{",
        "}",
        '{"a": {"b": [1]}}',
        "é",
        "✓",
        "😀",
    ),
    *("{sockets}", "{ socket }", "$socket", "-n", "=", "", "\x01", "\x7f", "\u2028", "\ufeff"),
]
PIECES = st.sampled_from(NASTY) | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
VALUES = st.lists(PIECES, max_size=6).map("".join)
hypothesis_settings = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def process(host):
    """Run the script of a release for its process echo_01; return its output, split at zero bytes."""

    def run(environment=None, secrets=None, command="/usr/bin/env -0", **inputs):
        # Values marked as !unsafe, or from a vault, are no templates. These are none either.
        planned = plan(
            command="x {socket}", user="nobody-yet", secrets=secrets or {}, environment=environment or {}, **inputs
        )
        planned["inputs"]["command"] = command
        script = host / "run-script"
        script.write_text(render("run.j2", planned, websockets_secrets=secrets or {}))
        # What supervisord passes on to its processes.
        caller = {"PATH": "/supervisords", "USER": "root", "LD_PRELOAD": "", "http_proxy": "x", "IFS": "o"}
        caller |= {"SUPERVISOR_PROCESS_NAME": "echo_01", "SUPERVISOR_ENABLED": "1"}
        done = subprocess.run(["/bin/sh", script], env=caller, cwd=host, capture_output=True, check=True)
        assert done.stderr == b""
        # A shell may add PWD, OLDPWD, SHLVL and _.
        words = done.stdout.decode().removesuffix("\0").split("\0")
        return SimpleNamespace(release=planned["release"], words=words)

    return run


def environment_of(done):
    return dict(word.partition("=")[::2] for word in done.words)


@hypothesis_settings
@given(plain=VALUES, secret=VALUES)
@example(plain="", secret="\n")
@example(plain="'\"$`\\{{ x }}%s", secret="a\n\n")  # pragma: allowlist secret
def test_values_reach_the_process_as_they_are(process, plain, secret):
    seen = environment_of(process({"PLAIN": plain}, {"SECRET": secret}))
    assert (seen["PLAIN"], seen["SECRET"]) == (plain, secret)


@hypothesis_settings
@given(words=st.lists(VALUES.map(lambda value: value.replace("\n", "")), min_size=1, max_size=6))
@example(words=["-"])
@example(words=["", ""])
def test_words_reach_the_program_as_they_are(process, words):
    command = shlex.join(["/usr/bin/printf", "%s\\0", *words])
    assert process(command=command).words == words


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("{socket}", "{sockets}/echo_01.sock"),
        ("unix:{socket}", "unix:{sockets}/echo_01.sock"),
        ("{socket},{socket}", "{sockets}/echo_01.sock,{sockets}/echo_01.sock"),
        ("{venv}/bin/python", "{venv}/bin/python"),
        ("{release}/conf", "{code}/conf"),
        ("a b {socket}'\"$x", "a b {sockets}/echo_01.sock'\"$x"),
        ("every {ping_interval} s", "every 21 s"),
        ('{{"a": "{socket}"}}', '{{"a": "{sockets}/echo_01.sock"}}'),
    ],
)
def test_placeholders(process, text, meaning):
    text = text.replace("{{", "{").replace("}}", "}")
    done = process({"A": text}, ping_interval=21)
    assert environment_of(done)["A"] == meaning.format(**done.release)
    done = process(command=shlex.join(["/usr/bin/printf", "%s\\0", text]), ping_interval=21)
    assert done.words == [meaning.format(**done.release)]


def test_the_environment_is_the_apps(process):
    done = process()
    seen = environment_of(done)
    app = {"USER": "nobody-yet", "LOGNAME": "nobody-yet", "HOME": done.release["home"], "SHELL": "/bin/sh"}
    assert {name: seen[name] for name in app} == app
    assert seen["PATH"] == f"{done.release['venv']}/bin:/usr/local/bin:/usr/bin:/bin"
    assert seen["PYTHONUNBUFFERED"] == "1"
    ours = {"PATH", "LANG", "PYTHONUNBUFFERED", "SUPERVISOR_PROCESS_NAME", "SUPERVISOR_ENABLED", *app}
    others = {name for name in seen if not name.startswith("WEBSOCKETS_")}
    assert others - ours <= {"PWD", "OLDPWD", "SHLVL", "_"}, "supervisord's own environment"
    # The app's own environment has the last word.
    own = {name: "/x" for name in (*app, "PATH", "LANG", "PYTHONUNBUFFERED")}
    assert environment_of(process(own)).items() >= own.items()
    assert environment_of(process(secrets=own)).items() >= own.items()


def test_a_program_of_the_packages_is_found_by_its_name(process, host):
    """Such as ``uvicorn main:app --uds {socket}``, and ``python app.py {socket}``."""
    venv = plan(command="x {socket}", user="nobody-yet")["release"]["venv"]
    Path(venv, "bin").mkdir(parents=True)
    Path(venv, "bin", "uvicorn").write_text('#!/bin/sh\nprintf "%s\\0" uvicorn "$@"\n')
    Path(venv, "bin", "uvicorn").chmod(0o755)
    done = process(command="uvicorn main:app --uds {socket}")
    assert done.words == ["uvicorn", "main:app", "--uds", f"{done.release['sockets']}/echo_01.sock"]


def test_every_process_is_told_the_ping_interval(process):
    assert environment_of(process(ping_interval=21))["WEBSOCKETS_PING_INTERVAL"] == "21"


def test_numbers(process):
    seen = environment_of(process({"A": 1, "B": 2.5, "C": "007", "D": "yes"}))
    assert [seen[name] for name in "ABCD"] == ["1", "2.5", "007", "yes"]


def test_the_folder_of_the_sockets_is_made_after_a_reboot(process, host):
    (host / "run" / "echo").mkdir(parents=True)
    (host / "run" / "echo").chmod(0o2750)  # as tmpfiles.conf.j2 says
    release = process().release
    assert stat.filemode(os.stat(release["sockets"]).st_mode) == "drwxr-s---"
    process()  # and is no obstacle once it is there


@pytest.mark.parametrize("name", ["PATH", "socket", "IFS", "HOME", "LD_LIBRARY_PATH", "ENV", "LC_ALL", "PS4"])
def test_a_variable_of_the_app_does_not_change_how_it_is_started(process, name):
    """The script's variables and commands are its own, not the app's."""
    done = process({name: "/x"}, command="/usr/bin/printf '%s\\0' {socket}")
    assert done.words == [f"{done.release['sockets']}/echo_01.sock"]
    assert environment_of(process({name: "/x"}))[name] == "/x"


# The rest


@every_input
def test_tmpfiles_are_the_releases_folders(inputs):
    planned = plan(**inputs)
    release = planned["release"]
    lines = [line.split() for line in render("tmpfiles.conf.j2", planned).splitlines() if not line.startswith("#")]
    modes = {path: (mode, user, group) for kind, path, mode, user, group in lines if kind == "d"}
    assert len(modes) == len(lines)
    for folder in (
        release["base"],
        os.path.dirname(release["path"]),
        os.path.dirname(release["venv"]),
        release["logs"],
    ):
        assert modes[folder][1] == "root", "the app must not be able to replace its own code"
    assert modes[release["runtime"]] == ("2750", release["user"], "www-data")


def test_the_init_script_is_one_for_the_real_shell(tmp_path):
    script = tmp_path / "websockets-tmpfiles"
    script.write_text(render("websockets-tmpfiles.init.j2", plan()))
    assert subprocess.run(["/bin/sh", script, "nonsense"], capture_output=True).returncode == 2
    # insserv and systemd read its header.
    assert re.search(r"(?m)^# Provides: +websockets-tmpfiles$", script.read_text())


@pytest.mark.parametrize("template", sorted(path.name for path in (ROLE / "templates").glob("*.j2")))
def test_every_file_says_who_writes_it(template):
    assert "Ansible managed" in "".join(render(template, plan()).splitlines()[:2])


# No accepted value becomes a directive

LEXER = re.compile(r"""#[^\n]*|"((?:\\.|[^"\\])*)"|'((?:\\.|[^'\\])*)'|([;{}])|((?:\\.|\$\{|[^\s;{])+)""", re.S)


def directives(text):
    """Return the tokens of nginx's configuration, as nginx splits it (ngx_conf_read_token)."""
    found, words = [], []
    for match in LEXER.finditer(text):
        double, single, end, plain = match.groups()
        if end:
            found += [words] if words else []
            words = []
        elif not match[0].startswith("#"):
            words.append(next(word for word in (double, single, plain) if word is not None))
    assert not words
    return found


# Good values, some with an insertion that means something to nginx, Supervisor or Ansible.
PUT_IN = st.sampled_from(
    [*NASTY, "*", ".", "-", "_", ":", "/", "//", "[", "]", "@", ",", "0", "default", "include", "~", "~*"]
)


def nearly(*values):
    def put(value, piece, position):
        position %= len(value) + 1
        return value[:position] + piece + value[position:]

    right = st.sampled_from(values)
    return right | st.builds(put, right, PUT_IN | st.text(max_size=3), st.integers(0, 40))


NAMES = nearly("a.example", "*.example.com", "192.0.2.1", "_dev", "localhost", "default", "hostnames")
ORIGINS = nearly(
    "https://a.example", "http://localhost:3000", "http://[::1]:80", "moz-extension://0f-1a", "a+b.c-d://_"
)
PROXIES = nearly("192.0.2.10", "10.0.0.0/8", "2001:db8::/32", "::1")
LISTENS = nearly("80", "127.0.0.1:8080", "[::1]:8080", "0.0.0.0:65535")
WORDS = nearly("echo", "a-b_c-1", "default")
AUTHORIZERS = nearly("http://127.0.0.1:9000/check", "http://[::1]/a?b=c&d=%20")
CERTIFICATES = nearly("/etc/ssl/a.example.pem", "/srv/a@b/c+d_e-1")


# Names of the directives, from good values: other accepted values must not change them.
RIGHT = {
    "defaults": {},
    "access": {
        "server_name": ["a.example"],
        "origins": ["https://a.example"],
        "trusted_proxies": ["192.0.2.1"],
    },
    "authorizer and certificate": {
        "tls": "files",
        "tls_certificate": "/a.pem",
        "tls_key": "/a.key",
        "auth_request": "http://127.0.0.1/",
    },
}


def names(found):
    return [words[0] for words in found]


@functools.cache
def usual(kind):
    return names(directives(render("site.conf.j2", plan(**RIGHT[kind]))))


def accepted(**inputs):
    """Return the plan of these inputs, None if the role refuses them."""
    try:
        return plan(**inputs)
    except InputError:
        return None


@hypothesis_settings
@given(name=NAMES, origin=ORIGINS, proxy=PROXIES)
def test_nginx_reads_names_origins_and_proxies_as_they_are_meant(nginx_folder, name, origin, proxy):
    given = {"server_name": [name], "origins": [origin], "trusted_proxies": [proxy]}
    right = dict(RIGHT["access"])
    for variable in given:
        planned = accepted(**right | {variable: given[variable]})
        if planned:
            right[variable] = given[variable]
    planned = plan(**right)
    found = directives(render("site.conf.j2", planned))
    # In nginx's geo, a network is the first word of its line.
    (trusted,) = right["trusted_proxies"]
    assert ["192.0.2.1" if name == trusted else name for name in names(found)] == usual("access")
    assert [trusted, "1"] in found
    assert ["server_name", *right["server_name"]] in found
    assert ["if", "($http_origin", "=", *right["origins"], ")"] in found
    assert ["set_real_ip_from", *right["trusted_proxies"]] in found
    assert "[warn]" not in nginx.test(nginx_files(planned, nginx_folder))


@hypothesis_settings
@given(listen=LISTENS, app=WORDS)
def test_nginx_reads_where_it_listens_and_the_app_as_they_are_meant(listen, app):
    if planned := accepted(listen=listen, tls="none"):
        found = directives(render("site.conf.j2", planned))
        # A port alone is a second address, with a server that refuses.
        assert set(names(found)) == set(usual("defaults"))
        assert ["listen", listen, "backlog=4096"] in found
        assert (["listen", f"[::]:{listen}", "backlog=4096"] in found) == listen.isdecimal()
    if planned := accepted(app=app, user="somebody"):
        found = directives(render("site.conf.j2", planned))
        assert names(found) == usual("defaults")
        assert ["upstream", f"websockets_{app}"] in found


@hypothesis_settings
@given(authorizer=AUTHORIZERS, certificate=CERTIFICATES, key=CERTIFICATES)
def test_nginx_reads_the_authorizer_and_the_certificate_as_they_are_meant(authorizer, certificate, key):
    right = RIGHT["authorizer and certificate"]
    for variable, value, directive in (
        ("auth_request", authorizer, "proxy_pass"),
        ("tls_certificate", certificate, "ssl_certificate"),
        ("tls_key", key, "ssl_certificate_key"),
    ):
        if planned := accepted(**right | {variable: value}):
            found = directives(render("site.conf.j2", planned))
            assert names(found) == usual("authorizer and certificate")
            assert [directive, value] in found


@hypothesis_settings
@given(app=WORDS, user=WORDS)
def test_supervisor_reads_the_app_and_its_user_as_they_are_meant(options, users, app, user):
    app = app if accepted(app=app, user="somebody") else "echo"
    planned = accepted(app=app, user=user) or plan(app=app, user="somebody")
    (group,) = options(program=render("program.conf.j2", planned)).process_group_configs
    assert group.name == planned["release"]["program"]
    assert [process.name for process in group.process_configs] == [f"{app}_{number:02d}" for number in range(4)]
    assert {process.uid for process in group.process_configs} == {users[planned["release"]["user"]]}
