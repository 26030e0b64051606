"""Debian is served, its kin with a warning, anything else not at all; a host without Python is asked before apt is."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.websockets.deploy.plugins.module_utils import rules, system
from role import ECHO, ROOT, plan, read

PLATFORMS = read("vars/main.yml")["__websockets_platforms"]

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux {1} ({0})"\nNAME="Debian GNU/Linux"\nVERSION_ID="{1}"\nVERSION_CODENAME={0}\nID=debian\n'
TESTED = "The role's tests have not run on {}, only on Debian 12 and Debian 13. The role treats it as Debian."
REFUSED = "{} is not supported: use Debian 12 or Debian 13, or a distribution that is made from Debian."

# {name: (text of os-release, what the role calls it, its platform)}, as the distributions' own files have it
SERVED = {
    "Debian 12": (DEBIAN.format("bookworm", 12), "Debian GNU/Linux 12", "debian-12"),
    "Debian 13": (DEBIAN.format("trixie", 13), "Debian GNU/Linux 13", "debian-13"),
}
KIN = {
    "Debian 14": (DEBIAN.format("forky", 14), "Debian GNU/Linux 14", "debian"),
    "testing": (
        'PRETTY_NAME="Debian GNU/Linux forky/sid"\nNAME="Debian GNU/Linux"\nVERSION_CODENAME=forky\nID=debian\n',
        "Debian GNU/Linux forky/sid",
        "debian",
    ),
    "Ubuntu 24.04": (
        'PRETTY_NAME="Ubuntu 24.04.1 LTS"\nNAME="Ubuntu"\nVERSION_ID="24.04"\nVERSION_CODENAME=noble\nID=ubuntu\n'
        "ID_LIKE=debian\nUBUNTU_CODENAME=noble\n",
        "Ubuntu 24.04",
        "debian",
    ),
    "Mint": (
        '# a comment\nNAME="Linux Mint"\nVERSION="22 (Wilma)"\nID=linuxmint\nID_LIKE="ubuntu debian"\nVERSION_ID="22"\n',
        "Linux Mint 22",
        "debian",
    ),
}
OTHERS = {
    "Fedora": (
        'NAME="Fedora Linux"\nVERSION="40 (Cloud Edition)"\nID=fedora\nVERSION_ID=40\nPRETTY_NAME="Fedora Linux 40"\n',
        "Fedora Linux 40",
        "",
    ),
    "Rocky": (
        'NAME="Rocky Linux"\nVERSION="9.4"\nID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\n',
        "Rocky Linux 9.4",
        "",
    ),
    "Alpine": ('NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.20.3\n', "Alpine Linux 3.20.3", ""),
    "Arch": ('NAME="Arch Linux"\nPRETTY_NAME="Arch Linux"\nID=arch\nBUILD_ID=rolling\n', "Arch Linux", ""),
    "only an ID": ("ID='void'\n", "void", ""),
    "nothing": ("", "", ""),
    "not an os-release": ("Welcome to\nthe \"machine'\n", "", ""),
}


@pytest.mark.parametrize(("text", "name", "platform"), (all := SERVED | KIN | OTHERS).values(), ids=all)
def test_a_distribution_is_known_by_its_os_release(text, name, platform):
    assert system.distribution(text, PLATFORMS) == (name, platform)


def test_a_system_that_has_only_the_second_file_or_none(tmp_path, monkeypatch):
    monkeypatch.setattr(system, "OS_RELEASE", (tmp_path / "etc", tmp_path / "usr"))
    assert system.os_release() == ""
    (tmp_path / "usr").write_text("ID=debian\n")
    assert system.os_release() == "ID=debian\n"


def planned(text):
    name, platform = system.distribution(text, PLATFORMS)
    return plan({"distribution": name, "platform": platform})


@pytest.mark.parametrize(("text", "name", "_"), SERVED.values(), ids=SERVED)
def test_what_the_tests_run_on_is_served_without_a_word(text, name, _):
    assert planned(text)["warnings"] == []


@pytest.mark.parametrize(("text", "name", "_"), KIN.values(), ids=KIN)
def test_debians_kin_is_served_with_a_warning(text, name, _):
    assert planned(text)["warnings"] == [TESTED.format(name)]


@pytest.mark.parametrize(("text", "name", "_"), OTHERS.values(), ids=OTHERS)
def test_any_other_distribution_is_refused_by_name(text, name, _):
    with pytest.raises(rules.InputError) as refused:
        planned(text)
    assert str(refused.value) == REFUSED.format(name or "A distribution without os-release(5)")


# A host without Python, which the play asks by a shell command

GOOD = KIN["Ubuntu 24.04"]
# {inventory host: (text of its os-release, its inputs, part of the message that refuses it)}
BARE = {
    **{name.lower(): (text, {}, REFUSED.format(called)) for name, (text, called, _) in OTHERS.items() if called},
    "none": (None, {}, REFUSED.format("A distribution without os-release(5)")),
    # The distribution comes first: the other problems are of no interest there.
    "first": (OTHERS["Fedora"][0], {"websockets_numprocs": 0}, REFUSED.format("Fedora Linux 40")),
    "typo": (GOOD[0], {"websockets_listn": 1}, "did you mean websockets_listen?"),
    "folder": (GOOD[0], {"websockets_src": "/nonexistent"}, "there is no folder /nonexistent on the control node."),
    "empty": (GOOD[0], {"websockets_src": ""}, "name the folder of the app on the control node"),
    "listen": (GOOD[0], {"websockets_listen": "localhost:http"}, "websockets_listen is 'localhost:http'"),
    "command": (
        GOOD[0],
        {"websockets_command": "python other.py {socket}"},
        "there is no other.py in the app's folder",
    ),
    "type": (GOOD[0], {"websockets_keep_releases": "four"}, "websockets_keep_releases"),
    "vault": (GOOD[0], {}, "websockets_secrets"),
}
# A value that was encrypted with a password that this run does not have.
VAULTED = """websockets_secrets:
  TOKEN: !vault |
    $ANSIBLE_VAULT;1.1;AES256
    32346135306430323038613237343362373066666631646138626438633837663632643738383430
    3134356630653464663364383833343336386131623032310a643433323139316438613136623466
    66323231386637636661373861626665663632656435306664323637363965396563313861316338
    3466363464613931620a396435666332363237303833643134373132643732336231376266366261
    3438
"""

# It stands for sudo on a host of its own: it has the command find that host's files, and an apt-get that only says so.
BECOME = """#!/bin/sh
for last; do :; done
here=$(dirname "$0")
exec env PATH="$here:$PATH" /bin/sh -c "$(printf %s "$last" | sed "s,/usr/bin/python3,$here/python3,g
s,/usr/lib/python3/,$here/lib/,g
s,/etc/os-release,$here/os-release,g
s,/usr/lib/os-release,$here/os-release,g")"
"""
APT_GET = '#!/bin/sh\necho "$@" >>"$(dirname "$0")/asked"\nexit 100\n'


@pytest.fixture(scope="module", params=[True, False], ids=["check", "run"])
def bare(request, tmp_path_factory):
    """Run playbooks/site.yml for hosts without Python; return what it printed, and {host: what it asked of apt}."""
    folder = tmp_path_factory.mktemp("bare")
    for name, text, mode in (("become", BECOME, 0o755), ("apt-get", APT_GET, 0o755)):
        (folder / name).write_text(text)
        (folder / name).chmod(mode)
    hosts = {}
    for host, (text, inputs, _) in {**BARE, "good": (*GOOD[:1], {}, "")}.items():
        name = re.sub(r"\W", "_", host)
        (folder / name).mkdir()
        for tool in ("become", "apt-get"):
            (folder / name / tool).symlink_to(folder / tool)
        if text is not None:
            (folder / name / "os-release").write_text(text)
        if host == "rocky":  # it has a Python, as such distributions do, but nothing of apt
            (folder / name / "python3").symlink_to("/bin/false")
        hosts[name] = {"ansible_become_exe": f"{folder}/{name}/become", "websockets_src": str(ECHO), **inputs}
    inventory = {"websockets": {"vars": {"ansible_connection": "local"}, "hosts": hosts}}
    (folder / "hosts.yml").write_text(json.dumps(inventory))
    (folder / "host_vars").mkdir()
    (folder / "host_vars" / "vault.yml").write_text(VAULTED)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
        # This user may be root already.
        "ANSIBLE_BECOME_ALLOW_SAME_USER": "true",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        "ANSIBLE_NOCOLOR": "1",
        "LC_ALL": "C.UTF-8",
    }
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", folder / "hosts.yml", "playbooks/site.yml"]
    command += ["--check"] if request.param else []
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    asked = {path.parent.name: path.read_text() for path in folder.glob("*/asked")}
    return request.param, done.stdout + done.stderr, asked


@pytest.mark.parametrize(("host", "words"), [(host, words) for host, (*_, words) in BARE.items()], ids=BARE)
def test_a_bare_host_is_refused_before_anything_is_touched(bare, host, words):
    _, printed, asked = bare
    host = re.sub(r"\W", "_", host)
    fatal = re.findall(rf"(?m)^(?:fatal|\[ERROR\]): \[{host}\]: FAILED! => (\{{.*\}})$", printed)
    (message,) = [json.loads(result)["msg"] for result in fatal]
    assert message.startswith("Nothing has been touched on this host.\n")
    assert words in message
    assert host not in asked


def test_good_inputs_get_as_far_as_they_can(bare):
    check, printed, asked = bare
    if check:
        assert re.search(r"(?m)^good +: ok=\d+ +changed=1 +unreachable=0 +failed=0 ", printed)
        assert "apt would install python3 and python3-apt first" in printed
        assert asked == {}
    else:
        assert asked == {"good": "update -qq\n"}
    assert TESTED.format("Ubuntu 24.04") in " ".join(printed.split())
