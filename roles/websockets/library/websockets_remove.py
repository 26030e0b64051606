#!/usr/bin/python
"""Take an app out of nginx, so that nobody new comes to it."""

from __future__ import annotations

import glob
import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.websockets import lock, nginx

DOCUMENTATION = """
module: websockets_remove
short_description: Take an app out of nginx
description: nginx tests its whole configuration without the app's site, before the site goes. Open connections stay.
options:
  run: {description: The run, from websockets_plan., type: dict, required: true}
  site_file: {description: Path of nginx's site of the app., type: path, required: true}
  http_file: {description: Path of what all apps share; it goes with the last of them., type: path, required: true}
"""


def main():
    module = AnsibleModule(
        {
            "run": {"type": "dict", "required": True},
            "site_file": {"type": "path", "required": True},
            "http_file": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    path, shared = module.params["site_file"], module.params["http_file"]
    gone = [path] if set(glob.glob(f"{os.path.dirname(path)}/websockets-*.conf")) - {path} else [path, shared]
    files = {path: None for path in gone if os.path.exists(path)}
    with lock.hold(module):
        try:
            if files:
                nginx.test(files)
            if not module.check_mode:
                nginx.apply(files)
        except (nginx.NginxError, OSError) as error:
            module.fail_json(msg=f"The app stays as it is: {error}")
    module.exit_json(changed=bool(files), diff={"before": "".join(f"{path}\n" for path in files), "after": ""})


if __name__ == "__main__":
    main()
