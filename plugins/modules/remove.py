#!/usr/bin/python
"""Take an app out of nginx, so that it gets no new clients."""

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
  - websockets.deploy.step
  - websockets.deploy.step.run
attributes:
  diff_mode:
    support: full
options:
  site:
    description: The app's site, as the action M(websockets.deploy.plan) returns it.
    type: dict
    required: true
"""

EXAMPLES = r"""
---
- name: Take the app out of nginx
  websockets.deploy.remove:
    run: "{{ __websockets_plan.run }}"
    site: "{{ __websockets_plan.site }}"
"""

RETURN = r"""
---
# This module returns only changed and diff.
"""

import glob
import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import acme, lock, nginx, paths
from ..module_utils.record import from_dict
from ..module_utils.site import Site


def main() -> None:
    module = AnsibleModule(
        {"run": {"type": "dict", "required": True}, "site": {"type": "dict", "required": True}},
        supports_check_mode=True,
    )
    site = from_dict(Site, module.params["site"])
    others = set(glob.glob(paths.site_file("*"))) - {site.file}
    gone = [
        site.file,
        paths.next_file(site.app),
        *([] if others else [site.http_file]),
        *paths.own_certificate(site.app),
    ]
    files = {path: None for path in gone if os.path.exists(path)}
    with lock.hold(module):
        try:
            if files:
                nginx.test(files)
            if not module.check_mode:
                nginx.apply(files)
                acme.forget(site.app)
        except (nginx.NginxError, acme.AcmeError, OSError) as error:
            module.fail_json(msg=f"{site.app} has not been removed: {error}")
    module.exit_json(changed=bool(files), diff={"before": "".join(f"{path}\n" for path in files), "after": ""})


if __name__ == "__main__":
    main()
