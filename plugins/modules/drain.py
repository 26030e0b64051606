#!/usr/bin/python
"""Wait for the clients of releases without traffic, stop these one process after the other, and end the run."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: drain
short_description: Drain the releases of an app that get no traffic any more
version_added: 1.0.0
description:
  - This module waits for a time until the clients of these releases have left. Then it stops their processes one after
    the other, and removes their Supervisor programs and their sockets.
  - It removes the releases that no rollback needs any more, and gives the host's lock back.
  - This module is for the role P(websockets.deploy.websockets#role) itself; its options change without notice.
author: The authors of this repository (!UNKNOWN)
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - websockets.deploy.step
  - websockets.deploy.step.run
attributes:
  diff_mode:
    support: none
options:
  app:
    description: Name of the app.
    type: str
    required: true
  keep:
    description: Id of the release that stays. If it is empty, all releases are drained.
    type: str
    required: true
  timeout:
    description: Seconds for which the clients may stay.
    type: int
    required: true
  interval:
    description: Seconds from the stop of one process to the next.
    type: int
    required: true
  keep_releases:
    description: Number of releases to keep on the host.
    type: int
    required: true
"""

EXAMPLES = r"""
---
- name: Drain the releases that get no traffic any more
  websockets.deploy.drain:
    app: echo
    keep: "{{ __websockets_release.id }}"
    run: "{{ __websockets_plan.run }}"
    timeout: 10
    interval: 1
    keep_releases: 5
"""

RETURN = r"""
---
drained:
  description: Ids of the releases that have been drained; in check mode, of those that would be.
  returned: success
  type: list
  elements: str
  sample: [5f2b41c09a7e]
clients_told:
  description: Number of clients that were still connected when the time was over. Not in check mode.
  returned: success
  type: int
  sample: 12
pruned:
  description: What has been removed because no rollback needs it. Not in check mode.
  returned: success
  type: list
  elements: str
  sample: [1d0c8e77b3f2]
"""

import time
from collections.abc import Iterable

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import lock, processes, unix
from ..module_utils import release as releases
from ..module_utils.record import from_dict
from ..module_utils.release import Release
from ..module_utils.run import Run
from ..module_utils.supervisor import Supervisor, SupervisorError


def wait(old: Iterable[Release], timeout: float) -> int:
    """Wait until no client is connected to these releases; return the number of clients left.

    :param timeout: the largest number of seconds to wait
    """
    deadline = time.monotonic() + timeout
    while left := sum(sum(unix.connections(release.sockets).values()) for release in old):
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return left


def main() -> None:
    module = AnsibleModule(
        {
            "app": {"type": "str", "required": True},
            "keep": {"type": "str", "required": True},
            "run": {"type": "dict", "required": True},
            "timeout": {"type": "int", "required": True},
            "interval": {"type": "int", "required": True},
            "keep_releases": {"type": "int", "required": True},
        },
        supports_check_mode=True,
    )
    app, keep = module.params["app"], module.params["keep"]
    # What an older version of this module has left of a release has no program any more.
    ids = sorted({*releases.programs(app), *processes.ids(app)} - {keep})
    if module.check_mode:
        module.exit_json(changed=bool(ids), drained=ids)
    old = [Release.of(app, id) for id in ids]
    with lock.hold(module):
        try:
            left = wait(old, module.params["timeout"])
            for release in old:
                Supervisor().retire(release, module.params["interval"])
            pruned = releases.prune(app, module.params["keep_releases"])
        except (SupervisorError, OSError) as error:
            serves = f"Release {keep} serves. " if keep else ""
            module.fail_json(msg=f"{serves}Not all of {app}'s releases {', '.join(ids)} have been drained: {error}")
        lock.end(from_dict(Run, module.params["run"]))
    module.exit_json(changed=bool(ids or pruned), drained=ids, clients_told=left, pruned=pruned)


if __name__ == "__main__":
    main()
