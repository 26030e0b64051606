#!/usr/bin/python
"""Let the clients of releases without traffic finish, stop their processes one by one, and end the run."""

from __future__ import annotations

import time
from collections.abc import Iterable

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import lock, unix
from ..module_utils import release as releases
from ..module_utils.record import from_dict
from ..module_utils.release import Release
from ..module_utils.run import Run
from ..module_utils.supervisor import Supervisor, SupervisorError

DOCUMENTATION = """
module: drain
short_description: Drain the releases of an app that no longer get traffic
description:
  - Waits until their clients have left, for a time. Then stops their processes one after the other and removes their
    programs and sockets.
  - Removes what no rollback needs any more, and ends the run on this host.
options:
  app: {description: Name of the app., type: str, required: true}
  keep: {description: Id of the release that stays; empty to drain all., type: str, required: true}
  run: {description: The run, from the action plan., type: dict, required: true}
  timeout: {description: Seconds that clients may finish in., type: int, required: true}
  interval: {description: Seconds from the stop of one process to the next., type: int, required: true}
  keep_releases: {description: Releases to keep on the host., type: int, required: true}
"""


def wait(old: Iterable[Release], timeout: float) -> int:
    """Wait until no client is connected to these releases, or the time is over; return how many are left."""
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
    ids = [id for id in releases.programs(app) if id != keep]
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
            module.fail_json(msg=f"{keep or app} serves, but releases {ids} have not been drained: {error}")
        lock.end(from_dict(Run, module.params["run"]))
    module.exit_json(changed=bool(ids or pruned), drained=ids, clients_told=left, pruned=pruned)


if __name__ == "__main__":
    main()
