"""Write the command line that runs a command in the live release of an app on a host."""

from __future__ import annotations

import os
import shlex
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars

from ..module_utils import described, paths, rules
from ..module_utils.inputs import InputError, stop_at
from ..plugin_utils.variables import Variables

# What the host's shell does as root, with the command as its arguments.
HOST = """
fail() { echo "bin/run: $1" >&2; exit 125; }
cd {srv}/{app}/releases 2> /dev/null || {
    there=$(ls -d {srv}/*/releases/*/ 2> /dev/null | sed 's|^{srv}/||; s|/.*||' | sort -u | paste -s -d ' ')
    fail "there is no app {app} on this host; its apps: ${there:-none}."
}
id=$(basename "$(readlink ../live)")
[ -n "$id" ] || fail "{app} has no live release on this host; deploy it first."
cd "$id" 2> /dev/null || fail "the live release of {app}, $id, is gone from this host; deploy it again."
[ -e command ] || fail "the live release of {app}, $id, is of an earlier version of the role, which has no such command. \
The next release that you deploy has it."
user=$(/usr/bin/python3 -IS -c 'import json; print(json.load(open("release.json"))["user"])') || exit 125
cd app
umask 022
[ -t 0 ] || unset TERM
exec /usr/bin/setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups -- \
    /usr/bin/env -i ${TERM+"TERM=$TERM"} /bin/sh ../command "$@"
"""


class ActionModule(ActionBase):
    """The action ``run``: it makes no connection, because a task of Ansible has no terminal.

    ``command`` is the command as words of a shell. ``folder``, which ``bin/run`` gives, has it as the file ``command``, and
    gets the script that runs it. Without a folder the script is printed.
    """

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            {"command": {"type": "str", "default": ""}, "folder": {"type": "str", "default": ""}}
        )
        folder, command = arguments["folder"], arguments["command"]
        if folder:
            with open(os.path.join(folder, "command"), encoding="utf-8", errors="surrogateescape") as file:
                command = file.read()
        try:
            words, app = shlex.split(command), self._app(task_vars or {})
        except (InputError, ValueError) as error:
            raise AnsibleActionFail(str(error)) from None
        if not words:
            raise AnsibleActionFail("Name the command to run: -e run_command='python manage.py check'.")
        if self._task.check_mode:
            raise AnsibleActionFail("A check runs no command: leave --check out.")
        script = self.script(app, words)
        if folder:
            handle = os.open(os.path.join(folder, "script"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(script)
        else:
            Display().display(script, screen_only=True)
        return {**result, "changed": False}

    def script(self, app: str, words: list[str]) -> str:
        """Return a script for the caller's shell, which goes to the host and runs the command there.

        :raises AnsibleActionFail: if it cannot, by the host's connection or its way to become root
        """
        become, kind = self._connection.become, self._connection.transport
        if become and become.name != "sudo":
            raise AnsibleActionFail(
                f"bin/run becomes root by sudo, and this host has ansible_become_method: {become.name}."
            )
        sudo = become.get_option("become_exe") or "sudo" if become else ""
        looks = HOST.replace("{srv}", paths.SRV).replace("{app}", app)
        as_root = f'test "$(id -u)" = 0 || sudo={shlex.quote(sudo)}; exec ${{sudo-}} /bin/sh -c "$0" "$@"'
        remote = shlex.join(["/bin/sh", "-c", as_root, looks, "run", *words])
        if kind == "local":
            return f"exec {remote}\n"
        if kind != "ssh":
            raise AnsibleActionFail(
                f"bin/run reaches a host by ssh or on this machine, and this one has ansible_connection: {kind}."
            )
        return f"""\
# With a terminal only if the caller has one.
terminal=-T
[ ! -t 0 ] || [ ! -t 1 ] || terminal=-t
exec {self._ssh()} {shlex.quote(remote)}
"""

    def _ssh(self) -> str:
        """Return the command by which Ansible reaches the host, with ``$terminal`` before the host's name."""
        connection = self._connection
        built = connection._build_command(connection.get_option("ssh_executable"), "ssh")
        program, *options = [word.decode() if isinstance(word, bytes) else word for word in built]
        # A connection that stays would keep the caller's pipes open.
        words = shlex.join([program, "-o", "ControlMaster=no", *options])
        return f"{words} $terminal {shlex.quote(connection.get_option('host') or self._play_context.remote_addr)}"

    def _app(self, task_vars: dict[str, Any]) -> str:
        """Return the name of the app that the variables mean.

        :raises InputError: if they describe several, or cannot be read
        """
        variables = described.with_apps(task_vars, self._templar.template)
        said = Variables(self._templar, variables, load_extra_vars(self._loader))
        said.check_names()
        app = said.chosen("run")
        stop_at(rules.check_name(app))
        return app
