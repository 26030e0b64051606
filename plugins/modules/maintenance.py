#!/usr/bin/python
"""Begin or end the maintenance of an app, in which nginx answers its new clients itself."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: maintenance
short_description: Begin or end the maintenance of an app
version_added: 1.2.0
description:
  - While an app is in maintenance, nginx answers each new handshake and each plain request with 503. Clients that are
    connected stay. nginx sees that from a file, so it is not reloaded.
  - Where nginx's site of the app is of an older version of the role, which did not look for that file, the first
    maintenance writes the site again and reloads nginx.
  - This module is for the role P(websockets.deploy.websockets#role) itself; its options change without notice.
author: The authors of this repository (!UNKNOWN)
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - websockets.deploy.step
  - websockets.deploy.step.run
attributes:
  diff_mode:
    support: none
options:
  begin:
    description: Whether the maintenance begins. Otherwise it ends.
    type: bool
    required: true
  last:
    description: Whether no other step of this run follows. Then the module gives the host's lock back.
    type: bool
    required: true
  site:
    description: The app's site, as the action M(websockets.deploy.plan) returns it.
    type: dict
    required: true
  files:
    description: Path and text of nginx's files of the app, with the present templates.
    type: dict
    required: true
"""

EXAMPLES = r"""
---
- name: Begin the maintenance
  websockets.deploy.maintenance:
    run: "{{ __websockets_plan.run }}"
    begin: true
    last: true
    site: "{{ __websockets_plan.site }}"
    files:
      /etc/nginx/conf.d/websockets-echo.conf: "{{ lookup('ansible.builtin.template', 'site.conf.j2') }}"
"""

RETURN = r"""
---
since:
  description: When the maintenance began, in the host's time; empty if the app is not in maintenance. Not in check mode.
  returned: success
  type: str
  sample: "2026-01-31 12:00:00"
would:
  description: What the module would change, as words that go on from "this run would".
  returned: in check mode
  type: list
  elements: str
  sample: [answer new clients of echo with 503]
"""

import os
from collections.abc import Mapping

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import lock, nginx, paths, recorded
from ..module_utils.record import from_dict
from ..module_utils.run import Run
from ..module_utils.site import Site


def missing(site: Site, wanted: Mapping[str, str]) -> dict[str, str]:
    """Return {path: text} of nginx's files that differ, if its site of the app does not look for the maintenance's file."""
    if f"if (-f {paths.maintenance(site.app)})" in (nginx.read(site.file) or ""):
        return {}
    return {path: text for path, text in wanted.items() if nginx.read(path) != text}


def serve(site: Site, files: Mapping[str, str]) -> None:
    """Put nginx's files in place and have nginx read them; if it cannot, put the former ones back.

    :raises nginx.NginxError: if nginx refuses them
    """
    before = {path: nginx.read(path) for path in files}
    try:
        # Also what an interrupted run has put in place.
        nginx.apply(files)
    except nginx.NginxError:
        nginx.apply(before)
        raise
    if site.file in files:
        recorded.write(site, files[site.file])


def main() -> None:
    module = AnsibleModule(
        {
            "run": {"type": "dict", "required": True},
            "begin": {"type": "bool", "required": True},
            "last": {"type": "bool", "required": True},
            "site": {"type": "dict", "required": True},
            "files": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    with lock.hold(module):
        turn(module, from_dict(Site, module.params["site"]), module.params["begin"])


def turn(module: AnsibleModule, site: Site, begin: bool) -> None:
    """Begin or end the maintenance and exit the module; in check mode, only say what would change."""
    flag = paths.maintenance(site.app)
    changes = os.path.lexists(flag) is not begin
    files = missing(site, module.params["files"]) if begin else {}
    would = [f"write {', '.join(files)} and reload nginx"] if files else []
    if changes:
        would.append(f"{'answer' if begin else 'no longer answer'} new clients of {site.app} with 503")
    try:
        if files:
            nginx.test(files)
        if module.check_mode:
            module.exit_json(changed=bool(would), would=would)
        if begin:
            serve(site, files)
        if changes and begin:
            nginx.write({flag: ""})
        elif changes:
            os.unlink(flag)
    except (nginx.NginxError, OSError) as error:
        module.fail_json(msg=f"The maintenance of {site.app} has not {'begun' if begin else 'ended'}: {error}")
    if module.params["last"]:
        lock.end(from_dict(Run, module.params["run"]))
    module.exit_json(changed=bool(would), since=recorded.maintenance(site.app))


if __name__ == "__main__":
    main()
