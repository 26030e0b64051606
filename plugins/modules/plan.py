"""The documentation of the action ``plan``. Its code is plugins/action/plan.py."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plan
short_description: Check the inputs, look at the host and plan the release
version_added: 1.0.0
description:
  - This action checks the role's inputs, reads the app's code on the control node, looks at the host by
    M(websockets.deploy.observe), and returns the release that follows and the steps that have anything to do.
  - It takes the host's lock for the run. It changes nothing else.
  - This action is for the role P(websockets.deploy.websockets#role) itself; its options and what it returns change without notice.
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
  diff_mode:
    support: none
options:
  platforms:
    description: What depends on the distribution, such as its packages, by the distribution's ID.
    type: dict
    required: true
  purpose:
    description:
      - V(deploy) plans the release that the inputs describe.
      - V(rollback) plans to go back to a release that is on the host.
      - V(restart) plans to restart the processes of the live release.
      - V(maintenance) finds the live release, and what nginx serves for it.
      - V(remove) plans to remove all releases of the app.
      - V(bootstrap) only checks what a deploy can check on the control node, and O(os_release). It needs no Python on the
        host, and returns nothing.
    type: str
    choices: [deploy, rollback, restart, maintenance, remove, bootstrap]
    required: true
  os_release:
    description: Text of the host's C(/etc/os-release), for V(purpose=bootstrap).
    type: str
    default: ""
  app:
    description: Name of the app. Empty, it is the one that the variables name.
    type: str
    default: ""
  proof_sources:
    description: The host's addresses from which it makes a handshake through nginx, one for each version of IP.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
---
- name: Check the inputs, look at the host and plan the release
  websockets.deploy.plan:
    platforms: "{{ __websockets_platforms }}"
    purpose: deploy
  register: __websockets_plan
"""

RETURN = r"""
---
run:
  description: This run of C(ansible-playbook). C(id) tells it from all others, C(who) names its user and host.
  returned: success
  type: dict
  sample: {id: control 4711 /root/.ansible/tmp/local4711, who: root@control (process 4711)}
inputs:
  description: The role's inputs with their types, without those that may hold secrets.
  returned: success
  type: dict
  sample: {app: echo, numprocs: "4"}
host:
  description: The host, as M(websockets.deploy.observe) has seen it.
  returned: success
  type: dict
  sample: {init: systemd, platform: debian-13, python: "3.13", live: 5f2b41c09a7e, serves: true}
site:
  description: What nginx serves for the app, with its servers, its certificate and the origins that it lets in.
  returned: success
  type: dict
  sample: {app: echo, url: "ws://localhost:8080/", file: /etc/nginx/conf.d/websockets-echo.conf}
release:
  description: The release with its id, its paths, its Supervisor program and its processes.
  returned: success
  type: dict
  sample: {app: echo, id: 5f2b41c09a7e, path: /srv/websockets/echo/releases/5f2b41c09a7e}
todo:
  description: The steps of the role, and what each has to do on this host, as words that go on from "this run would".
  returned: success
  type: dict
  sample: {host: [], release: [], start: [], drain: [drain 5f2b41c09a7e]}
"""
