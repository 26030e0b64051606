#!/usr/bin/python
"""Tell what runs of every app on a host, and to which releases a rollback can go."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: status
short_description: Tell what runs of every app on a host
version_added: 1.0.0
description:
  - This module tells for every app of the role which release is live, how its processes are, which releases still
    drain, when the certificate ends, and which releases a rollback could go back to. It changes nothing.
  - This module is for the role P(websockets.deploy.websockets#role) itself; its options change without notice.
author: The authors of this repository (!UNKNOWN)
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - websockets.deploy.step
attributes:
  diff_mode:
    support: none
options:
  only:
    description: Name of the one app to look at. Empty, the module looks at all apps.
    type: str
    default: ""
"""

EXAMPLES = r"""
---
- name: Look at the apps
  websockets.deploy.status:
  register: found

- name: Say what runs
  ansible.builtin.debug:
    msg: "{{ found.text }}"
"""

RETURN = r"""
---
apps:
  description: The apps of this host.
  returned: success
  type: list
  elements: dict
  contains:
    app:
      description: Name of the app.
      type: str
      sample: echo
    live:
      description: Id of the live release; empty if there is none.
      type: str
      sample: 5f2b41c09a7e
    revision:
      description:
        - The git revision of the live release. C(commit) and C(tag) are empty if it is not known; C(changed) tells
          whether the folder had changes that were not committed.
        - Each release in RV(apps[].draining) and RV(apps[].previous) has it too.
      type: dict
      sample: {commit: 4f2a9c1d0e6b8a7f3c5d9e1b2a4c6d8e0f1a3b5c, tag: v1.2.0, changed: false}
    since:
      description: When the live release got the traffic, in the host's time.
      type: str
      sample: "2026-01-31 12:00:00"
    maintenance:
      description: When its maintenance began, in the host's time; empty without one.
      type: str
      sample: ""
    processes:
      description: The processes of the live release.
      type: list
      elements: dict
      sample: [{name: echo_00, state: RUNNING, pid: 4711, uptime: 3600, restarts: 0, connections: 12}]
    workers:
      description: Its workers, which have no clients.
      type: list
      elements: dict
      sample: [{name: echo.mail_00, state: RUNNING, pid: 4720, uptime: 3600, restarts: 0}]
    draining:
      description:
        - Releases without new traffic whose processes still run, each with its C(release), C(processes) and C(workers).
      type: list
      elements: dict
      sample: []
    certificate:
      description: Its C(path), C(until) when it is valid, and its C(problem), if any; empty without TLS.
      type: dict
      sample: {path: /etc/nginx/websockets/echo.crt, until: "2027-01-31 12:00:00", problem: ""}
    previous:
      description: Releases that a rollback could go back to, each with C(since) when it got the traffic.
      type: list
      elements: dict
      sample: [{release: 1d0c8e77b3f2, since: "2026-01-30 12:00:00"}]
nginx:
  description:
    - C(old_workers) are those from before a reload of nginx, which stay until their last client has left. Each has its
      C(pid), C(uptime) in seconds, number of C(connections) and private C(memory) in bytes.
  returned: success
  type: dict
  sample: {old_workers: [{pid: 4712, uptime: 86400, connections: 3, memory: 8388608}]}
text:
  description: The same as lines of text.
  returned: success
  type: list
  elements: str
  sample: ["echo: 5f2b41c09a7e (v1.2.0, 4f2a9c1) live since 2026-01-31 12:00:00"]
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import nginx, paths, recorded, tls, unix
from ..module_utils import release as releases
from ..module_utils.inputs import problem
from ..module_utils.record import from_dict, readable, stamp, to_dict
from ..module_utils.release import Release, Revision, Stored, is_worker
from ..module_utils.supervisor import Supervisor, SupervisorError


def status(app: str, supervisor: Supervisor) -> dict[str, Any]:
    """Return the status of one app."""
    live = releases.live_id(app)
    stored = releases.stored(app)
    been_live = {id: one.since for id, one in stored.items() if one.been_live}
    return {
        "app": app,
        "live": live,
        "revision": revision(stored, live),
        "since": stamp(been_live[live]) if live in been_live else "",
        "maintenance": recorded.maintenance(app),
        **(processes(Release.of(app, live), supervisor) if live else {"processes": [], "workers": []}),
        "draining": [
            {"release": id, "revision": revision(stored, id), **processes(Release.of(app, id), supervisor)}
            for id in releases.programs(app)
            if id != live
        ],
        "certificate": certificate(app),
        "previous": [
            {"release": id, "revision": revision(stored, id), "since": stamp(since)}
            for id, since in sorted(been_live.items(), key=lambda item: item[1], reverse=True)
            if id != live
        ],
    }


def revision(stored: Mapping[str, Stored], id: str) -> dict[str, Any]:
    """Return the git revision of a release, with empty values if it is not known."""
    return to_dict(stored[id].revision if id in stored else Revision())


def called(id: str, revision: Mapping[str, Any]) -> str:
    """Return a release's id with its git revision, if that is known."""
    return from_dict(Revision, revision).after(id)


def certificate(app: str) -> dict[str, str]:
    """Return the path, end and problem of the certificate of an app's site; empty without TLS."""
    site = recorded.site_of(app)
    if not site or not site.certificate:
        return {}
    path = site.certificate.path
    try:
        found = tls.examine(path, site.certificate.key, [])
    except tls.CertificateError as error:
        return {"path": path, "until": "", "problem": str(error)}
    problem = "it should have been renewed by now" if tls.ends_soon(found) else ""
    return {"path": path, "until": stamp(found.until), "problem": problem}


def processes(release: Release, supervisor: Supervisor) -> dict[str, list[dict[str, Any]]]:
    """Return the ``processes`` and the ``workers`` of a release, sorted by name; ``uptime`` is in seconds."""
    connections = unix.connections(release.sockets)
    found = [
        {
            "name": name,
            "state": process["statename"],
            "pid": process["pid"],
            "uptime": process["now"] - process["start"] if process["statename"] == "RUNNING" else 0,
            "restarts": max(0, starts(paths.starts(release.sockets, name)) - 1),
            **({} if is_worker(name) else {"connections": connections.get(paths.socket(release.sockets, name), 0)}),
        }
        for name, process in sorted(supervisor.processes(release.program).items())
    ]
    kinds = {"processes": False, "workers": True}
    return {kind: [one for one in found if is_worker(one["name"]) == workers] for kind, workers in kinds.items()}


def starts(path: str) -> int:
    """Return the number of starts of a process. At each start its script adds a line to this file."""
    try:
        with open(path, encoding="ascii") as file:
            return len(file.readlines())
    except FileNotFoundError:
        return 0


def lines(app: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines that show an app's status."""
    live = called(app["live"], app["revision"])
    yield f"{app['app']}: {live} live since {app['since']}" if app["live"] else f"{app['app']}: not live"
    if app["maintenance"]:
        yield f"  MAINTENANCE since {app['maintenance']}: new clients get 503"
    yield from table(app)
    for old in app["draining"]:
        yield f"  draining: {called(old['release'], old['revision'])}"
        yield from table(old)
    if app["certificate"]:
        until = f"ends {app['certificate']['until']}" if app["certificate"]["until"] else "cannot be used"
        yield f"  certificate {app['certificate']['path']} {until}"
    if app["certificate"].get("problem"):
        yield f"  CERTIFICATE: {app['certificate']['problem']}"
    for old in app["previous"]:
        yield f"  can go back to {called(old['release'], old['revision'])}, of {old['since']}"


def table(release: Mapping[str, Any]) -> Iterator[str]:
    """Yield a release's processes and workers as the lines of two tables; one that would be empty has no lines."""
    form = "  {:<12} {:<8} {:>7} {:>10} {:>8}"
    for kind, title in {"processes": "process", "workers": "worker"}.items():
        if release[kind]:
            clients = " clients" if kind == "processes" else ""
            yield form.format(title, "state", "pid", "uptime", "restarts") + clients
        for row in release[kind]:
            clients = f" {row['connections']:>7}" if kind == "processes" else ""
            yield form.format(row["name"], row["state"], row["pid"], uptime(row["uptime"]), row["restarts"]) + clients


def old_workers(workers: Sequence[Mapping[str, int]]) -> Iterator[str]:
    """Yield the lines that show nginx's old workers, none if there are none."""
    if workers:
        clients, memory = (sum(worker[what] for worker in workers) for what in ("connections", "memory"))
        yield f"nginx: {clients} clients of before a reload keep {len(workers)} old workers and {memory / 2**20:.0f} MiB"
        yield "  {:>7} {:>10} {:>7} {:>8}".format("pid", "uptime", "clients", "MiB")
    for worker in workers:
        up, size = uptime(worker["uptime"]), worker["memory"] / 2**20
        yield f"  {worker['pid']:>7} {up:>10} {worker['connections']:>7} {size:>8.1f}"


def uptime(seconds: int) -> str:
    """Return seconds as hours, minutes and seconds."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def main() -> None:
    module = AnsibleModule({"only": {"type": "str", "default": ""}}, supports_check_mode=True)
    there, only = releases.apps(), module.params["only"]
    if only and only not in there:
        has = f"this host has {' and '.join(there)}." if there else "no app has been deployed to this host."
        module.fail_json(msg=problem("websockets_only", only, has))
    try:
        apps = [status(app, Supervisor()) for app in there if app == (only or app)]
    except SupervisorError as error:
        module.fail_json(msg=str(error))
    workers = nginx.old_workers()
    text = [line for app in apps for line in lines(app)] or ["No app has been deployed here."]
    text += old_workers(workers)
    module.exit_json(changed=False, apps=readable(apps), nginx={"old_workers": workers}, text=readable(text))


if __name__ == "__main__":
    main()
