"""The role for the tests: they import its Python by name, plan without a host, and render templates with Ansible."""

import functools
import importlib
import json
import os
import uuid
from pathlib import Path
from types import SimpleNamespace

from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template

# Ansible finds the plugins of a checkout in this folder.
init_plugin_loader([str(Path(__file__).resolve().parents[1] / ".collections")])

from ansible_collections.websockets.deploy.plugins.module_utils import nginx  # noqa: E402
from ansible_collections.websockets.deploy.plugins.module_utils.host import Host, Limits, Sandbox, Validity  # noqa: E402
from ansible_collections.websockets.deploy.plugins.module_utils.record import from_dict, to_dict  # noqa: E402
from ansible_collections.websockets.deploy.plugins.module_utils.release import Release, Stored  # noqa: E402
from ansible_collections.websockets.deploy.plugins.module_utils.sandbox import SERVICES  # noqa: E402
from ansible_collections.websockets.deploy.plugins.module_utils.site import Site  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
ROLE = ROOT / "roles" / "websockets"
ECHO = ROOT / "files" / "echo"


# The state of a host with all packages and no other app, as plugins/modules/observe.py returns it.
HOST = to_dict(
    Host(
        init="systemd",
        distribution="Debian GNU/Linux 12",
        platform="debian-12",
        python="3.13",
        missing_packages=[],
        files={},
        folders=True,
        idle_services=[],
        stale_units=False,
        sandboxes={name: Sandbox(on=False, late=False) for name in SERVICES},
        batch=True,
        batched=[],
        group="",
        home="",
        ipv6=True,
        listens={},
        certificate=Validity(),
        claims={},
        minfds=0,
        nginx_nofile=0,
        limits=Limits(nofile=1048576, nr_open=1048576, somaxconn=4096, conntrack=0),
        cores=8,
        live="",
        serves=False,
        releases={},
        venvs=[],
        programs=[],
        unneeded=False,
    )
)


def stored(id, app="echo", numprocs=0, **what):
    """Return a release on a host, as plugins/modules/observe.py returns it."""
    return to_dict(Stored(Release.of(app, id, f"ws-{app}", numprocs=numprocs), **{"files": {}, **what}))


def load(path):
    """Import one of the collection's plugins, such as ``modules/observe``."""
    return importlib.import_module(f"ansible_collections.websockets.deploy.plugins.{path.replace('/', '.')}")


@functools.cache
def read(path):
    """Return the values of one of the role's YAML files, with their templates not rendered yet."""
    return DataLoader().load_from_file(str(ROLE / path), trusted_as_template=True)


def task_vars(ansible_facts=None, **inputs):
    """Return the variables of a play that uses the role with these inputs, whose names lack ``websockets_``."""
    return {
        **read("defaults/main.yml"),
        "role_path": str(ROLE),
        "playbook_dir": str(ROOT / "playbooks"),
        "websockets_src": str(ECHO),
        **{f"websockets_{name}": value for name, value in inputs.items()},
        "ansible_facts": ansible_facts or {},
        **(ansible_facts or {}),
    }


def plan(
    host=None,
    purpose="deploy",
    files=(),
    recorded=None,
    examine=False,
    commands=None,
    me="ws1",
    hosts=("ws1",),
    **inputs,
):
    """Return the result of the action ``plan`` for these inputs.

    :param host: what differs from :data:`HOST`
    :param recorded: what the module recall returns, where it differs from a host that no app has been deployed to
    :param files: the host's own files that the plan compares with their templates
    :param examine: whether nginx has to read its new files, as before a release is built
    :param commands: list that gets the commands of a shell for the host
    :param me: name of the host in the inventory
    :param hosts: those of the play, or {host: its own variables}
    """
    # A value is a template only if a test marks it as one (trust_as_template), as Ansible does for YAML.
    hostvars = dict(hosts) if isinstance(hosts, dict) else {host: {} for host in hosts}
    names = {"inventory_hostname": me, "ansible_play_hosts_all": list(hosts), "hostvars": hostvars}
    variables = {**task_vars(**inputs), **read("vars/main.yml"), **names}
    action = load("action/plan").ActionModule(
        task=SimpleNamespace(args={}, async_val=0, check_mode=False, _uuid=str(uuid.uuid4())),
        connection=SimpleNamespace(_shell=None),
        play_context=None,
        loader=DataLoader(),
        templar=Templar(DataLoader(), variables),
        shared_loader_obj=None,
    )
    # These stand for the modules that look at a host, so the test needs none.
    recalled = {"apps": [], "there": False, "inputs": {}, "user": "", "names": [], **(recorded or {})}

    def execute(module, arguments=None, **_):
        if module == "websockets.deploy.examine":
            site = from_dict(Site, arguments["site"])
            return {"problems": list(load("modules/examine").of_nginx(arguments["files"], site))}
        return recalled if "recall" in module else {"host": HOST | (host or {})}

    action._execute_module = execute
    action._low_level_execute_command = ([] if commands is None else commands).append
    if not examine:
        action._examine_host = lambda *_: None
    action.host_files = lambda _app: files
    return action.make(variables, platforms=variables["__websockets_platforms"], purpose=purpose)


def render(template, planned, **variables):
    """Return the text of a template as the role's tasks render it.

    :param planned: a result of :func:`plan`
    """
    everything = {
        **task_vars(),
        **read("vars/main.yml"),
        "ansible_search_path": [str(ROLE)],
        "__websockets_plan": planned,
        **variables,
    }
    lookup = f"{{{{ lookup('ansible.builtin.template', '{template}') }}}}"
    return Templar(DataLoader(), everything).template(trust_as_template(lookup))


def nginx_files(planned, folder):
    """Return {path: text} of the files that the role puts into nginx's folder for a plan."""
    return {
        f"{folder}/conf.d/websockets.conf": render("http.conf.j2", planned),
        f"{folder}/conf.d/websockets-{planned['release']['app']}.conf": render("site.conf.j2", planned),
        f"{folder}/conf.d/websockets.next-{planned['release']['app']}.conf": render("next.conf.j2", planned),
    }


def challenge(planned):
    """Return the texts that answer an ACME authority, as tasks/cutover.yml passes them on."""
    if (planned["site"]["certificate"] or {}).get("mode") != "acme":
        return {}
    files = {"server": "plain", "location": "challenge"}
    return {name: render(f"site/{file}.conf.j2", planned) for name, file in files.items()}


def put_in_place(planned, **variables):
    """Put a release in place as plugins/modules/release.py does, but without a virtual environment."""
    release = planned["release"]
    os.makedirs(release["path"])
    os.symlink(planned["code"]["folder"], release["code"])
    for folder in (release["runtime"], release["logs"]):
        os.makedirs(folder, exist_ok=True)
    # As tmpfiles.conf.j2 says.
    if account := nginx.account():
        os.chown(release["runtime"], -1, account.gid)
    os.chmod(release["runtime"], 0o2750)
    texts = {
        "program.conf": render("program.conf.j2", planned, **variables),
        "run": render("run.j2", planned, **variables),
    }
    for name, text in (texts | {"release.json": json.dumps({**release, "files": {}})}).items():
        Path(release["path"], name).write_text(text)
    return release
