#!/usr/bin/python
"""Stop the releases of an app that no longer get traffic."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.websockets import release as releases
from ansible.module_utils.websockets.supervisor import Supervisor, SupervisorError

DOCUMENTATION = """
module: websockets_stop
short_description: Stop the releases of an app that no longer get traffic
description:
  - Stops their processes one after the other and removes their programs and sockets. Code and packages stay.
options:
  release: {description: The release to keep, from websockets_plan., type: dict, required: true}
"""


def main():
    module = AnsibleModule({"release": {"type": "dict", "required": True}}, supports_check_mode=True)
    release = module.params["release"]
    old = [identity for identity in releases.programs(release["app"]) if identity != release["id"]]
    if old and not module.check_mode:
        supervisor = Supervisor()
        try:
            for identity in old:
                supervisor.retire(releases.of(release["app"], identity))
        except (SupervisorError, OSError) as error:
            module.fail_json(msg=f"The old release {identity} has not stopped: {error}")
    module.exit_json(changed=bool(old), stopped=old)


if __name__ == "__main__":
    main()
