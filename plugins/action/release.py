"""Put a release in place: send the host the files that none of its releases has."""

from __future__ import annotations

from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..module_utils import source
from ..module_utils.host import Host
from ..module_utils.plan import Code
from ..module_utils.record import from_dict


class ActionModule(ActionBase):
    """The action ``release``: it runs the module of this name, with an archive of the files that the host lacks,
    and the requirements of the app's lock and the wheels if the control node has got them.

    Its argument ``host`` is the host of the plan, of which it reads ``releases`` and ``live``.
    """

    TRANSFERS_FILES = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        host, code = from_dict(Host, arguments.pop("host")), from_dict(Code, arguments["code"])
        releases = {id: stored.files for id, stored in host.releases.items()}
        found = source.load(code.scan).files
        arguments["files"] = {path: f"{kind} {value}" for path, (kind, value) in found.items()}
        was = releases.get(host.live, {})
        arguments["live"] = host.live
        arguments["compare"] = source.comparable(code.folder, found, was) if self._task.diff else []
        if arguments["release"]["venv"] not in host.venvs and not self._task.check_mode:
            if code.requirements:
                arguments["requirements"] = self._send(code.requirements, "requirements.txt")
            if code.wheels:
                arguments["wheels"] = self._send(code.wheels, "wheels.tar")
        lacking = source.lacking(found, releases.values())
        for missing in (lacking, found):
            if missing and arguments["release"]["id"] not in releases and not self._task.check_mode:
                packed = source.archive_once(code.folder, missing, C.DEFAULT_LOCAL_TMP)
                arguments["archive"] = self._send(packed, "release.tar.gz")
            done = self._execute_module(module_args=arguments, task_vars=task_vars)
            if not done.get("differing"):
                texts = done.pop("texts", {})
                if self._task.diff and done.get("changed"):
                    done["diff"] = source.differences(code.folder, found, was, texts)
                return {**result, **done}
            if missing is lacking:
                edited = f"{(task_vars or {})['inventory_hostname']}: {', '.join(done['differing'][:5])}"
                Display().warning(
                    f"{edited} of an earlier release has been edited on the host. The role sends all files."
                )
        raise AnsibleActionFail(
            f"The files in {code.folder} have changed while this run was deploying them. Start it again."
        )

    def _send(self, path: str, name: str) -> str:
        """Send the host a file; return its path there, in a folder that goes with the task."""
        if not self._connection._shell.tmpdir:
            self._make_tmp_path()
        place: str = self._connection._shell.join_path(self._connection._shell.tmpdir, name)
        self._transfer_file(path, place)
        self._fixup_perms2([self._connection._shell.tmpdir, place])
        return place
