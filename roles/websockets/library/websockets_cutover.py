#!/usr/bin/python
"""Give a release the traffic, prove it through nginx, and take it all back if that fails."""

from __future__ import annotations

import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.websockets import handshake, lock, nginx
from ansible.module_utils.websockets import release as releases
from ansible.module_utils.websockets.supervisor import Supervisor, SupervisorError

DOCUMENTATION = """
module: websockets_cutover
short_description: Give a release the traffic
description:
  - Has nginx test its whole configuration with the new files, puts them in place and reloads nginx if they differ.
  - Points the live link at the release's sockets by one rename, and proves it with a handshake through nginx.
  - If any of it fails, files and link are as they were before, and the release is stopped.
  - Ends the run on this host where nothing is left to drain.
options:
  release: {description: The release, from websockets_plan., type: dict, required: true}
  run: {description: The run, from websockets_plan., type: dict, required: true}
  rollback: {description: Whether the release has been live before., type: bool, required: true}
  last: {description: Whether this is the run's last step on this host., type: bool, required: true}
  files: {description: "nginx's files of the app and of all apps, {path: text}.", type: dict, required: true}
  worker_connections: {description: nginx's worker_connections at the least., type: int, required: true}
  address: {description: Address and port for the proof., type: list, elements: raw, required: true}
  probe: {description: "The proof, from websockets_plan: host, path, message and timeout.", type: dict, required: true}
  sources: {description: Addresses of this host that the proof comes from., type: list, elements: str, required: true}
  headers: {description: Further headers of the proof. May hold secrets., type: dict, required: true}
"""


def prove(address, probe, attempts=3):
    """Repeat the handshake a few times, and return the seconds of the one that succeeds.

    No more than a few: if it fails, it fails for clients too.
    """
    while True:
        attempts -= 1
        try:
            return handshake.probe(tuple(address), **{**probe, "timeout": min(probe["timeout"], 5)})
        except handshake.HandshakeError as error:
            if not attempts:
                raise handshake.HandshakeError(f"{error}.\nnginx's error log ends:\n{nginx.last_errors()}") from None
            time.sleep(0.02)


def conflict(words, host):
    """Return nginx's warning that somebody else has our name, if that is among its words."""
    return next((line for line in words.splitlines() if f'conflicting server name "{host}"' in line), "")


def wanted(module):
    """Return {path: text} of the files that differ, and the same as they are now."""
    main = nginx.read(nginx.MAIN)
    files = module.params["files"]
    if main is not None:
        connections = module.params["worker_connections"]
        files = {nginx.MAIN: nginx.tune(main, connections, connections), **files}
    before = {path: nginx.read(path) for path in files}
    changed = {path: text for path, text in files.items() if before[path] != text}
    return changed, {path: before[path] for path in changed}


def main():
    module = AnsibleModule(
        {
            "release": {"type": "dict", "required": True},
            "run": {"type": "dict", "required": True},
            "rollback": {"type": "bool", "required": True},
            "last": {"type": "bool", "required": True},
            "files": {"type": "dict", "required": True},
            "worker_connections": {"type": "int", "required": True},
            "address": {"type": "list", "elements": "raw", "required": True},
            "probe": {"type": "dict", "required": True},
            "sources": {"type": "list", "elements": "str", "required": True},
            "headers": {"type": "dict", "required": True, "no_log": True},
        },
        supports_check_mode=True,
    )
    with lock.hold(module):
        cut_over(module, module.params["release"])


def cut_over(module, release):
    files, before = wanted(module)
    live, old = release["live"], releases.live(release["base"])
    swap = old != release["id"]
    diff = [
        {"before_header": path, "after_header": path, "before": before[path] or "", "after": text}
        for path, text in files.items()
    ]
    if swap:
        was, will_be = (f"{old}\n" if old else ""), f"{release['id']}\n"
        diff.append({"before_header": live, "after_header": live, "before": was, "after": will_be})
    try:
        # On a host that has nothing installed yet, a check has nothing to ask.
        if files and nginx.read(nginx.MAIN) is not None:
            words = nginx.test(files)
            if conflict(words, module.params["probe"]["host"]):
                raise nginx.NginxError(conflict(words, module.params["probe"]["host"]))
    except nginx.NginxError as error:
        fail(module, release, old, f"nginx refuses the new configuration; the working one is untouched:\n{error}")
    if module.check_mode:
        module.exit_json(changed=bool(files) or swap, diff=diff)
    if nginx.MAIN in files:
        module.backup_local(nginx.MAIN)
    try:
        reloaded = nginx.apply(files)
        if swap:
            releases.point(live, release["sockets"])
        proof = {name: module.params[name] for name in ("headers", "sources")}
        seconds = prove(module.params["address"], {**module.params["probe"], **proof})
    except (nginx.NginxError, handshake.HandshakeError, OSError) as error:
        if swap and old:
            releases.point(live, releases.of(release["app"], old)["sockets"])
        elif swap and os.path.lexists(live):
            os.unlink(live)
        nginx.apply(before)
        fail(
            module,
            release,
            old,
            f"Release {release['id']} does not answer through nginx at {':'.join(map(str, module.params['address']))};"
            f" nginx and the live link are as they were. {error}",
        )
    if swap:
        releases.went_live(release["path"], None if module.params["rollback"] else old)
    if module.params["last"]:
        lock.end(module.params["run"])
    module.exit_json(changed=reloaded or swap, diff=diff, milliseconds=round(seconds * 1000, 1))


def fail(module, release, old, message):
    """Fail, and leave nothing running of a release that gets no traffic."""
    if old != release["id"] and not module.check_mode:
        try:
            Supervisor().retire(release)
        except (SupervisorError, OSError) as error:
            module.warn(f"{release['program']} could not be removed: {error}")
    module.fail_json(msg=message)


if __name__ == "__main__":
    main()
