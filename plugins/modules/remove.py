#!/usr/bin/python
"""Take an app out of nginx, so that nobody new comes to it."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: remove
short_description: Take an app out of nginx
version_added: 1.0.0
description:
  - This module has nginx test its whole configuration without the app's site, then removes the site and reloads nginx.
    Open connections stay.
  - It removes the certificate that the role has made or got for the app.
  - This module is for the role P(websockets.deploy.websockets#role) itself; its options change without notice.
author: The authors of this repository (!UNKNOWN)
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    support: full
    platforms: debian
options:
  run:
    description:
      - This run of C(ansible-playbook), as the action M(websockets.deploy.plan) returns it.
      - The host's lock belongs to it.
    type: dict
    required: true
  app:
    description: Name of the app.
    type: str
    required: true
  site_file:
    description: Path of nginx's site of the app.
    type: path
    required: true
  http_file:
    description: Path of the file that all apps share. The module removes it with the last app.
    type: path
    required: true
  pair:
    description: Paths of the certificate that the role writes, and of its key.
    type: list
    elements: path
    required: true
"""

EXAMPLES = r"""
---
- name: Take the app out of nginx
  websockets.deploy.remove:
    run: "{{ __websockets_plan.run }}"
    app: echo
    site_file: /etc/nginx/conf.d/websockets-echo.conf
    http_file: /etc/nginx/conf.d/websockets.conf
    pair: [/etc/nginx/websockets/echo.crt, /etc/nginx/websockets/echo.key]
"""

RETURN = r"""
---
# Nothing beside changed and diff.
"""

import glob
import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import acme, lock, nginx


def main():
    module = AnsibleModule(
        {
            "run": {"type": "dict", "required": True},
            "app": {"type": "str", "required": True},
            "site_file": {"type": "path", "required": True},
            "http_file": {"type": "path", "required": True},
            "pair": {"type": "list", "elements": "path", "required": True},
        },
        supports_check_mode=True,
    )
    path, shared = module.params["site_file"], module.params["http_file"]
    gone = [path] if set(glob.glob(f"{os.path.dirname(path)}/websockets-*.conf")) - {path} else [path, shared]
    files = {path: None for path in [*gone, *module.params["pair"]] if os.path.exists(path)}
    with lock.hold(module):
        try:
            if files:
                nginx.test(files)
            if not module.check_mode:
                nginx.apply(files)
                acme.forget(module.params["app"])
        except (nginx.NginxError, acme.AcmeError, OSError) as error:
            module.fail_json(msg=f"The app stays as it is: {error}")
    module.exit_json(changed=bool(files), diff={"before": "".join(f"{path}\n" for path in files), "after": ""})


if __name__ == "__main__":
    main()
