#!/usr/bin/python
"""Run the command of a release that comes before its processes."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: before_start
short_description: Run the command of a release that comes before its processes
version_added: 1.2.0
description:
  - This module runs the command as the app's user, in the environment of the release's processes. Meanwhile the folder of
    the code belongs to that user, and afterwards to root again.
  - When the command has ended, everything that it has started is ended too. If it has failed, the release is removed,
    unless it has had the traffic before.
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
  release:
    description: The release, as the action M(websockets.deploy.plan) returns it.
    type: dict
    required: true
"""

EXAMPLES = r"""
---
- name: Run the command before the start
  websockets.deploy.before_start:
    release: "{{ __websockets_release }}"
    run: "{{ __websockets_plan.run }}"
"""

RETURN = r"""
---
# This module returns only changed.
"""

import contextlib
import os
import signal

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import before_start, lock, paths
from ..module_utils import release as releases
from ..module_utils.record import from_dict, readable
from ..module_utils.release import Release


def say(status: int) -> str:
    """Return how a command has ended."""
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"


def main() -> None:
    module = AnsibleModule(
        {"release": {"type": "dict", "required": True}, "run": {"type": "dict", "required": True}},
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=True)
    release = from_dict(Release, module.params["release"])
    os.umask(0o022)
    os.nice(10)  # a build must not take the processors from the app
    with lock.hold(module):
        try:
            status, last = before_start.execute(release)
            if status == 0:
                there = releases.stored(release.app)[release.id]
                if changed := releases.differ(there.files, release.code):
                    # The next deploy must not take them for what they were.
                    releases.forget(release, changed)
                releases.is_prepared(release)
                module.exit_json(changed=True)
            log, said = paths.before_start_log(release.app), "\n".join(last).strip()
            why = f"has ended with {say(status)}. "
            why += f"The end of {log} on the host:\n{said}" if said else "It has said nothing."
        except (OSError, KeyError) as error:
            why = f"could not be run: {error}"
        releases.discard(release)
        serves = releases.still_serves(release.app)
        module.fail_json(msg=readable(f"Release {release.id} does not start; {serves}. websockets_before_start {why}"))


if __name__ == "__main__":
    main()
