#!/usr/bin/python
"""Give a host's lock back when a run ends before its last step."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: unlock
short_description: End a run on a host before its last step
version_added: 1.0.0
description:
  - This module gives the host's lock back after a run that stops before its last step, so that other runs need not wait.
  - This module is for the role P(websockets.deploy.websockets#role) itself; its options change without notice.
author: The authors of this repository (!UNKNOWN)
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - websockets.deploy.step
  - websockets.deploy.step.run
attributes:
  diff_mode:
    support: none
options: {}
"""

EXAMPLES = r"""
---
# The action websockets.deploy.plan runs this module. A task of a playbook never does.
- name: End the run on this host
  websockets.deploy.unlock:
    run: "{{ __websockets_plan.run }}"
"""

RETURN = r"""
---
# This module returns only changed.
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import lock
from ..module_utils.record import from_dict
from ..module_utils.run import Run


def main() -> None:
    module = AnsibleModule({"run": {"type": "dict", "required": True}}, supports_check_mode=True)
    if not module.check_mode:
        lock.end(from_dict(Run, module.params["run"]))
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
