"""The output of bin/logs: nothing of Ansible's own but errors."""

from __future__ import annotations

DOCUMENTATION = r"""
---
name: logs
type: stdout
short_description: Nothing but errors
version_added: 1.1.0
description:
  - This callback is for the playbook C(websockets.deploy.logs), whose task prints the lines of the logs itself. It prints
    the hosts that have failed, and nothing of plays, tasks and their results.
author: The authors of this repository (!UNKNOWN)
"""

from typing import Any

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    """The callback ``logs``."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "websockets.deploy.logs"

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._say(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._say(result)

    def _say(self, result: Any) -> None:
        self._display.error(f"{result.host.get_name()}: {result.result.get('msg', '')}", wrap_text=False)
