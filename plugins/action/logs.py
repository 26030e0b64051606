"""Print the logs of a host's apps as they come."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..module_utils import paths, tail

# Seconds that a look waits on the host for a new line.
WAIT = 5
# The least number of seconds from one look to the next.
PAUSE = 1
# A client may have sent what an app logs: no control character reaches the terminal.
SHOWN = {number: f"\\x{number:02x}" for number in (*range(9), *range(10, 32), *range(127, 160))}


class ActionModule(ActionBase):
    """The action ``logs``: it prints the last lines of each log and, if it follows them, new ones until it is interrupted.

    Each look is one short program that the host's Python reads from its input. It leaves nothing on the host.
    """

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            {
                "app": {"type": "str", "default": ""},
                "lines": {"type": "int", "default": 20},
                "follow": {"type": "bool", "default": False},
            }
        )
        if arguments["lines"] < 0:
            raise AnsibleActionFail(f"lines is {arguments['lines']}: use 0 or more.")
        variables = task_vars or {}
        host, python = variables["inventory_hostname"], variables.get("ansible_python_interpreter", "")
        for line in self.lines(host, python, **arguments):
            Display().display(line, screen_only=True)
        return {**result, "changed": False}

    def lines(self, host: str, python: str, app: str, lines: int, follow: bool) -> Iterator[str]:
        """Yield the lines of one host's logs; if it follows them, without an end."""
        # "auto" and the like are Ansible's ways to find a Python; the role needs this one anyway.
        python = python if python.startswith("/") else "/usr/bin/python3"
        given: dict[str, Any] = {
            **{"programs": paths.programs(), "srv": paths.SRV, "log": paths.LOG},
            **{"app": app, "lines": lines, "follow": follow, "seen": None, "live": None, "wait": 0},
        }
        while True:
            begun = time.monotonic()
            found = self.look(python, given)
            if given["seen"] is None and app and app not in found["apps"]:
                there = ", ".join(found["apps"]) or "none"
                raise AnsibleActionFail(f"There is no app {app} on this host; its apps: {there}.")
            yield from told(host, app, given["live"], found)
            if not follow:
                return
            given |= {"seen": found["seen"], "live": found["live"], "wait": WAIT}
            time.sleep(max(0, begun + PAUSE - time.monotonic()))

    def look(self, python: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what :func:`tail.main` prints on the host."""
        program = f"{inspect.getsource(tail)}\nmain(json.loads({json.dumps(given)!r}))\n"
        done = self._low_level_execute_command(f"{python} -IS -", in_data=program.encode())
        try:
            found: dict[str, Any] = json.loads(done["stdout"].strip().splitlines()[-1])
        except (IndexError, ValueError):
            words = (done["stderr"] or done["stdout"]).strip()
            raise AnsibleActionFail(f"The logs cannot be read: {words}") from None
        return found


def told(host: str, app: str, live: Mapping[str, str] | None, found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines to print after one look.

    :param app: the app that was asked for, empty for all
    :param live: the releases with the traffic at the look before, None for the first
    """
    for process, id, text in found["chunks"]:
        name = process.rpartition("_")[0].partition(".")[0]  # a worker's is APP.WORKER_00
        # Two releases have processes of the same names while one of them drains.
        drains = "" if found["live"].get(name) == id else f" ({id})"
        for line in text.replace("\r\n", "\n").removesuffix("\n").split("\n"):
            yield f"{host} {process}{drains} | {line.translate(SHOWN)}"
    for name, id in found["live"].items():
        if live is not None and app in ("", name) and live.get(name) != id:
            yield (
                f"{host} {name} | release {id} has the traffic now"
                if id
                else f"{host} {name} | no release has the traffic"
            )
