"""The documentation of the action ``run``. Its code is plugins/action/run.py."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: run
short_description: Write the command line that runs a command in the live release
version_added: 1.2.0
description:
  - A task of Ansible has no terminal, so this action runs nothing. It writes or prints a script for the shell of the
    control node. The script goes to the host as Ansible would, by ssh or on this machine, and there by sudo to the app's
    user. It runs the command in the folder of the live release's code, in the environment of the release's processes.
  - C(bin/run) has the script run, with the caller's terminal or pipes.
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
  check_mode:
    support: none
  diff_mode:
    support: none
options:
  command:
    description: The command, as words of a shell.
    type: str
    default: ""
  folder:
    description:
      - A folder on the control node with the command in the file C(command). It gets the file C(script). If it is empty, the
        script is printed.
    type: str
    default: ""
"""

EXAMPLES = r"""
---
- name: Print how a command runs in the live release
  websockets.deploy.run:
    command: python manage.py check
"""

RETURN = r"""
---
# This action returns only changed.
"""
