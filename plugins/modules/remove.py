#!/usr/bin/python
"""Take an app out of nginx, so that nobody new comes to it."""

from __future__ import annotations

import glob
import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import acme, lock, nginx

DOCUMENTATION = """
module: remove
short_description: Take an app out of nginx
description:
  - nginx tests its whole configuration without the app's site, before the site goes. Open connections stay.
  - The certificate that the role has made or got for the app goes with it.
options:
  run: {description: The run, from the action plan., type: dict, required: true}
  app: {description: Name of the app., type: str, required: true}
  site_file: {description: Path of nginx's site of the app., type: path, required: true}
  http_file: {description: Path of what all apps share; it goes with the last of them., type: path, required: true}
  pair: {description: Paths of the certificate that the role writes and of its key., type: list, elements: path, required: true}
"""


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
