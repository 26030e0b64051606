#!/usr/bin/python
"""Configure a host: write the host's own files, and have systemd read them."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: configure
short_description: Write the host's own files, and have systemd read them
version_added: 1.2.0
description:
  - A host needs this once. It has several files, and a module for each would take several times as long.
  - This module is for the role P(websockets.deploy.websockets#role) itself; its options change without notice.
author: The authors of this repository (!UNKNOWN)
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - websockets.deploy.step
  - websockets.deploy.step.run
attributes:
  diff_mode:
    support: full
options:
  files:
    description: Files to write, each with C(dest), C(mode) and C(text), and C(new) if the host has no such file.
    type: list
    elements: dict
    required: true
  tmpfiles:
    description: File in tmpfiles.d whose folders are made. It is empty if they are as they should be.
    type: path
    default: ""
  reload:
    description: Whether systemd has to read its units again.
    type: bool
    required: true
"""

EXAMPLES = r"""
---
- name: Configure the host
  websockets.deploy.configure:
    run: "{{ __websockets_plan.run }}"
    files: "{{ __websockets_plan.host_files }}"
    tmpfiles: /etc/tmpfiles.d/websockets-echo.conf
    reload: true
"""

RETURN = r"""
---
# This module returns only changed.
"""

import os
import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import lock, nginx
from ..module_utils.record import readable


def configure(files: list[dict[str, Any]], *commands: list[str]) -> None:
    """Write files, then run the commands that read them.

    :raises OSError: if a file cannot be written
    :raises subprocess.CalledProcessError: if a command fails; its output has what it said
    """
    modes = {file["dest"]: int(file["mode"], 8) for file in files}
    nginx.write({file["dest"]: file["text"] for file in files}, modes)
    for command in commands:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="backslashreplace",
            check=True,
        )


def difference(file: dict[str, Any]) -> dict[str, str]:
    """Return the change of a file that the host has already, for Ansible's diff."""
    before = readable(nginx.read(file["dest"]) or "")
    return {"before_header": file["dest"], "after_header": file["dest"], "before": before, "after": file["text"]}


def main() -> None:
    module = AnsibleModule(
        {
            "run": {"type": "dict", "required": True},
            "files": {"type": "list", "elements": "dict", "required": True},
            "tmpfiles": {"type": "path", "default": ""},
            "reload": {"type": "bool", "required": True},
        },
        supports_check_mode=True,
    )
    files, tmpfiles, reload = (module.params[name] for name in ("files", "tmpfiles", "reload"))
    commands = [["systemd-tmpfiles", "--create", tmpfiles]] if tmpfiles else []
    commands += [["systemctl", "daemon-reload"]] if reload else []
    # The whole text of a new file says less than its name.
    diff = [difference(file) for file in files if not file["new"]]
    if not module.check_mode:
        os.umask(0o022)
        with lock.hold(module):
            try:
                configure(files, *commands)
            except OSError as error:
                module.fail_json(msg=f"The host's files could not be written: {error}")
            except subprocess.CalledProcessError as error:
                module.fail_json(msg=f"{' '.join(error.cmd)} failed:\n{error.stdout.strip()}")
    module.exit_json(changed=bool(files or commands), diff=diff)


if __name__ == "__main__":
    main()
