"""Check every input, look at the host, and derive the one release that the rest of the role reads."""

from __future__ import annotations

import getpass
import json
import os
import platform
import tempfile

import yaml
from ansible import constants as C
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase
from ansible.release import __version__

from ..module_utils import inputs as rules
from ..module_utils import release, sandbox, site, sizing, source, tls

try:
    from ansible.template import trust_as_template
except ImportError:  # meta/runtime.yml says which version it takes; Ansible itself only warns
    raise AnsibleError(f"websockets.deploy needs ansible-core 2.19 or newer; this is {__version__}.") from None

# Inputs that may hold a password: no result carries them.
_SECRET = (
    "websockets_secrets",
    "websockets_pip_index_url",
    "websockets_gate_headers",
    "websockets_repo",
    "websockets_tls_key",
)


class ActionModule(ActionBase):
    """``plan``: looks at the host and returns ``inputs``, ``host``, ``release``, and which steps are ``todo``.

    ``purpose`` is ``deploy``, or ``rollback`` to a release that is on the host already, or ``remove`` for all of the
    app's; only a deploy looks at the app's code.
    """

    TRANSFERS_FILES = False
    _requires_connection = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            {
                "platforms": {"type": "dict", "required": True},
                "files": {"type": "list", "elements": "dict", "required": True},
                "purpose": {"type": "str", "choices": ["deploy", "rollback", "remove"], "required": True},
            }
        )
        try:
            plan = self._plan(task_vars, **arguments)
        except rules.InputError as error:
            raise AnsibleActionFail(f"Nothing has been touched on this host.\n{error}") from None
        return {**result, **plan, "changed": False}

    def _plan(self, task_vars, platforms, files, purpose):
        role = task_vars["role_path"]
        inputs = self._typed_inputs(task_vars, _load_spec(role))
        _stop_at(rules.check(inputs))
        app, code = inputs["websockets_app"], {}
        if purpose == "deploy":
            folder = self._folder(inputs, task_vars)
            # Read once for all hosts of this task: they get the same code, whatever happens to the folder meanwhile.
            kept = source.scan_once(folder, C.DEFAULT_LOCAL_TMP, self._task._uuid)
            found = source.load(kept)
            _stop_at(rules.check_source(inputs, found))
            requirements = source.requirements(folder, found)
            code = {"folder": folder, "scan": kept}

        certificate = site.tls(inputs)
        in_inputs = site.is_pem(inputs["websockets_tls_key"])
        if in_inputs:
            _stop_at(_examine(inputs, certificate))
        run = _this_run()
        probe = {
            "host": site.host_header(inputs["websockets_server_name"]),
            "path": inputs["websockets_gate_path"],
            "message": inputs["websockets_gate_message"],
            "timeout": inputs["websockets_gate_timeout"],
            "origin": site.proof_origin(inputs),
            "proxy_protocol": inputs["websockets_proxy_protocol"],
            "certificate": certificate.get("certificate", ""),
        }
        host = self._observe(
            inputs,
            task_vars,
            {
                "platforms": _with_packages(platforms, certificate),
                "files": [file["dest"] for file in files],
                "probe": probe,
                "run": run,
                # One in the inputs has been judged.
                "tls": {} if in_inputs else certificate,
            },
        )
        try:
            deployed = task_vars.get("ansible_facts", {}).get("__websockets_deployed", {})
            if purpose == "remove":
                derived = {**release.of(app, host["live"]), "user": inputs["websockets_user"], "processes": []}
            elif purpose == "rollback":
                _stop_at(rules.check_host(inputs, host))
                derived = rules.go_back(inputs, host)
            else:
                _stop_at(rules.check_host(inputs, host))
                inputs["websockets_numprocs"] = sizing.numprocs(inputs["websockets_numprocs"], host["cores"])
                deciding = json.loads(_read(os.path.join(role, release.PROCESS)))
                derived = release.derive(inputs, found, requirements, host["python"], deciding)
                _stop_at(rules.check_paths(inputs, derived["processes"]))
                if deployed.get(app, derived["id"]) != derived["id"]:
                    taken = "another app of this run has this name; use another."
                    _stop_at([rules.problem("websockets_app", app, taken)])
                deployed = {**deployed, app: derived["id"]}
        except rules.InputError:
            self._execute_module("websockets.deploy.unlock", {"run": run}, task_vars=task_vars)
            raise
        plan = {
            "run": run,
            "inputs": {name: value for name, value in inputs.items() if name not in _SECRET},
            "source": code,
            "host": host,
            "release": derived,
            "purpose": purpose,
            "group": host["group"] or derived["user"],
            "probe": probe,
            "address": site.connect_address(inputs["websockets_listen"]),
            "plain": site.plain_listen(inputs),
            "authority_port": site.authority_port(inputs),
            "options_there": host["listens"].get(inputs["websockets_listen"], {}).get("options", False),
            "refused": site.refused(inputs, host),
            "tls": certificate,
            "pair": site.pair(app),
            "url": site.url(inputs),
            "origins": site.origins(inputs),
            "sizes": sizing.sizes(
                inputs["websockets_max_connections"],
                inputs["websockets_message_size"],
                host["minfds"],
                host["nginx_nofile"],
            ),
            "sandbox": sandbox.decide(inputs["websockets_sandbox"], host),
            "ansible_facts": {"__websockets_deployed": deployed},
        }
        if purpose == "deploy":
            plan["files"] = self._differing(files, plan, task_vars)
        written = [file["dest"] for file in plan.get("files", [])]
        plan["sandboxed"] = sandbox.say(plan["sandbox"], inputs["websockets_sandbox"], host, written)
        return {**plan, "todo": _todo(plan)}

    def _differing(self, files, plan, task_vars):
        """Return those of the host's own files that are not as their templates say."""
        templar = self._templar.copy_with_new_env(available_variables={**task_vars, "__websockets_plan": plan})

        def wanted(file):
            path = os.path.join(task_vars["role_path"], "templates", file["src"])
            text = templar.template(trust_as_template(f"{{{{ lookup('ansible.builtin.template', {path!r}) }}}}"))
            return f"{file['mode']} {text}"

        host = plan["host"]
        return [
            {**file, "folder": file["dest"] not in host["files"]}
            for file in files
            if host["init"] in file["init"] and host["files"].get(file["dest"]) != wanted(file)
        ]

    def _typed_inputs(self, task_vars, spec):
        names = [name for name in task_vars if name.startswith("websockets_")]
        _stop_at(rules.unknown(names, spec))
        values = {}
        for name in spec:
            try:
                values[name] = self._templar.template(task_vars[name])
            except AnsibleError as error:
                _stop_at([f"{name} cannot be templated: {error}"])
        # A module gets them as they are: a string of JSON, from -e name=..., would not be a mapping there.
        _stop_at(
            [
                f"{name} is a string: use a mapping, which on the command line is -e '{{\"{name}\": {{...}}}}'."
                for name, option in spec.items()
                if option["type"] == "dict" and isinstance(values[name], str)
            ]
        )
        checked = ArgumentSpecValidator(spec).validate(values)
        _stop_at(checked.error_messages)
        return checked.validated_parameters

    def _folder(self, inputs, task_vars):
        src = inputs["websockets_src"]
        if inputs["websockets_repo"]:
            top = source.checkout(inputs["websockets_repo"], inputs["websockets_version"], C.DEFAULT_LOCAL_TMP)
            folder = os.path.normpath(os.path.join(top, src))
            remedy = f"{inputs['websockets_version']} of websockets_repo has no such folder."
        else:
            folder = os.path.normpath(os.path.join(task_vars["playbook_dir"], os.path.expanduser(src)))
            remedy = f"there is no folder {folder} on the control node."
        if not os.path.isdir(folder):
            _stop_at([rules.problem("websockets_src", src, remedy)])
        return folder

    def _observe(self, inputs, task_vars, arguments):
        arguments |= {
            "app": inputs["websockets_app"],
            "user": inputs["websockets_user"],
            "python": inputs["websockets_python"],
            "listens": site.listens(inputs),
            "minfds": sizing.process_needs(inputs["websockets_max_connections"]),
            "worker_connections": sizing.worker_needs(inputs["websockets_max_connections"]),
            "keep_releases": inputs["websockets_keep_releases"],
            "headers": inputs["websockets_gate_headers"],
        }
        found = self._execute_module("websockets.deploy.observe", arguments, task_vars=task_vars)
        if _has_ended(found.get("holder")):
            arguments["ended"] = found["holder"]["id"]
            found = self._execute_module("websockets.deploy.observe", arguments, task_vars=task_vars)
        if "host" not in found:
            raise AnsibleActionFail(
                found.get("msg") or f"The host could not be looked at. {found.get('exception', '')}"
            )
        return found["host"]


def _with_packages(platforms, certificate):
    """Return the platforms, with the packages that this deploy needs on each."""
    further = "acme_packages" if certificate.get("mode") == "acme" else ""
    return {name: {**one, "packages": one["packages"] + one.get(further, [])} for name, one in platforms.items()}


def _examine(inputs, certificate):
    """Return the problems of a certificate that is in the inputs."""
    with tempfile.TemporaryDirectory(dir=C.DEFAULT_LOCAL_TMP) as folder:
        paths = [os.path.join(folder, what) for what in ("certificate", "key")]
        for path in paths:
            # The folder is nobody else's.
            with open(path, "w", encoding="utf-8") as file:
                file.write(inputs[f"websockets_tls_{os.path.basename(path)}"])
        try:
            tls.examine(*paths, certificate["names"])
        except tls.CertificateError as error:
            return [rules.problem(f"websockets_tls_{error.about}", rules.SECRET, str(error))]
    return []


def _todo(plan):
    """Return which steps have anything to do on a host as it is."""
    host, release = plan["host"], plan["release"]
    if plan["purpose"] == "remove":
        return {"drain": True}
    live = host["live"] == release["id"]
    todo = {
        "start": not (live and host["serves"]),
        "drain": not live or host["programs"] != [release["id"]] or host["surplus"],
    }
    if plan["purpose"] == "rollback":
        return todo
    return {
        "host": bool(host["missing_packages"] or plan["files"] or host["stale_units"] or host["idle_services"])
        or not (host["group"] and host["folders"]),
        "release": release["id"] not in host["releases"] or release["venv"] not in host["venvs"],
        **todo,
    }


def _this_run():
    """Return what tells this ansible-playbook from all others: its node, its process and its own temporary folder."""
    node, pid = platform.node(), os.getppid()  # a task runs in a child
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = os.getuid()
    return {"id": f"{node} {pid} {C.DEFAULT_LOCAL_TMP}", "who": f"{user}@{node} (process {pid})"}


def _has_ended(holder):
    """Tell whether a run was this node's and has been killed: a run that ends by itself takes its folder along."""
    if not holder or not holder["id"]:
        return False
    node, pid, folder = holder["id"].split(" ", 2)
    if node != platform.node():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return not os.path.exists(folder)


def _load_spec(role):
    with open(os.path.join(role, "meta", "argument_specs.yml"), encoding="utf-8") as file:
        options = yaml.safe_load(file)["argument_specs"]["main"]["options"]
    return {
        name: {key: value for key, value in option.items() if key in ("type", "elements", "choices")}
        for name, option in options.items()
    }


def _read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def _stop_at(problems):
    if problems:
        raise rules.InputError("\n".join(problems))
