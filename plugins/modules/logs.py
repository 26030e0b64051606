"""The documentation of the action ``logs``. Its code is plugins/action/logs.py."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: logs
short_description: Print the logs of a host's apps
version_added: 1.1.0
description:
  - This action prints the last lines that the processes of the live release, and of releases that still drain, have
    written. It changes nothing.
  - Each line begins with the host and the process. A process of a release that drains has the release's id after its name.
  - This action is for the role P(websockets.deploy.websockets#role) itself; its options change without notice.
author: The authors of this repository (!UNKNOWN)
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - ansible.builtin.action_common_attributes.flow
  - websockets.deploy.step
attributes:
  action:
    support: full
  async:
    support: none
  bypass_host_loop:
    support: none
  diff_mode:
    support: none
options:
  app:
    description: Name of the app; if it is empty, all apps of the host.
    type: str
    default: ""
  lines:
    description: Number of the last lines of each process to print.
    type: int
    default: 20
  follow:
    description: Whether to print new lines as they come, also those of a release that is deployed meanwhile.
    type: bool
    default: false
"""

EXAMPLES = r"""
---
- name: Print the logs
  websockets.deploy.logs:
    app: echo
    lines: 100
"""

RETURN = r"""
---
# This action returns only changed. It prints the lines.
"""
