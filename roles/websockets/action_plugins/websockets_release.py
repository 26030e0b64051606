"""Put a release in place: send its code only to a host that does not have it."""

from __future__ import annotations

import os
import tempfile

import ansible.module_utils
from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

ansible.module_utils.__path__.append(os.path.join(os.path.dirname(os.path.dirname(__file__)), "module_utils"))
from ansible.module_utils.websockets import release, source  # noqa: E402


class ActionModule(ActionBase):
    """``websockets_release``: the module of this name, with the archive of the code it asks for."""

    TRANSFERS_FILES = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        folder, digest = arguments["source"]["folder"], arguments["source"]["digest"]
        found = source.scan(folder)
        if release.digest(found) != digest:
            raise AnsibleActionFail(
                f"The files in {folder} have changed while this run was deploying them. Run it again."
            )
        arguments["files"] = {path: f"{kind} {value}" for path, (kind, value) in found.items()}
        if not arguments["present"] and not self._task.check_mode:
            arguments["archive"] = self._send(folder, found)
        return {**result, **self._execute_module(module_args=arguments, task_vars=task_vars)}

    def _send(self, folder, found):
        with tempfile.NamedTemporaryFile(dir=C.DEFAULT_LOCAL_TMP, suffix=".tar.gz") as packed:
            source.archive(folder, found, packed.name)
            if not self._connection._shell.tmpdir:
                self._make_tmp_path()
            place = self._connection._shell.join_path(self._connection._shell.tmpdir, "release.tar.gz")
            self._transfer_file(packed.name, place)
        self._fixup_perms2([self._connection._shell.tmpdir, place])
        return place
