"""Several apps on a host: each by its own mapping, chosen by its name, and rolled back and removed by what the host knows."""

import json
import os
import pwd
import stat

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.websockets.deploy.plugins.module_utils import described, paths, recorded, rules, tls
from ansible_collections.websockets.deploy.plugins.module_utils.inputs import HIDDEN, InputError
from ansible_collections.websockets.deploy.plugins.module_utils.record import from_dict
from ansible_collections.websockets.deploy.plugins.module_utils.site import Site
from role import ECHO, load, plan, read, render, stored, task_vars

OLD, NEW = "111111111111", "222222222222"
# Two apps with everything that one of them could inherit from the other.
CHAT = {
    "src": str(ECHO),
    "server_name": ["chat.example.com"],
    "secrets": {"TOKEN": "hunter2-chat"},
    "environment": {"LOG_LEVEL": "debug"},
    "gate_path": "/chat",
    "gate_headers": {"X-Token": "hunter2-chat"},
    "gate_message": "hello",
    "origins": ["https://chat.example.com"],
    "nginx_locations": {"= /chat.txt": "return 204;"},
}
FEED = {"src": str(ECHO), "server_name": ["feed.example.com"], "command": "{venv}/bin/python app.py {socket} --feed"}
BOTH = {"chat": CHAT, "feed": FEED}


def of(name, purpose="deploy", apps=BOTH, **further):
    """Plan for one app of several."""
    return plan(purpose=purpose, **{"src": "", "apps": apps, "only": name, **further})


def refused(*arguments, **given):
    with pytest.raises(InputError) as error:
        of(*arguments, **given)
    assert "hunter2" not in str(error.value)
    return str(error.value)


@pytest.fixture
def on_the_line(monkeypatch):
    """Have the command line set variables, by -e."""

    def given(**variables):
        names = {f"websockets_{name}": value for name, value in variables.items()}
        monkeypatch.setattr(load("action/plan"), "load_extra_vars", lambda _loader: names)
        return variables

    return given


# One app's description does not reach another


def test_each_app_has_its_own_inputs():
    chat, feed = of("chat")["inputs"], of("feed")["inputs"]
    assert (chat["app"], chat["user"], chat["gate_path"]) == ("chat", "ws-chat", "/chat")
    assert (feed["app"], feed["user"], feed["command"]) == ("feed", "ws-feed", FEED["command"])
    defaults = plan()["inputs"]
    for name in CHAT.keys() - FEED.keys() - set(HIDDEN):
        assert feed[name] == defaults[name], name


def test_the_gate_is_at_the_path_of_its_own_app():
    planned = of("feed", apps={"chat": CHAT, "feed": {**FEED, "path": "/feed/"}})
    assert (planned["probe"]["path"], planned["site"]["url"]) == ("/feed/", "ws://feed.example.com:8080/feed/")


def test_neither_a_secret_nor_a_header_reaches_the_other_app():
    for name, has in (("chat", True), ("feed", False)):
        planned = of(name)
        variables = {"websockets_apps": BOTH, "websockets_src": ""}
        assert ("hunter2-chat" in render("run.j2", planned, **variables)) is has
        everything = {**task_vars(), **read("vars/main.yml"), "__websockets_plan": planned, **variables}
        headers = Templar(DataLoader(), everything).template(trust_as_template("{{ __websockets_gate_headers }}"))
        assert headers == (CHAT["gate_headers"] if has else {})
        assert "hunter2" not in repr(planned)


def test_a_plain_variable_holds_for_all_apps_and_an_apps_own_goes_before_it():
    apps = {**BOTH, "feed": {**FEED, "numprocs": 2}}
    shared = {"numprocs": 8, "listen": "127.0.0.1:9000"}
    got = [of(name, apps=apps, **shared)["inputs"] for name in apps]
    assert [(one["numprocs"], one["listen"]) for one in got] == [("8", ["127.0.0.1:9000"]), ("2", ["127.0.0.1:9000"])]


def test_the_command_line_goes_before_both(on_the_line):
    apps = {**BOTH, "feed": {**FEED, "numprocs": 2}}
    line = on_the_line(numprocs="3", command="other {socket}")
    assert of("feed", apps=apps, **line)["inputs"]["numprocs"] == "3"
    assert of("feed", apps=apps, **line)["inputs"]["command"] == "other {socket}"


def test_a_template_is_of_its_own_app():
    own = {**FEED, "server_name": [trust_as_template("{{ websockets_app }}.example.com")]}
    planned = of("news", apps={"chat": CHAT, "news": own})
    assert planned["inputs"]["server_name"] == ["news.example.com"]
    assert planned["inputs"]["user"] == "ws-news"


def test_all_apps_in_one_template():
    assert of("feed", apps=trust_as_template("{{ mine }}"), ansible_facts={"mine": BOTH})["inputs"]["app"] == "feed"


@pytest.mark.parametrize("name", [name for name in described.OWN if name != "app"])
def test_what_is_for_one_app_is_refused_beside_several(name):
    usual = read("defaults/main.yml")[f"websockets_{name}"]
    others = {dict: {"A": "other"}, list: ["other"], bool: True, str: "other"}
    other = next(value for kind, value in others.items() if isinstance(usual, kind))
    said = refused("feed", **{name: other})
    shown = "'(hidden)'" if name in HIDDEN else repr(other)
    assert said == (
        f"websockets_{name} is {shown}: it is for one app; with websockets_apps, set it there as {name} of an app (chat, feed)."
    )


# What is wrong with a description

PREFIX = "websockets_apps.feed"
REFUSED = {
    "misspelt": ({"listn": "80"}, f"{PREFIX}.listn is not an input: did you mean listen?"),
    "with the prefix": ({"websockets_src": "x"}, f"{PREFIX}.websockets_src is not an input: did you mean src?"),
    "like none": ({"zzz": 1}, f"{PREFIX}.zzz is not an input: see docs/variables.md for the inputs."),
    "the name again": ({"app": "feed"}, f"{PREFIX}.app is not an input of one app: leave it out here."),
    "of the play": ({"serial": 1}, f"{PREFIX}.serial is not an input of one app: leave it out here."),
    "of another type": (
        {"ping_interval": "20s"},
        f"{PREFIX}.ping_interval is '20s': use a whole number of 1 to 86400.",
    ),
    "too small": ({"numprocs": 0}, f"{PREFIX}.numprocs is '0': use 1 to 512, or auto for one process per core."),
    "missing": (
        {"src": ""},
        f"{PREFIX}.src is '': name the folder of the app on the control node, or set {PREFIX}.repo.",
    ),
    "empty": (
        {"server_name": None},
        f"{PREFIX}.server_name is None: give it a value, or leave it out for its default.",
    ),
    "of a secret": ({"secrets": ["hunter2"]}, f"{PREFIX}.secrets is '(hidden)': use a mapping."),
}


@pytest.mark.parametrize(("own", "message"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("first", ["feed", "chat"])
def test_a_fault_of_any_app_is_found_before_the_first_is_deployed(own, message, first):
    assert refused(first, apps={"chat": CHAT, "feed": {**FEED, **own}}).splitlines() == [message]


KINDS = {
    "list": ([FEED], "websockets_apps is a list: use a mapping from each app's name to its inputs."),
    "number": (2, "websockets_apps is a number: use a mapping from each app's name to its inputs."),
    "list for an app": (
        {"feed": ["hunter2"]},
        "websockets_apps.feed is a list: use a mapping of its inputs, such as {src: ~/feed}.",
    ),
    "nothing for an app": ({"feed": None}, f"{PREFIX} is empty: use a mapping of its inputs, such as {{src: ~/feed}}."),
    "name in capitals": (
        {"Feed": FEED},
        "The name of websockets_apps.Feed is 'Feed': use lower-case letters, digits, - and _, starting with a letter.",
    ),
}


@pytest.mark.parametrize(("apps", "message"), KINDS.values(), ids=KINDS)
def test_what_is_no_description(apps, message):
    assert refused("", apps=apps).splitlines()[0] == message


def test_a_string_on_the_command_line_says_how_to_write_a_mapping():
    assert "-e '{\"websockets_apps\": {...}}'" in refused("", apps="feed")


def test_the_names_are_in_one_place():
    assert refused("feed", app="chat") == (
        "websockets_app is 'chat': websockets_apps has the names (chat, feed); leave it out. For one of them, use --app NAME."
    )


# Which app


def test_a_deploy_is_of_an_app_that_is_described():
    assert refused("fed") == "websockets_only is 'fed': the variables of this host describe chat and feed."
    with pytest.raises(InputError, match=r"^websockets_only is 'feed': the variables of this host describe echo\.$"):
        plan(only="feed")
    assert plan(only="echo")["inputs"]["app"] == "echo"


@pytest.mark.parametrize("purpose", ["rollback", "remove"])
def test_one_of_several_has_to_be_named(purpose):
    assert refused("", purpose) == (
        "websockets_only is '': websockets_apps describes chat and feed; name one of them (--app NAME, or -e"
        " websockets_only=NAME)."
    )


@pytest.mark.parametrize("purpose", ["deploy", "rollback", "remove"])
@pytest.mark.parametrize("name", ["../feed", "a/b", "", "Feed"])
def test_a_name_that_is_none_is_never_a_path(purpose, name):
    with pytest.raises(InputError, match=r"use lower-case letters, digits, - and _, starting with a letter\."):
        plan(purpose=purpose, recorded={"there": True, "inputs": {"drain_timeout": 1}}, app=name, user="x")


# Apps by the paths of one name

AT_FEED = {"chat": {**CHAT, "nginx_locations": {"/feed/": "http://websockets_feed"}}, "feed": FEED}
FEED_FIRST = {name: AT_FEED[name] for name in ("feed", "chat")}
NOT_YET = (
    "websockets_apps.chat.nginx_locations is {'/feed/': 'http://websockets_feed'}: feed is not on this host yet; deploy it"
    " first, or name it before chat in websockets_apps."
)


def test_an_app_that_another_one_needs_comes_first():
    assert refused("chat", apps=AT_FEED) == NOT_YET
    assert refused("chat", apps=FEED_FIRST) == NOT_YET, "this run is about the chat alone"
    deployed = {"__websockets_deployed": {"feed": NEW}}
    assert of("chat", apps=FEED_FIRST, ansible_facts=deployed)["site"]["app"] == "chat"
    assert of("chat", apps=AT_FEED, host={"apps": ["feed"]})["site"]["app"] == "chat"


@pytest.mark.parametrize("first", ["other", "feed"])
def test_a_wrong_order_is_found_before_the_first_app_is_deployed(first):
    apps = {"other": {"src": str(ECHO), "server_name": ["other.example.com"]}, **AT_FEED}
    ansible_facts = {"__websockets_app": first}  # as the loop of tasks/main.yml
    assert refused("", apps=apps, ansible_facts=ansible_facts) == NOT_YET
    apps = {"other": apps["other"], **FEED_FIRST}
    assert of("", apps=apps, ansible_facts=ansible_facts)["site"]["app"] == first


def test_an_app_that_another_one_needs_cannot_be_removed():
    used = {**LIVE, "used_by": ["chat", "/etc/nginx/sites-enabled/theirs"]}
    assert refused("feed", "remove", recorded={"there": True}, host=used) == (
        "The name of websockets_apps.feed is 'feed': nginx passes requests on to it from chat and"
        " /etc/nginx/sites-enabled/theirs; change or remove that first."
    )
    of("feed", "remove", recorded={"there": True}, host=LIVE)


# What the host has recorded

LIVE = {
    "live": NEW,
    "releases": {NEW: stored(NEW, "feed", previous=OLD), OLD: stored(OLD, "feed", previous="", since=1.0)},
}


def record(tmp_path, monkeypatch, planned, headers, pem=None):
    """Record the inputs of a plan as a cut-over does, and return what the module recall returns then."""
    monkeypatch.setattr(paths, "SRV", str(tmp_path))
    app = planned["release"]["app"]
    os.makedirs(paths.app_base(app) + "/releases")
    recorded.write_inputs(from_dict(Site, planned["site"]), planned["inputs"], headers)
    return load("modules/recall").recall(app)


@pytest.fixture
def deployed(tmp_path, monkeypatch):
    """What a host returns where the feed has been deployed with inputs of its own."""
    own = {"gate_headers": {"X-Token": "hunter2"}, "drain_timeout": 0, "secrets": {"A": "hunter2"}, "hsts": 0}
    planned = of("feed", apps={"chat": CHAT, "feed": {**FEED, **own, "listen": "127.0.0.1:9000"}})
    return record(tmp_path, monkeypatch, planned, own["gate_headers"])


def test_the_record_has_no_secret_that_it_need_not_have(deployed, tmp_path):
    path = tmp_path / "feed" / "inputs.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["gate_headers"] == {"X-Token": "hunter2"}
    assert "secrets" not in path.read_text()
    # It leaves the host without the values, which a verbose run would print.
    assert "hunter2" not in repr(deployed)
    assert deployed["inputs"]["gate_headers"] == {"X-Token": ""}


@pytest.mark.parametrize("purpose", ["rollback", "remove"])
def test_the_name_is_enough(deployed, purpose):
    """The inventory describes another app, with everything that could be taken for the feed's."""
    others = {**CHAT, "app": "chat", "user": "ws-chat", "drain_timeout": 300, "listen": "443", "tls": "self-signed"}
    planned = plan(LIVE, purpose, recorded=deployed, **{**others, "src": "", "command": ""}, only="feed")
    assert planned["recorded"] is True
    assert planned["site"]["servers"][-1]["names"] == ["feed.example.com"]
    assert planned["site"]["servers"][-1]["listen"] == "127.0.0.1:9000"
    assert planned["release"]["app"] == "feed"
    assert (planned["inputs"]["user"], planned["inputs"]["drain_timeout"]) == ("ws-feed", 0)
    assert planned["inputs"]["gate_path"] == "/"
    assert (
        planned["site"]["origins"] == of("feed", apps={"feed": {**FEED, "listen": "127.0.0.1:9000"}})["site"]["origins"]
    )


def test_a_rollback_with_the_name_alone_on_the_command_line_cannot_take_another_apps_site(deployed, on_the_line):
    """-e websockets_app=feed, where the inventory describes the chat."""
    planned = plan(LIVE, "rollback", recorded=deployed, **{**CHAT, **on_the_line(app="feed")})
    assert planned["site"]["servers"][-1]["names"] == ["feed.example.com"]


def test_a_host_of_an_older_version_has_no_record_and_keeps_its_names(on_the_line):
    older = {"there": True, "apps": ["chat", "feed"], "user": "ws-feed", "names": ["feed.example.com"]}
    with pytest.raises(InputError) as error:
        plan(LIVE, "rollback", recorded=older, **{**CHAT, **on_the_line(app="feed"), "src": ""})
    assert str(error.value) == (
        "websockets_server_name is ['chat.example.com']: nginx's site has to stay as it is, and that of feed has"
        " feed.example.com; give the variables of its last deploy, or deploy it once more."
    )
    planned = plan(LIVE, "rollback", recorded=older, **{**FEED, "app": "feed", "src": ""})
    assert (planned["recorded"], planned["release"]["id"]) == (False, OLD)
    with pytest.raises(InputError, match="an older version has deployed it, and recorded no inputs; describe it"):
        plan(LIVE, "rollback", recorded=older, **CHAT, app="chat", only="feed")
    removal = plan(LIVE, "remove", recorded=older, **CHAT, app="chat", user="someone", only="feed")
    assert (removal["release"]["app"], removal["release"]["user"]) == ("feed", "ws-feed")


def test_data_that_a_removal_has_left_can_be_removed_by_the_name(host):
    """Nothing else of the app is there, and the inventory may describe it no more."""
    os.makedirs(paths.data("feed"))
    os.chown(paths.data("feed"), 65534, -1) if os.getuid() == 0 else None
    there = load("modules/recall").recall("feed")
    user = pwd.getpwuid(os.stat(paths.data("feed")).st_uid).pw_name
    assert (there["there"], there["user"], there["inputs"]) == (True, user, {})
    removal = plan(purpose="remove", recorded=there, **CHAT, app="chat", only="feed")
    assert (removal["release"]["app"], removal["release"]["user"]) == ("feed", user)
    assert removal["placeholders"]["data"] == f"{paths.LIB}/feed/data"


@pytest.mark.parametrize("purpose", ["rollback", "remove"])
def test_an_app_that_is_not_on_the_host(purpose):
    assert (
        refused("fed", purpose, recorded={"apps": ["chat", "feed"]})
        == "websockets_only is 'fed': this host has chat and feed."
    )
    assert refused("fed", purpose) == "websockets_only is 'fed': no app has been deployed to this host."


def test_what_is_this_runs_own_goes_before_the_record(deployed, on_the_line):
    given = dict(zip(rules.OF_A_ROLLBACK, (7, 8, 9, 10, OLD, True), strict=True))
    is_described = {**FEED, "drain_timeout": 20}
    assert of("feed", "rollback", {"feed": is_described}, recorded=deployed, host=LIVE)["inputs"]["drain_timeout"] == 20
    planned = plan(LIVE, "rollback", recorded=deployed, **CHAT, app="chat", only="feed", **on_the_line(**given))
    assert {name: planned["inputs"][name] for name in given} == given
    with pytest.raises(InputError, match=r"websockets_drain_timeout is -1: use 0 to 86400\."):
        plan(LIVE, "remove", recorded=deployed, app="chat", only="feed", **on_the_line(drain_timeout=-1))


def test_a_certificate_of_the_inputs_is_known_by_its_place(tmp_path, monkeypatch):
    certificate, key = tls.make(["feed.example.com"])
    own = {**FEED, "tls": "files", "tls_certificate": certificate, "tls_key": key}
    planned = of("feed", apps={"feed": own})
    there = record(tmp_path, monkeypatch, planned, {})
    assert key.splitlines()[1] not in (tmp_path / "feed" / "inputs.json").read_text()
    back = plan(LIVE, "rollback", recorded=there, only="feed")
    assert back["site"]["certificate"]["path"] == planned["site"]["certificate"]["path"]
    assert not back["site"]["certificate"]["given"]
    same = {what: planned[what] for what in ("release", "maintenance")}
    assert render("site.conf.j2", {**back, **same}) == render("site.conf.j2", planned)


def test_a_record_of_another_version_is_read(deployed):
    """An input that this version has got since has its default, and what it has no more is left out."""
    inputs = {name: value for name, value in deployed["inputs"].items() if name != "hsts"} | {"gone": 1, "listen": "80"}
    planned = plan(LIVE, "rollback", recorded={**deployed, "inputs": inputs}, only="feed")
    assert (planned["inputs"]["hsts"], planned["inputs"]["listen"]) == (0, ["80"])


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_record_that_cannot_be_read_is_none(tmp_path, monkeypatch, text):
    monkeypatch.setattr(paths, "SRV", str(tmp_path))
    (tmp_path / "feed").mkdir()
    (tmp_path / "feed" / "inputs.json").write_text(text)
    assert recorded.inputs_of("feed") == {}
