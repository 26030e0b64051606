"""The value of an input that no result may have, for the app that a task is about."""

from __future__ import annotations

DOCUMENTATION = r"""
---
name: hidden
short_description: The value of an input that may be secret
version_added: 1.1.0
description:
  - The action M(websockets.deploy.plan) returns all inputs but those that may hold a secret. This lookup returns one of
    those, from the variables, for the options of a task.
  - It is for the role P(websockets.deploy.websockets#role) itself; it changes without notice.
author: The authors of this repository (!UNKNOWN)
options:
  _terms:
    description: Name of the app, and name of the input without C(websockets_).
    required: true
"""

EXAMPLES = r"""
---
- name: Start the release
  websockets.deploy.start:
    headers: "{{ lookup('websockets.deploy.hidden', 'echo', 'gate_headers') }}"
"""

RETURN = r"""
---
_raw:
  description: The value.
  type: list
  elements: raw
"""

from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible.utils.vars import load_extra_vars

from ..module_utils import described
from ..module_utils.inputs import PREFIX


class LookupModule(LookupBase):
    """The lookup ``hidden``."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        app, name = terms
        known = described.with_apps(variables or {}, self._templar.template)
        mine = described.variables_of(app, known, load_extra_vars(self._loader))
        return [self._templar.copy_with_new_env(available_variables=mine).template(mine[f"{PREFIX}{name}"])]
