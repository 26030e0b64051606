#!/usr/bin/python
"""Prepare a host: the app's user, the host's own files, the folders and the services."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: prepare
short_description: Create the user, write the host's own files, make the folders and start the services
version_added: 1.2.0
description:
  - A host needs this once. The options name only what the host does not have yet.
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
  absent:
    description: Files to remove, such as the welcome page of a new nginx.
    type: list
    elements: path
    default: []
  user:
    description: User to create, with a group of the same name. It is empty if the host has the user.
    type: str
    default: ""
  home:
    description: The folder that the user's entry names as its home. Nothing makes it.
    type: path
    required: true
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
    description: Whether systemd has to read its files again.
    type: bool
    required: true
  services:
    description: Services that are started, now and at boot.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
---
- name: Prepare the host
  websockets.deploy.prepare:
    run: "{{ __websockets_plan.run }}"
    user: ws-echo
    home: /srv/websockets/echo
    files: "{{ __websockets_plan.host_files }}"
    tmpfiles: /etc/tmpfiles.d/websockets-echo.conf
    reload: true
    services: [nginx, supervisor]
"""

RETURN = r"""
---
# This module returns only changed.
"""

import contextlib
import grp
import os
import subprocess
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import host_files, lock, nginx, system
from ..module_utils.record import readable


class PrepareError(Exception):
    """A command of the host's has failed; the message has what it said."""


def prepare(given: dict[str, Any]) -> None:
    """Do what is to do, in the order in which one thing needs the other.

    :param given: the module's parameters
    """
    for path in given["absent"]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    if given["user"]:
        create(given["user"], given["home"])
    for file in given["files"]:
        host_files.write(file["dest"], file["text"], file["mode"])
    if given["tmpfiles"]:
        execute("systemd-tmpfiles", "--create", given["tmpfiles"])
    start(given["services"], given["reload"])


def create(user: str, home: str) -> None:
    """Create a system's user; a group of this name may be there already."""
    try:
        group = ["--gid", grp.getgrnam(user).gr_name]
    except KeyError:
        group = ["--user-group"]
    execute("useradd", "--system", *group, "--no-create-home", "--home-dir", home, "--shell", "/usr/sbin/nologin", user)


def start(services: list[str], reload: bool) -> None:
    """Start services, now and at boot; before that systemd reads its files if it has to."""
    if system.init() != "systemd":
        for service in services:
            execute("update-rc.d", service, "defaults")
            execute("update-rc.d", service, "enable")
            execute("service", service, "start")
        return
    if services:
        execute("systemctl", "enable", "--no-reload", *services)
    if services or reload:
        execute("systemctl", "daemon-reload")
    if services:
        execute("systemctl", "start", *services)


def execute(*command: str) -> None:
    """Run a command.

    :raises PrepareError: if it fails
    """
    # Not a pipe: a service that keeps it open would keep this module waiting.
    with tempfile.TemporaryFile("w+", errors="backslashreplace") as said:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False)
        said.seek(0)
        if done.returncode != 0:
            raise PrepareError(f"{' '.join(command)} failed:\n{said.read().strip()}")


def difference(file: dict[str, Any]) -> dict[str, str]:
    """Return the change of a file that the host has already, for Ansible's diff."""
    before = readable(nginx.read(file["dest"]) or "")
    return {"before_header": file["dest"], "after_header": file["dest"], "before": before, "after": file["text"]}


def main() -> None:
    module = AnsibleModule(
        {
            "run": {"type": "dict", "required": True},
            "absent": {"type": "list", "elements": "path", "default": []},
            "user": {"type": "str", "default": ""},
            "home": {"type": "path", "required": True},
            "files": {"type": "list", "elements": "dict", "required": True},
            "tmpfiles": {"type": "path", "default": ""},
            "reload": {"type": "bool", "required": True},
            "services": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    changed = any(given[what] for what in ("absent", "user", "files", "tmpfiles", "reload", "services"))
    # The whole text of a new file says less than its name.
    diff = [difference(file) for file in given["files"] if not file["new"]]
    if not module.check_mode:
        os.umask(0o022)
        with lock.hold(module):
            try:
                prepare(given)
            except (PrepareError, OSError) as error:
                module.fail_json(msg=f"The host could not be prepared. {error}")
    module.exit_json(changed=changed, diff=diff)


if __name__ == "__main__":
    main()
