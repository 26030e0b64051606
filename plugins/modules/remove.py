#!/usr/bin/python
"""Take an app out of nginx, so that nobody new comes to it."""

from __future__ import annotations

import glob
import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import acme, lock, nginx, paths
from ..module_utils.record import from_dict
from ..module_utils.site import Site

DOCUMENTATION = """
module: remove
short_description: Take an app out of nginx
description:
  - nginx tests its whole configuration without the app's site, before the site goes. Open connections stay.
  - The certificate that the role has made or got for the app goes with it.
options:
  run: {description: The run, from the action plan., type: dict, required: true}
  site: {description: "The site, from the action plan.", type: dict, required: true}
"""


def main() -> None:
    module = AnsibleModule(
        {"run": {"type": "dict", "required": True}, "site": {"type": "dict", "required": True}},
        supports_check_mode=True,
    )
    site = from_dict(Site, module.params["site"])
    others = set(glob.glob(paths.site_file("*"))) - {site.file}
    gone = [site.file, *([] if others else [site.http_file]), *paths.own_certificate(site.app)]
    files = {path: None for path in gone if os.path.exists(path)}
    with lock.hold(module):
        try:
            if files:
                nginx.test(files)
            if not module.check_mode:
                nginx.apply(files)
                acme.forget(site.app)
        except (nginx.NginxError, acme.AcmeError, OSError) as error:
            module.fail_json(msg=f"The app stays as it is: {error}")
    module.exit_json(changed=bool(files), diff={"before": "".join(f"{path}\n" for path in files), "after": ""})


if __name__ == "__main__":
    main()
