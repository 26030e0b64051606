#!/usr/bin/python
"""Return what the last deploy of an app has recorded on this host, and begin a run there."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: recall
short_description: Return what the last deploy of an app has recorded
version_added: 1.1.0
description:
  - This module returns the inputs of an app's last deploy, so that a rollback or a removal needs no others.
  - It takes the host's lock, so that no other run changes what it has read. In check mode it does not.
  - This module is for the role P(websockets.deploy.websockets#role) itself; its options change without notice.
author: The authors of this repository (!UNKNOWN)
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - websockets.deploy.step
attributes:
  diff_mode:
    support: none
options:
  app:
    description: Name of the app.
    type: str
    required: true
  run:
    description:
      - This run of C(ansible-playbook). C(id) tells it from all others, C(who) names its user and host.
      - The host's lock belongs to it.
    type: dict
    required: true
  ended:
    description: Id of a run that is known to have ended without giving the lock back.
    type: str
    default: ""
"""

EXAMPLES = r"""
---
# The action websockets.deploy.plan runs this module. A task of a playbook never does.
- name: Recall the inputs
  websockets.deploy.recall:
    app: echo
    run: {id: control 4711 /root/.ansible/tmp/local4711, who: root@control (process 4711)}
"""

RETURN = r"""
---
apps:
  description: The apps of this host.
  returned: when the lock was free
  type: list
  elements: str
  sample: [echo, feed]
there:
  description: Whether this host has anything of the app, such as what a removal that failed has left.
  returned: when the lock was free
  type: bool
  sample: true
inputs:
  description:
    - The inputs of the app's last deploy, by their names without C(websockets_). Those that may be secret are missing, and
      the headers of the gate have no values.
    - It is empty if an older version of this collection has deployed the app.
  returned: when the lock was free
  type: dict
  sample: {app: echo, listen: "443", server_name: [ws.example.com]}
user:
  description: User of the app's processes, empty if the app has no live release.
  returned: when the lock was free
  type: str
  sample: ws-echo
names:
  description: Host names of the site that nginx serves for the app.
  returned: when the lock was free
  type: list
  elements: str
  sample: [ws.example.com]
holder:
  description: The run that holds the lock, with its C(id) and C(who).
  returned: when another run holds the lock
  type: dict
  sample: {id: control 4711 /root/.ansible/tmp/local4711, who: root@control (process 4711)}
msg:
  description: The same as a sentence.
  returned: when another run holds the lock
  type: str
  sample: root@control (process 4711) is at work on this host. This run stops here; start it again when the other one has ended.
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import lock, paths, recorded, system
from ..module_utils import release as releases
from ..module_utils.record import from_dict, readable, to_dict
from ..module_utils.run import Run


def recall(app: str) -> dict[str, Any]:
    """Return what this host knows of an app."""
    inputs, site = recorded.inputs_of(app), recorded.site_of(app)
    live = releases.stored(app).get(releases.live_id(app))
    if "gate_headers" in inputs:
        inputs["gate_headers"] = dict.fromkeys(inputs["gate_headers"], "")
    return {
        "apps": releases.apps(),
        "there": recorded.has(app) or os.path.lexists(paths.data(app)),
        "inputs": inputs,
        "user": live.release.user if live else system.owner(paths.data(app)),
        "names": readable(sorted({name.lower() for server in (site.servers if site else []) for name in server.names})),
    }


def main() -> None:
    module = AnsibleModule(
        {
            "app": {"type": "str", "required": True},
            "run": {"type": "dict", "required": True},
            "ended": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    app = module.params["app"]
    if module.check_mode:
        module.exit_json(changed=False, **recall(app))
    try:
        with lock.held(from_dict(Run, module.params["run"]), take=True, ended=module.params["ended"]):
            module.exit_json(changed=False, **recall(app))
    except lock.LockError as error:
        module.exit_json(changed=False, holder=to_dict(error.holder), msg=str(error))


if __name__ == "__main__":
    main()
