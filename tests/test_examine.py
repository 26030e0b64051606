"""The module examine: what nginx and Supervisor cannot read is found before a release is built, by the real programs."""

import json
import re
import signal
import sys
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.websockets.deploy.plugins.module_utils.inputs import InputError
from ansible_collections.websockets.deploy.plugins.module_utils.record import from_dict
from ansible_collections.websockets.deploy.plugins.module_utils.site import Site
from ansible_collections.websockets.deploy.plugins.module_utils.supervisor import Supervisor
from role import load, nginx_files, plan

examine = load("modules/examine")


def examined(made, folder):
    return list(examine.of_nginx(nginx_files(made, folder), from_dict(Site, made["site"])))


def contents(folder):
    return {path: (path.read_bytes(), path.stat().st_ino) for path in folder.rglob("*") if path.is_file()}


BROKEN = {
    "a site": ("sites-enabled/theirs", "server { nonsense; }\n", 'unknown directive "nonsense" in {file}:1'),
    "a file that is cut off": (
        "conf.d/a.conf",
        "server {\n    listen 81;\n",
        'unexpected end of file, expecting "}}" in {file}:3',
    ),
    "an include of nothing": (
        "conf.d/b.conf",
        "include snippets/none.conf;\n",
        "No such file or directory) in {file}:1",
    ),
    "a certificate that is gone": (
        "conf.d/c.conf",
        "server { listen 82 ssl; ssl_certificate /none.pem; ssl_certificate_key /none.key; }\n",
        'cannot load certificate "/none.pem"',
    ),
    "the main file": ("nginx.conf", "events {}\nhttp {\n", 'unexpected end of file, expecting "}}" in {file}:3'),
}


@pytest.mark.parametrize(("name", "text", "words"), BROKEN.values(), ids=BROKEN)
def test_what_is_broken_already_is_told_before_anything_is_built(nginx_folder, name, text, words):
    file = nginx_folder / name
    file.write_text(text)
    before = contents(nginx_folder)
    with pytest.raises(InputError) as error:
        plan(examine=True)
    assert str(error.value).startswith("nginx's configuration is broken already, before this deploy:\n")
    assert words.format(file=file) in str(error.value)
    assert contents(nginx_folder) == before


@pytest.mark.parametrize(
    "inputs",
    [
        {"nginx_server": "nonsense;"},
        {"nginx_locations": {"/a": "return;"}},
        {"nginx_server": "}"},
    ],
)
def test_lines_of_the_users_own_that_nginx_refuses_are_told_then_too(nginx_folder, inputs):
    with pytest.raises(InputError, match=r"^nginx would refuse the new configuration:\n") as error:
        plan(examine=True, **inputs)
    assert f"{nginx_folder}/conf.d/websockets-echo.conf:" in str(error.value)


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"tls": "self-signed"},
        {"tls": "acme", "server_name": ["a.example"]},
        {"access_log": "path", "trusted_proxies": ["192.0.2.1"]},
    ],
)
def test_what_nginx_can_read_is_no_problem(nginx_folder, inputs):
    plan(examine=True, **inputs)


def test_new_code_alone_goes_live_beside_a_broken_site(nginx_folder):
    """Such a deploy does not touch nginx."""
    made = plan()
    for path, text in nginx_files(made, nginx_folder).items():
        Path(path).write_text(text)
    (nginx_folder / "conf.d" / "zz.conf").write_text("nonsense;\n")
    assert examined(made, nginx_folder) == []
    assert examined(plan(proxy_timeout=99), nginx_folder) != []


def test_a_host_without_nginx_has_nothing_to_read(nginx_folder, monkeypatch):
    made = plan()
    (nginx_folder / "conf.d" / "zz.conf").write_text("nonsense;\n")
    monkeypatch.setenv("PATH", "/nonexistent")
    assert examined(made, nginx_folder) == []


# Supervisor


@pytest.fixture
def theirs(supervisord, host):
    """Somebody else's program, which runs."""
    code = "import signal; signal.pause()"
    (host / "conf.d" / "theirs.conf").write_text(f'[program:theirs]\ncommand = {sys.executable} -c "{code}"\n')
    client = Supervisor()
    client.add("theirs")
    return lambda: {name: process["pid"] for name, process in client.processes("theirs").items()}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[program:other]\nautostart = true\n", "program section program:other does not specify a command"),
        ("[program:other]\ncommand = x\nnumprocs = many\n", "invalid literal for int() with base 10: 'many'"),
        ("[program:other]\ncommand = x %(nothing)s\n", "nothing"),
        ("no section\n", "File contains no section headers"),
    ],
)
def test_a_broken_file_of_supervisors_is_told_and_no_program_notices(theirs, host, text, words):
    before = theirs()
    (host / "conf.d" / "other.conf").write_text(text)
    (problem,) = examine.of_supervisor()
    assert problem.startswith("Supervisor's configuration is broken already, before this deploy:\n")
    assert words in problem
    assert f"{host}/conf.d/other.conf" in problem
    assert theirs() == before


def test_a_supervisord_that_can_read_its_files_or_does_not_run_is_no_problem(theirs, supervisord):
    assert list(examine.of_supervisor()) == []
    supervisord.send_signal(signal.SIGKILL)
    supervisord.wait()
    assert list(examine.of_supervisor()) == []


def test_a_check_asks_nginx_and_leaves_supervisord_alone(nginx_folder, theirs, host, capsys):
    (host / "conf.d" / "other.conf").write_text("no section\n")
    (nginx_folder / "conf.d" / "zz.conf").write_text("nonsense;\n")
    made = plan()
    arguments = {"files": nginx_files(made, nginx_folder), "site": made["site"]}

    def problems(**further):
        with patch_module_args({**arguments, **further}), pytest.raises(SystemExit):
            examine.main()
        return [re.match(r"\w+", problem)[0] for problem in json.loads(capsys.readouterr().out)["problems"]]

    assert problems() == ["nginx", "Supervisor"]
    assert problems(_ansible_check_mode=True) == ["nginx"]
