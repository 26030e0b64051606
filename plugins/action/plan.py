"""Check every input, look at the host, and make the plan that the other steps of the role read."""

from __future__ import annotations

import dataclasses
import getpass
import json
import os
import platform
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.release import __version__
from ansible.utils.vars import load_extra_vars

try:
    from ansible.template import trust_as_template
except ImportError:  # meta/runtime.yml names the version too, but Ansible only warns
    raise AnsibleError(f"websockets.deploy needs ansible-core 2.19 or newer; this is {__version__}.") from None

from ..module_utils import (
    described,
    host_files,
    lock,
    locked,
    paths,
    plan,
    recorded,
    release,
    rules,
    sandbox,
    scheduling,
    sizing,
    source,
    system,
    tls,
    wheels,
)
from ..module_utils.host import Host
from ..module_utils.inputs import PREFIX, SECRET, InputError, Inputs, problem, stop_at
from ..module_utils.locked import Lock
from ..module_utils.plan import Code, Plan
from ..module_utils.record import from_dict, to_dict
from ..module_utils.release import Findings, Release
from ..module_utils.run import Run
from ..module_utils.site import Certificate, Site
from ..module_utils.wheels import Needed
from ..plugin_utils.variables import Variables


class ActionModule(ActionBase):
    """The action ``plan``: it returns a :class:`Plan` as a dictionary, and a fact with the apps that this run deploys.

    ``purpose`` is ``deploy``, ``rollback`` (to a release that is on the host already), ``restart`` (of the live release),
    ``maintenance`` (of the app, as its last deploy left it) or ``remove`` (all releases of the app). Only a deploy reads the
    app's code. ``bootstrap`` checks what a deploy can check on the control node, and the host's ``os_release``: the host has
    no Python yet.
    """

    TRANSFERS_FILES = False
    _requires_connection = True
    host_files = staticmethod(host_files.of)

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            {
                "platforms": {"type": "dict", "required": True},
                "purpose": {"type": "str", "choices": list(plan.PURPOSES), "required": True},
                "os_release": {"type": "str", "default": ""},
                "app": {"type": "str", "default": ""},
                "proof_sources": {"type": "list", "elements": "str", "default": []},
            }
        )
        variables = task_vars or {}
        try:
            made = self.make(variables, **arguments)
        except InputError as error:
            deployed = variables.get("ansible_facts", {}).get("__websockets_deployed", {})
            others = ", ".join(sorted(set(deployed) - {self._app}))
            before = f" This run has deployed {others} before." if others else ""
            raise AnsibleActionFail(f"Nothing has been touched on this host.{before}\n{error}") from None
        return {**result, **made, "changed": False}

    def make(
        self,
        task_vars: dict[str, Any],
        platforms: dict[str, Any],
        purpose: str,
        os_release: str = "",
        proof_sources: Sequence[str] = (),
        app: str = "",
    ) -> dict[str, Any]:
        """Return the plan as a dictionary.

        :raises InputError: if the role cannot use the inputs, on this host or at all
        """
        self._run, self._app, self._begun = _this_run(), "", False
        self._proof_sources = list(proof_sources)
        self._variables = described.with_apps(task_vars, self._templar.template)
        self._said = Variables(self._templar, self._variables, load_extra_vars(self._loader))
        try:
            if purpose == "bootstrap":
                return self._check(platforms, os_release)
            return self._make(task_vars, platforms, purpose, app)
        except InputError as error:
            if self._begun:
                self._unlock()
            raise InputError(described.label(str(error), self._app, self._variables)) from None

    def _check(self, platforms: dict[str, Any], os_release: str) -> dict[str, Any]:
        """Check what a deploy can check on the control node, for a host without Python."""
        known = system.distribution(os_release, platforms)
        stop_at(rules.check_platform(*known, platforms))
        self._said.check_names()
        self._check_all(self._said.apps())
        return {"warnings": rules.untested(*known, platforms)}

    def _make(self, task_vars: dict[str, Any], platforms: dict[str, Any], purpose: str, app: str) -> dict[str, Any]:
        self._said.check_names()
        app = self._app = app or self._said.chosen(purpose)
        stop_at(rules.check_name(app))
        run, is_recorded = self._run, False
        deployed = task_vars.get("ansible_facts", {}).get("__websockets_deployed", {})
        code: Code | None = None
        found: Findings = {}
        doubts: list[str] = []
        pinned: Lock | None = None
        others: list[Inputs] = []
        if purpose == "deploy":
            if not deployed:
                # Of several apps, the last one's fault is better found before the first one is deployed.
                others = self._check_all(one for one in self._said.apps() if one != app)
            inputs, site = self._checked(app)
            code, found, requirements, doubts, pinned = self._code(inputs, site)
        else:
            inputs, site, is_recorded = self._recalled(app, purpose)
        probe = plan.probe_of(inputs, site)
        host = self._observe(
            inputs, site, _with_packages(platforms, site, inputs), to_dict(probe), is_recorded, purpose
        )
        site = Site.of(inputs, host.ipv6)
        known = host.distribution, host.platform
        stop_at(rules.check_platform(*known, platforms))
        if purpose == "remove":
            stop_at(rules.check_removal(inputs, host))
            to_be = Release.of(inputs.app, host.live, inputs.user)
        elif purpose == "maintenance":
            to_be = rules.the_live(inputs, host)
        else:
            numprocs = sizing.numprocs(inputs.numprocs, host.cores)
            stop_at(rules.check_host(inputs, site, host, numprocs))
            stop_at(pinned.check(host.python) if pinned else [])
            self._check_upstreams([*others, inputs], {*host.apps, *deployed})
            if purpose == "restart":
                to_be = rules.the_live(inputs, host)
            elif purpose == "rollback":
                to_be = rules.go_back(inputs, host)
            else:
                texts = [_read(os.path.join(task_vars["role_path"], path)) for path in release.PROCESS]
                derived = [
                    release.derive(inputs, numprocs, found, requirements, host.python, json.loads(text))
                    for text in texts
                ]
                to_be = release.choose(derived, host.live, host.releases, host.venvs)
                stop_at(rules.check_paths(inputs, to_be))
                stop_at(rules.check_run(inputs, to_be, deployed))
                deployed = {**deployed, inputs.app: to_be.id}
            if purpose != "restart":
                stop_at(rules.check_data(inputs, to_be, host))
        sizes = plan.sizes_of(inputs, host)
        made = Plan(
            purpose=purpose,
            run=run,
            inputs=inputs.shown(),
            recorded=is_recorded,
            code=code,
            host=host,
            release=to_be,
            group=host.group or to_be.user,
            probe=probe,
            site=site.beside(host.listens),
            sizes=sizes,
            placeholders=plan.placeholders(inputs, to_be, sizes),
            sandboxed=sandbox.decide(inputs.sandbox, host),
            scheduling_says=scheduling.say(inputs.cpu_scheduling, host),
            tmpfiles=paths.tmpfiles(inputs.app),
            maintenance=paths.maintenance(inputs.app),
            called=code.revision.after(to_be.id) if code else rules.called(host, to_be.id),
        )
        if purpose == "deploy":
            made = dataclasses.replace(made, host_files=self._differing(made, task_vars))
        me = task_vars.get("inventory_hostname", "")
        first = self._first(task_vars, inputs.app) if inputs.before_start_on == "one" else me
        made = dataclasses.replace(made, relies_on=plan.relies_on(made, me, first))
        made = dataclasses.replace(
            made, sandbox_says=plan.say_sandbox(made, inputs.sandbox), todo=plan.todo(made, len(found))
        )
        if purpose == "deploy" and made.todo.release:
            self._examine_host(made, task_vars)
        if code and host.markers and to_be.venv not in host.venvs:
            needed = Needed(code.folder, found, requirements, code.requirements, code.installs_itself)
            given = host.markers, C.DEFAULT_LOCAL_TMP, inputs.pip_index_url, inputs.pip_args
            made = dataclasses.replace(made, code=dataclasses.replace(code, wheels=wheels.archive_once(needed, *given)))
        if purpose == "deploy" and self._is_settled(made, task_vars):
            made = dataclasses.replace(made, settled=True)
            self._unlock()
        warnings = rules.untested(*known, platforms) + rules.warnings(inputs)
        warnings += rules.alone(to_be) if purpose == "restart" else []
        if purpose in ("deploy", "rollback"):
            warnings += rules.unreadable(host, to_be) + doubts
        return {**to_dict(made), "warnings": warnings, "ansible_facts": {"__websockets_deployed": deployed}}

    def _first(self, task_vars: Mapping[str, Any], app: str) -> str:
        """Return the first host of the play, whatever its batch, without those whose variables describe other apps only."""
        for host in task_vars["ansible_play_hosts_all"]:
            theirs = described.with_apps(task_vars["hostvars"][host], self._templar.template)
            # A play may have a variable that a host's own variables do not have.
            apps = described.described(theirs) or [name for name in (theirs.get(f"{PREFIX}app"),) if name]
            if not apps or app in apps:
                return str(host)
        return str(task_vars["inventory_hostname"])

    # The inputs and the code of an app

    def _checked(self, app: str) -> tuple[Inputs, Site]:
        """Return the inputs of an app from the variables, and its site."""
        self._app = app
        inputs = self._said.of(app)
        stop_at(rules.check(inputs))
        stop_at(rules.check_replaces(inputs, self._said.apps()))
        site = Site.of(inputs)
        stop_at(rules.check_site(inputs, site))
        if site.certificate and site.certificate.given:
            stop_at(_examine(inputs, site.certificate))
        return inputs, site

    def _check_all(self, apps: Iterable[str]) -> list[Inputs]:
        """Stop at what the control node can tell of these apps; return their inputs."""
        checked = []
        for app in apps:
            inputs, site = self._checked(app)
            self._code(inputs, site)
            checked.append(inputs)
        return checked

    def _check_upstreams(self, found: Iterable[Inputs], there: Collection[str]) -> None:
        """Stop at an app that needs another one of this host, which this run does not deploy before it.

        :param found: the inputs of the apps that this run may deploy
        :param there: apps that are on the host already
        """
        inputs, known, app = {one.app: one for one in found}, set(there), self._app
        for one in [one for one in self._said.in_run() if one in inputs] or [app]:
            self._app = one  # an error is about this one
            stop_at(rules.check_upstreams(inputs[one], known))
            known.add(one)
        self._app = app

    def _recalled(self, app: str, purpose: str) -> tuple[Inputs, Site, bool]:
        """Return the inputs and the site of an app on the host, and whether its last deploy has recorded them there."""
        self._app = app
        there = self._on_host("recall", {"app": app, "run": to_dict(self._run)})
        mine = app in self._said.apps()
        if not mine and not there["there"]:
            has = f"this host has {_and(there['apps'])}." if there["apps"] else "no app has been deployed to this host."
            raise InputError(problem(described.ONLY, app, has))
        inputs = self._said.of_record(app, there["inputs"], mine) if there["inputs"] else None
        if inputs:
            stop_at(rules.check_numbers(inputs))
            return inputs, Site.of(inputs), True
        if mine:
            inputs = self._said.of(app)
            stop_at(rules.check(inputs, code=False))
            site = Site.of(inputs)
            stop_at(rules.check_site(inputs, site))
            if purpose in ("rollback", "maintenance"):
                stop_at(rules.check_names(inputs, there["names"]))
            return inputs, site, False
        if purpose != "remove":
            remedy = f"an older version has deployed it, and recorded no inputs; describe it in {described.APPS}."
            raise InputError(problem(described.ONLY, app, remedy))
        inputs = self._said.of_record(app, {"user": there["user"]} if there["user"] else {}, mine)
        assert inputs, "defaults can be read"
        stop_at(rules.check_numbers(inputs))
        return inputs, Site.of(inputs), False

    def _code(self, inputs: Inputs, site: Site) -> tuple[Code, Findings, str, list[str], Lock | None]:
        """Return the app's code, the files in its folder, the text that decides its packages, warnings, and its lock."""
        folder = self._folder(inputs)
        # One scan for all hosts of this task: they get the same code, even if the folder changes meanwhile.
        scan = source.scan_once(folder, C.DEFAULT_LOCAL_TMP, self._task._uuid, inputs.exclude)
        seen = source.load(scan)
        stop_at(rules.check_source(inputs, site, seen.files))
        own, pinned = source.code_text(seen.files), locked.read(folder, seen.files)
        if pinned:
            requirements = pinned.text + (own if pinned.project else "")
        else:
            requirements = source.requirements(folder, seen.files)
        file = source.text_once(pinned.text, C.DEFAULT_LOCAL_TMP) if pinned and pinned.text else ""
        code = Code(folder, scan, seen.revision, requirements=file, installs_itself=own in requirements)
        return code, seen.files, requirements, seen.doubts, pinned

    def _folder(self, inputs: Inputs) -> str:
        if inputs.repo:
            top = source.checkout(inputs.repo, inputs.version, C.DEFAULT_LOCAL_TMP, inputs.src, inputs.exclude)
            folder = os.path.normpath(os.path.join(top, inputs.src))
            remedy = f"{inputs.version} of websockets_repo has no such folder."
        else:
            folder = os.path.normpath(os.path.join(self._variables["playbook_dir"], os.path.expanduser(inputs.src)))
            remedy = f"there is no folder {folder} on the control node."
        if not os.path.isdir(folder):
            raise InputError(problem("websockets_src", inputs.src, remedy))
        return folder

    def _examine_host(self, made: Plan, task_vars: Mapping[str, Any]) -> None:
        """Have nginx and Supervisor read what they have, and nginx what it is to get, before anything is built.

        :raises InputError: if one of them cannot
        """
        replaces = made.inputs["replaces"] if made.host.replaced else ""
        files = self._nginx_files(made, task_vars)
        arguments = {"files": files, "site": to_dict(made.site), "replaces": replaces}
        found = self._execute_module("websockets.deploy.examine", arguments, task_vars=task_vars)
        stop_at(found.get("problems", []))

    def _is_settled(self, made: Plan, task_vars: Mapping[str, Any]) -> bool:
        """Tell whether the host is as this run would leave it, and has proved it through nginx."""
        if made.host.proof is None or any(dataclasses.astuple(made.todo)):
            return False
        texts = self._nginx_files(made, task_vars)
        texts[paths.site_record(made.site.app)] = recorded.of_site(made.site, texts[made.site.file])
        return made.host.served == {path: recorded.digest(text) for path, text in texts.items()}

    def _nginx_files(self, made: Plan, task_vars: Mapping[str, Any]) -> dict[str, str]:
        """Return {path: text} of nginx's files of the app."""
        text = self._renderer(made, task_vars)
        return {
            made.site.http_file: text("http.conf.j2"),
            made.site.file: text("site.conf.j2"),
            made.release.next_file: text("next.conf.j2"),
        }

    def _renderer(self, made: Plan, task_vars: Mapping[str, Any]) -> Callable[[str], str]:
        """Return a function that renders a template of the role for this plan."""
        # The lookup copies all variables for each template, which would be most of this action's time.
        whole = "ansible_managed" in task_vars  # a user's own may consist of any others
        needed = {name: value for name, value in task_vars.items() if whole or name.startswith("__websockets_")}
        templar = self._templar.copy_with_new_env(available_variables={**needed, "__websockets_plan": to_dict(made)})

        def text(template: str) -> str:
            path = os.path.join(task_vars["role_path"], "templates", template)
            return str(templar.template(trust_as_template(f"{{{{ lookup('ansible.builtin.template', {path!r}) }}}}")))

        return text

    def _differing(self, made: Plan, task_vars: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return those of the host's own files that differ from their templates."""
        text = self._renderer(made, task_vars)
        wanted = {file: text(file.src) for file in self.host_files(made.release.app) if made.host.init in file.init}
        return [
            {"dest": file.dest, "mode": file.mode, "text": wanted[file], "new": file.dest not in made.host.files}
            for file in wanted
            if made.host.files.get(file.dest) != f"{file.mode} {wanted[file]}"
        ]

    # What the host says

    def _observe(
        self,
        inputs: Inputs,
        site: Site,
        platforms: dict[str, Any],
        probe: dict[str, Any],
        is_recorded: bool,
        purpose: str,
    ) -> Host:
        arguments = {
            "app": inputs.app,
            "user": inputs.user,
            "python": inputs.python,
            "wheels": inputs.wheels == "build" and purpose == "deploy",
            "site": to_dict(site),
            "minfds": sizing.process_needs(inputs.max_connections),
            "worker_connections": sizing.worker_needs(inputs.max_connections),
            "platforms": platforms,
            "keep_releases": inputs.keep_releases,
            "probe": probe,
            "run": to_dict(self._run),
            **({} if is_recorded else {"headers": inputs.gate_headers}),
            **(
                {"inputs": inputs.shown(), "proof_sources": self._proof_sources, "replaces": inputs.replaces}
                if purpose == "deploy"
                else {}
            ),
        }
        return from_dict(Host, self._on_host("observe", arguments)["host"])

    def _unlock(self) -> None:
        """Give the host's lock back before the run's last step. If that fails, the lock ends by itself."""
        if not self._task.check_mode:
            self._low_level_execute_command(lock.end_command(self._run))

    def _on_host(self, module: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Run a module that takes the host's lock for this run."""
        name = f"websockets.deploy.{module}"
        found: dict[str, Any] = self._execute_module(name, arguments, task_vars=self._variables)
        holder = from_dict(Run, found["holder"]) if found.get("holder") else None
        if holder and _has_ended(holder):
            arguments = {**arguments, "ended": holder.id}
            found = self._execute_module(name, arguments, task_vars=self._variables)
        if found.get("failed") or found.get("holder"):
            raise AnsibleActionFail(found.get("msg") or f"The module {module} has failed. {found.get('exception', '')}")
        self._begun = True
        return found


def _and(names: Iterable[str]) -> str:
    return " and ".join(names)


def _with_packages(platforms: Mapping[str, Any], site: Site, inputs: Inputs) -> dict[str, Any]:
    """Return the platforms with the packages that this deploy needs on each of them."""
    further = "acme_packages" if site.certificate and site.certificate.mode == "acme" else ""
    return {
        name: {**one, "packages": [*one["packages"], *one.get(further, []), *inputs.packages]}
        for name, one in platforms.items()
    }


def _examine(inputs: Inputs, certificate: Certificate) -> Iterable[str]:
    """Return a message for the problem of a certificate in the inputs, none if nginx can use it."""
    with tempfile.TemporaryDirectory(dir=C.DEFAULT_LOCAL_TMP) as folder:
        texts = {"certificate": inputs.tls_certificate, "key": inputs.tls_key}
        files = {what: os.path.join(folder, what) for what in texts}
        for what, text in texts.items():
            # Only this user can read the folder.
            with open(files[what], "w", encoding="utf-8") as file:
                file.write(text)
        try:
            tls.examine(files["certificate"], files["key"], certificate.names)
        except tls.CertificateError as error:
            return [problem(f"websockets_tls_{error.about}", SECRET, str(error))]
    return []


def _this_run() -> Run:
    """Return this ansible-playbook as a run; its node, process and temporary folder tell it from all others."""
    node, pid = platform.node(), os.getppid()  # a task runs in a child of ansible-playbook
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return Run(id=f"{node} {pid} {C.DEFAULT_LOCAL_TMP}", who=f"{user}@{node} (process {pid})")


def _has_ended(holder: Run) -> bool:
    """Tell whether a run of this node has ended: its process is gone, or the temporary folder that it removes at its end."""
    if not holder.id:
        return False
    node, pid, folder = holder.id.split(" ", 2)
    if node != platform.node():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return not os.path.exists(folder)


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()
