"""With bad inputs ansible-playbook stops at the plan, says why, and has touched nothing."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from role import ECHO, ROOT

# Each case is an inventory host, which is this machine, and a part of its error.
CASES = {
    "typo": ({"websockets_numproc": 8}, "did you mean websockets_numprocs?"),
    "number": (
        {"websockets_numprocs": 0},
        "websockets_numprocs is '0': use 1 to 512, or auto for one process per core.",
    ),
    "open": (
        {"websockets_listen": "80", "websockets_tls": ""},
        "nginx listens on more than loopback (websockets_listen is 80).",
    ),
    "folder": ({"websockets_src": "/nonexistent"}, "there is no folder /nonexistent on the control node."),
    "secret": (
        {"websockets_secrets": {"TOKEN": ["hunter2"]}},
        "websockets_secrets is {'TOKEN': '(hidden)'}: use a string or a number",
    ),
    "header": ({"websockets_gate_headers": {"X-Token": "hunter2\n"}}, "use a string on one line as a header's value."),
    "repository": (
        {"websockets_repo": "http://hunter2@127.0.0.1:9/app.git", "websockets_src": ""},
        "websockets_repo is 'http://***@127.0.0.1:9/app.git': git cannot read it",
    ),
    "two": (
        {"websockets_numprocs": 0, "websockets_user": "root"},
        "websockets_user is 'root': the app must not run as root; name a user of its own.\nwebsockets_numprocs is '0'",
    ),
    "undefined": ({"websockets_server_name": ["{{ nowhere }}"]}, "'nowhere' is undefined"),
    # Types
    "text": (
        {"websockets_keep_releases": "four"},
        "websockets_keep_releases is 'four': use a whole number of 1 to 1000.",
    ),
    "unit": (
        {"websockets_ping_interval": "20s"},
        "websockets_ping_interval is '20s': use a whole number of 1 to 86400.",
    ),
    "half": ({"websockets_hsts": 1.5}, "websockets_hsts is 1.5: use a whole number of 0 to 315360000."),
    "list": ({"websockets_environment": ["A=b"]}, "websockets_environment is ['A=b']: use a mapping."),
    "mapping": ({"websockets_server_name": {"a": "b"}}, "websockets_server_name is {'a': 'b'}: use a list of strings."),
    "maybe": ({"websockets_proxy_protocol": "maybe"}, "websockets_proxy_protocol is 'maybe': use true or false."),
    "choice": ({"websockets_sandbox": "on"}, "websockets_sandbox is 'on': use auto, always or never."),
    "no_dict": (
        {"websockets_secrets": "hunter2"},
        "websockets_secrets is a string: use a mapping, which on the command line",
    ),
    "of_an_app": (
        {"websockets_src": "", "websockets_apps": {"feed": {"secrets": ["hunter2"]}}},
        "websockets_apps.feed.secrets is '(hidden)': use a mapping.",
    ),
    # These depend on the host.
    "port": ({}, " listens there already; use another address or port, or free this one."),
    "python": ({"websockets_python": "/nonexistent/python"}, "the host has no Python >= 3.9 at this path"),
}

PLAYS = """
- hosts: accepted
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: websockets.deploy.websockets, tasks_from: preflight}
    - block:
        - ansible.builtin.import_role: {name: websockets.deploy.websockets, tasks_from: preflight}
          vars: {websockets_numprocs: 2}
      rescue:
        - ansible.builtin.debug: {msg: "REFUSED {{ ansible_failed_result.msg }}"}
- hosts: refused
  gather_facts: false
  roles: [websockets.deploy.websockets]
"""


def places():
    """Return the files that a deploy would make on a host, with their inodes and times."""
    tops = [
        *("/srv/websockets", "/run/websockets", "/run/websockets.lock", "/var/log/websockets"),
        *("/etc/nginx", "/etc/supervisor", "/etc/tmpfiles.d", "/etc/init.d", "/etc/systemd/system", "/etc/passwd"),
    ]
    found = [Path(top) for top in tops if os.path.lexists(top)]
    found += [path for top in found if top.is_dir() for path in top.rglob("*")]
    # Sockets and logs of running programs change by themselves.
    return {path: (path.lstat().st_ino, path.lstat().st_ctime_ns) for path in found if path.suffix in ("", ".conf")}


@pytest.fixture(scope="module")
def run(tmp_path_factory, free_port):
    """Run ansible-playbook once for all cases, in check mode: it deploys nothing even if the plan accepts a case."""
    folder = tmp_path_factory.mktemp("preflight")
    with socket.create_server(("127.0.0.1", 0)) as mine:
        free = free_port()
        taken = f"127.0.0.1:{mine.getsockname()[1]}"
        hosts = {name: given for name, (given, _) in CASES.items()}
        hosts["port"] = {"websockets_listen": taken}
        secrets = {"websockets_secrets": {"TOKEN": "hunter2"}, "websockets_gate_headers": {"X-Token": "hunter2"}}
        accepted = {
            **secrets,
            "websockets_pip_index_url": "https://hunter2@pypi.example/",
            "websockets_listen": str(free),
        }
        common = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "websockets_src": str(ECHO),
            "websockets_python": sys.executable,
            "websockets_tls": "none",
            "websockets_listen": f"127.0.0.1:{free}",
        }
        inventory = {
            "all": {
                "vars": common,
                "children": {"accepted": {"hosts": {"good": accepted}}, "refused": {"hosts": hosts}},
            }
        }
        (folder / "inventory.json").write_text(json.dumps(inventory))
        (folder / "plays.yml").write_text(PLAYS)
        (folder / "ansible.cfg").touch()  # without settings, so that Ansible reads none of the user's
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
            "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            "ANSIBLE_NOCOLOR": "1",
            # Facts as variables of their own are on their way out (ansible-core 2.24).
            "ANSIBLE_INJECT_FACT_VARS": "false",
            # Facts as variables of their own are on their way out (ansible-core 2.24).
            "LC_ALL": "C.UTF-8",
        }
        command = [
            Path(sys.executable).parent / "ansible-playbook",
            "--check",
            "--diff",
            "-v",
            "-i",
            "inventory.json",
            "plays.yml",
        ]
        before = places()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        done.touched = {path for path in before.keys() | places().keys() if before.get(path) != places().get(path)}
    return done


def failures(run):
    """Return {host: message} of the output's fatal lines."""
    found = re.findall(r"(?m)^(?:fatal|\[ERROR\]): \[(\w+)\]: FAILED! => (\{.*\})$", run.stdout)
    return {host: json.loads(result)["msg"] for host, result in found}


@pytest.mark.parametrize(("case", "words"), [(name, words) for name, (_, words) in CASES.items()], ids=CASES)
def test_the_error_names_the_remedy(run, case, words):
    message = failures(run)[case]
    said, *lines = message.splitlines()
    assert said == "Nothing has been touched on this host."
    assert words in message
    # One line for each problem, and not the role's argument specs.
    assert len(lines) == (2 if case == "two" else 1)


def test_the_program_in_the_way_is_named(run):
    with open("/proc/self/comm") as file:
        assert f"{file.read().strip()} listens there already" in failures(run)["port"]


def test_nothing_has_been_touched(run):
    assert run.touched == set()
    recap = dict(re.findall(r"(?m)^(\w+) +: (ok=.*)$", run.stdout))
    for case in CASES:
        assert re.search(r"changed=0 +unreachable=0 +failed=1 ", recap[case]), recap[case]
    # The plan is the last task that has run.
    assert run.stdout.rsplit("\nTASK [", 1)[1].startswith(
        "websockets.deploy.websockets : Check the inputs, look at the host and plan the release]"
    )


def test_good_inputs_are_accepted(run):
    assert re.search(r"(?m)^good +: ok=\d+ +changed=0 +unreachable=0 +failed=0 ", run.stdout), run.stdout


def test_a_second_app_of_the_same_name_is_refused(run):
    assert "another app of this run has this name; use another name." in re.search('"msg": "REFUSED .*', run.stdout)[0]


def test_no_secret_is_shown_even_in_a_verbose_run(run):
    assert "hunter2" not in run.stdout + run.stderr


def test_no_warning_or_deprecation(run):
    assert [line for line in (run.stdout + run.stderr).splitlines() if re.match(r"\[(WARNING|DEPRECATION)", line)] == []
