#!/usr/bin/python
"""Look at a host, and begin a run there."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: observe
short_description: Look at a host, and begin a run there
version_added: 1.0.0
description:
  - This module returns what the plan of a deploy depends on, and what of the host is as it should be already.
  - It takes the host's lock, so that no other run changes what it has seen. It changes nothing else, and in check mode
    it does not take the lock.
  - This module is for the role P(websockets.deploy.websockets#role) itself; its options change without notice.
author: The authors of this repository (!UNKNOWN)
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - websockets.deploy.step
attributes:
  diff_mode:
    support: none
options:
  app:
    description: Name of the app.
    type: str
    required: true
  user:
    description: User of the app's processes.
    type: str
    required: true
  python:
    description: Path of the interpreter for the app's virtual environment.
    type: str
    required: true
  wheels:
    description: Whether the control node gets the wheels for this interpreter, and has to know more of it.
    type: bool
    default: false
  site:
    description: The app's site, as it is on a host that has no other.
    type: dict
    required: true
  minfds:
    description: Number of file descriptors that a process of the app needs.
    type: int
    required: true
  worker_connections:
    description: Number of file descriptors that a worker of nginx needs.
    type: int
    required: true
  platforms:
    description: What depends on the distribution, such as its packages, by the distribution's ID.
    type: dict
    required: true
  keep_releases:
    description: Number of releases to keep on the host.
    type: int
    required: true
  probe:
    description: A handshake that shows whether a process answers.
    type: dict
    required: true
  headers:
    description:
      - Further headers of the handshake. They may hold secrets.
      - Without this option they are those that the app's last deploy has recorded.
    type: dict
  run:
    description:
      - This run of C(ansible-playbook). C(id) tells it from all others, C(who) names its user and host.
      - The host's lock belongs to it.
    type: dict
    required: true
  inputs:
    description:
      - The inputs that a cut-over would record, without those that may be secret.
      - With them, the module makes the handshake through nginx that ends a deploy, if it sees nothing else to do.
    type: dict
  proof_sources:
    description: This host's addresses from which it makes that handshake, one for each version of IP.
    type: list
    elements: str
    default: []
  replaces:
    description: Name of the app in whose place this one comes, empty for none.
    type: str
    default: ""
  ended:
    description: Id of a run that is known to have ended without giving the lock back.
    type: str
    default: ""
"""

EXAMPLES = r"""
---
# The action websockets.deploy.plan runs this module. A task of a playbook never does.
- name: Look at the host
  websockets.deploy.observe:
    app: echo
    user: ws-echo
    python: /usr/bin/python3
    site:
      app: echo
      file: /etc/nginx/conf.d/websockets-echo.conf
      http_file: /etc/nginx/conf.d/websockets.conf
      servers: [{kind: app, listen: 127.0.0.1:8080, directive: 127.0.0.1:8080 backlog=4096, names: [localhost]}]
    minfds: 5120
    worker_connections: 9216
    platforms: "{{ __websockets_platforms }}"
    keep_releases: 5
    probe: {server_name: localhost, path: /, message: hello, timeout: 30}
    headers: {}
    run: {id: control 4711 /root/.ansible/tmp/local4711, who: root@control (process 4711)}
"""

RETURN = r"""
---
host:
  description: The host as it is. It is missing if another run holds the lock.
  returned: when the lock was free
  type: dict
  sample: {init: systemd, platform: debian-13, python: "3.13", live: 5f2b41c09a7e, serves: true}
holder:
  description: The run that holds the lock, with its C(id) and C(who).
  returned: when another run holds the lock
  type: dict
  sample: {id: control 4711 /root/.ansible/tmp/local4711, who: root@control (process 4711)}
msg:
  description: The same as a sentence.
  returned: when another run holds the lock
  type: str
  sample: root@control (process 4711) is at work on this host. This run stops here; start it again when the other one has ended.
"""

import dataclasses
import itertools
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import (
    certificate,
    handshake,
    host_files,
    lock,
    neighbours,
    nginx,
    pages,
    paths,
    recorded,
    services,
    system,
    tls,
)
from ..module_utils import release as releases
from ..module_utils.host import Host, Replaced
from ..module_utils.probe import Probe
from ..module_utils.record import from_dict, readable, to_dict
from ..module_utils.release import Release
from ..module_utils.run import Run
from ..module_utils.site import Certificate, Site
from ..module_utils.supervisor import DOWN, Supervisor, SupervisorError
from ..module_utils.tls import Validity


def validity(needed: Certificate | None) -> Validity:
    """Return the validity of the certificate that a site needs, an empty one without TLS.

    It is also empty for a certificate in the inputs, which the action ``plan`` has checked, and for one that the role
    makes or gets, but has not yet.
    """
    if not needed or needed.given:
        return Validity()
    try:
        found = tls.examine(needed.path, needed.key, needed.names)
    except tls.CertificateError as error:
        return Validity(about=error.about, problem=str(error)) if needed.mode == "files" else Validity()
    if needed.mode == "files" and os.stat(needed.key).st_mode & 0o007:
        return Validity(about="key", problem="every user of the host can read it; set its mode to 0600.")
    return found


def serves(live: Release, minfds: int, probe: Probe, headers: dict[str, Any]) -> bool:
    """Tell whether all processes of the live release run, have enough file descriptors, and answer, and its workers run.

    :param minfds: number of file descriptors that a process needs
    """
    try:
        supervisor = Supervisor()
        processes = supervisor.processes(live.program)
        workers = [process.name for worker in live.workers for process in worker.processes]
        return (
            bool(processes)
            and not any(process["statename"] in DOWN for process in processes.values())
            and all(name in processes and processes[name]["statename"] == "RUNNING" for name in workers)
            and not supervisor.lacks_descriptors(minfds)
            and not any(handshake.fault(process.socket, probe, headers) for process in live.processes)
        )
    except SupervisorError:
        return False


def prove(given: dict[str, Any], site: Site, probe: Probe, ipv6: bool) -> float | None:
    """Make a handshake through nginx, at each of the site's addresses; return the milliseconds of the slowest.

    :return: None if one fails, or if anything is left to do for a cut-over that the host itself can see
    """
    main, connections = nginx.read(paths.NGINX_MAIN), given["worker_connections"]
    if (
        given["inputs"] is None
        or main is None
        or main != nginx.tune(main, connections, connections, recorded.shutdown(site))
        or nginx.is_pending()
        or not recorded.has_inputs(site, given["inputs"], given["headers"])
        or not certificate.at_rest(site, probe)
        or not pages.in_place(site, releases.live_id(site.app))
    ):
        return None
    further = {"headers": given["headers"], "sources": given["proof_sources"]}
    probe = dataclasses.replace(probe, timeout=min(probe.timeout, 5))
    try:
        return 1000 * max(handshake.ask(at, probe, **further) for at in site.addresses if ipv6 or ":" not in at[0])
    except handshake.HandshakeError:
        return None


def replaced(app: str, site: Site | None, by: str, sites: dict[str, Site]) -> Replaced:
    """Return the app in whose place another one comes.

    :param site: what nginx serves for it, None if it serves nothing
    :param by: the other one
    :param sites: the sites of all other apps
    """
    written = (os.path.join(folder, name) for folder, _, names in os.walk(paths.app_data(app)) for name in names)
    return Replaced(
        claims=[claim for server in (site.servers if site else []) for claim in server.claims()],
        files=readable(list(itertools.islice(written, 3))),
        used_by=sorted(neighbours.users(app, sites) - {by, paths.site_file(app)}),
    )


def observe(given: dict[str, Any]) -> Host:
    """Return the present state of the host.

    :param given: the module's parameters
    """
    app, site, probe = given["app"], from_dict(Site, given["site"]), from_dict(Probe, given["probe"])
    init = system.init()
    distribution, platform = system.distribution(system.os_release(), given["platforms"])
    acme = site.certificate is not None and site.certificate.mode == "acme"
    units = services.units(acme) if init == "systemd" else {}
    sites, foreign, group = recorded.sites(), neighbours.foreign_servers(app), system.account(given["user"])
    # Its servers go when this app's come.
    former = given["replaces"]
    gone = sites.pop(former, None)
    live, stored, minfds = releases.live_id(app), releases.stored(app), neighbours.minfds()
    wanted, ipv6 = max(given["minfds"], minfds), system.ipv6()
    good = live in stored and serves(stored[live].release, wanted, probe, given["headers"])
    return Host(
        init=init,
        distribution=distribution,
        platform=platform,
        python=system.python_version(given["python"]),
        markers=system.markers(given["python"]) if given["wheels"] else {},
        missing_packages=system.missing(given["platforms"][platform]["packages"]) if platform else [],
        group=group[0],
        home=group[1],
        ipv6=ipv6,
        listens=neighbours.listens(app, site.listens, sites, foreign),
        certificate=validity(site.certificate),
        claims=neighbours.claims(app, sites, foreign),
        minfds=minfds,
        nginx_nofile=neighbours.nginx_nofile(),
        limits=system.limits(given["worker_connections"]),
        # The cores that this process may use: a container may have only some of the machine's.
        cores=len(os.sched_getaffinity(0)),
        files=host_files.found(file.dest for file in host_files.of(app)),
        folders=host_files.folders_are_made(paths.tmpfiles(app)),
        idle_services=services.idle_units(units) if init == "systemd" else services.idle_scripts(acme),
        stale_units=services.stale(units),
        sandboxes=services.sandboxes(units) if init == "systemd" else {},
        batch=init == "systemd" and system.batch(),
        batched=services.batched(units) if init == "systemd" else [],
        live=live,
        serves=good,
        releases=stored,
        venvs=releases.venvs(app),
        programs=releases.programs(app),
        data_owner=system.owner(paths.data(app)),
        unneeded=bool(releases.unneeded(app, given["keep_releases"])[1]),
        served=recorded.digests((site.http_file, site.file, paths.next_file(app), paths.site_record(app))),
        replaced=replaced(former, gone, app, sites) if recorded.has(former) else None,
        maintenance=recorded.maintenance(app),
        proof=prove(given, site, probe, ipv6) if good else None,
        apps=sorted(sites),
        used_by=sorted(neighbours.users(app, sites)),
    )


def main() -> None:
    string = {"type": "str", "required": True}
    module = AnsibleModule(
        {
            "app": string,
            "user": string,
            "python": string,
            "wheels": {"type": "bool", "default": False},
            "site": {"type": "dict", "required": True},
            "minfds": {"type": "int", "required": True},
            "worker_connections": {"type": "int", "required": True},
            "platforms": {"type": "dict", "required": True},
            "keep_releases": {"type": "int", "required": True},
            "probe": {"type": "dict", "required": True},
            "headers": {"type": "dict", "no_log": True},
            "run": {"type": "dict", "required": True},
            "inputs": {"type": "dict"},
            "proof_sources": {"type": "list", "elements": "str", "default": []},
            "replaces": {"type": "str", "default": ""},
            "ended": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    recorded.fill_headers(module, module.params["app"])
    if module.check_mode:
        module.exit_json(changed=False, host=readable(to_dict(observe(module.params))))
    try:
        with lock.held(from_dict(Run, module.params["run"]), take=True, ended=module.params["ended"]):
            module.exit_json(changed=False, host=readable(to_dict(observe(module.params))))
    except lock.LockError as error:
        module.exit_json(changed=False, holder=to_dict(error.holder), msg=str(error))


if __name__ == "__main__":
    main()
