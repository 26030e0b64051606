#!/usr/bin/python
"""End a run on a host before its last task."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import lock
from ..module_utils.record import from_dict
from ..module_utils.run import Run

DOCUMENTATION = """
module: unlock
short_description: End a run on a host before its last task
description: Other runs need not wait for one that has stopped in preflight.
options:
  run: {description: The run, from the action plan., type: dict, required: true}
"""


def main() -> None:
    module = AnsibleModule({"run": {"type": "dict", "required": True}}, supports_check_mode=True)
    if not module.check_mode:
        lock.end(from_dict(Run, module.params["run"]))
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
