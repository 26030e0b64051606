#!/usr/bin/python
"""Have nginx and Supervisor read their configuration, before a release is built."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: examine
short_description: Have nginx and Supervisor read their configuration before a release is built
version_added: 1.1.0
description:
  - If the app's files for nginx are to change, this module has nginx test a copy of its whole configuration with them. It has
    supervisord read its files again, as every start of a release does. It starts, reloads and writes nothing.
  - In check mode it asks nginx only.
  - This module is for the role P(websockets.deploy.websockets#role) itself; its options change without notice.
author: The authors of this repository (!UNKNOWN)
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - websockets.deploy.step
attributes:
  diff_mode:
    support: none
options:
  files:
    description: The texts of nginx's files, of this app and of all apps, by their paths.
    type: dict
    required: true
  site:
    description: The app's site, as the action M(websockets.deploy.plan) returns it.
    type: dict
    required: true
  replaces:
    description: Name of the app in whose place this one comes; nginx tests its files without that app's. Empty for none.
    type: str
    default: ""
"""

EXAMPLES = r"""
---
# The action websockets.deploy.plan runs this module. A task of a playbook never does.
- name: Have nginx and Supervisor read their configuration
  websockets.deploy.examine:
    files:
      /etc/nginx/conf.d/websockets-echo.conf: "{{ lookup('ansible.builtin.template', 'site.conf.j2') }}"
    site: "{{ __websockets_plan.site }}"
"""

RETURN = r"""
---
problems:
  description: What nginx or Supervisor cannot read, in their own words. Empty if a deploy can go on.
  returned: success
  type: list
  elements: str
  sample: ["nginx's configuration is broken already, before this deploy: ..."]
"""

import os
import shutil
from collections.abc import Iterator, Mapping

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import nginx, paths, recorded, tls
from ..module_utils.record import from_dict
from ..module_utils.site import Site
from ..module_utils.supervisor import Supervisor, SupervisorError


def of_nginx(files: Mapping[str, str | None], site: Site) -> Iterator[str]:
    """Yield why nginx would refuse these files; nothing if they are in place already, or nginx is not installed.

    A deploy that changes no file of nginx's needs no word of nginx's either.
    """
    differing = {path: text for path, text in files.items() if nginx.read(path) != text}
    if not differing or nginx.read(paths.NGINX_MAIN) is None or not shutil.which("nginx"):
        return
    stand_ins = {}
    try:
        if site.certificate and not os.path.exists(site.certificate.path):
            pair = tls.make(["localhost"])
            stand_ins = dict(zip((site.certificate.path, site.certificate.key), pair, strict=True))
        own = {path: text for path, text in stand_ins.items() if path.startswith(f"{paths.NGINX}/")}
        own |= nginx.upstreams_to_come(files)
        nginx.test({**differing, **own}, {path: text for path, text in stand_ins.items() if path not in own})
    except tls.CertificateError:
        return  # openssl is still to be installed
    except nginx.NginxError as refused:
        try:
            nginx.test({})
        except nginx.NginxError as already:
            yield f"nginx's configuration is broken already, before this deploy:\n{already}"
        else:
            yield f"nginx would refuse the new configuration:\n{refused}"


def of_supervisor() -> Iterator[str]:
    """Yield why supervisord cannot read its files; nothing if it can, or does not run yet."""
    supervisor = Supervisor()
    try:
        supervisor.call("getState")
    except SupervisorError:
        return
    try:
        supervisor.call("reloadConfig")  # this only reads the files
    except SupervisorError as error:
        yield f"Supervisor's configuration is broken already, before this deploy:\n{error}"


def main() -> None:
    module = AnsibleModule(
        {
            "files": {"type": "dict", "required": True},
            "site": {"type": "dict", "required": True},
            "replaces": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    files = {**module.params["files"], **recorded.served_files(module.params["replaces"])}
    problems = list(of_nginx(files, from_dict(Site, module.params["site"])))
    if not module.check_mode:
        problems += of_supervisor()
    module.exit_json(changed=False, problems=problems)


if __name__ == "__main__":
    main()
