#!/usr/bin/python
"""Give a release the traffic, prove it through nginx, and take it all back if that fails."""

from __future__ import annotations

import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.websockets import handshake, nginx
from ansible.module_utils.websockets import release as releases

DOCUMENTATION = """
module: websockets_cutover
short_description: Give a release the traffic
description:
  - Has nginx test its whole configuration with the new files, puts them in place and reloads nginx if they differ.
  - Points the live link at the release's sockets by one rename, and proves it with a handshake through nginx.
  - If any of it fails, files and link are as they were before.
options:
  release: {description: The release, from websockets_plan., type: dict, required: true}
  site: {description: nginx's site of the app., type: str, required: true}
  site_file: {description: Path of that site., type: path, required: true}
  worker_connections: {description: nginx's worker_connections at the least., type: int, required: true}
  address: {description: Address and port for the proof., type: list, elements: raw, required: true}
  probe: {description: "The proof, from websockets_plan: host, path, message and timeout.", type: dict, required: true}
  headers: {description: Further headers of the proof. May hold secrets., type: dict, required: true}
"""


def prove(address, probe, headers):
    """Repeat the handshake until it succeeds: a reloaded nginx takes a moment. Return its seconds."""
    deadline = time.monotonic() + probe["timeout"]
    while True:
        try:
            return handshake.probe(tuple(address), **{**probe, "timeout": 5.0}, headers=headers)
        except handshake.HandshakeError as error:
            if time.monotonic() > deadline:
                raise handshake.HandshakeError(f"{error}.\nnginx's error log ends:\n{nginx.last_errors()}") from None
            time.sleep(0.05)


def put(files):
    for path, text in files.items():
        nginx.write(path, text)
    if files:
        nginx.reload()


def conflict(words, host):
    """Return nginx's warning that somebody else has our name, if that is among its words."""
    return next((line for line in words.splitlines() if f'conflicting server name "{host}"' in line), "")


def wanted(module):
    """Return {path: text} of the files that differ, and the same as they are now."""
    main = nginx.read(nginx.MAIN)
    files = {module.params["site_file"]: module.params["site"]}
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
            "site": {"type": "str", "required": True},
            "site_file": {"type": "path", "required": True},
            "worker_connections": {"type": "int", "required": True},
            "address": {"type": "list", "elements": "raw", "required": True},
            "probe": {"type": "dict", "required": True},
            "headers": {"type": "dict", "required": True, "no_log": True},
        },
        supports_check_mode=True,
    )
    release = module.params["release"]
    files, before = wanted(module)
    live, old = release["live"], releases.live(release["base"])
    swap = old != release["id"]
    result = {
        "changed": bool(files) or swap,
        "diff": [
            {"before_header": path, "after_header": path, "before": before[path] or "", "after": text}
            for path, text in files.items()
        ],
    }
    if swap:
        result["diff"].append(
            {"before_header": live, "after_header": live, "before": f"{old}\n" if old else "", "after": f"{release['id']}\n"}
        )
    try:
        # On a host that has nothing installed yet, a check has nothing to ask.
        if files and nginx.read(nginx.MAIN) is not None:
            words = nginx.test(files)
            if conflict(words, module.params["probe"]["host"]):
                raise nginx.NginxError(conflict(words, module.params["probe"]["host"]))
    except nginx.NginxError as error:
        module.fail_json(msg=f"nginx refuses the new configuration; the working one is untouched:\n{error}")
    if module.check_mode:
        module.exit_json(**result)
    if nginx.MAIN in files:
        module.backup_local(nginx.MAIN)
    try:
        put(files)
        if swap:
            releases.point(live, release["sockets"])
        seconds = prove(module.params["address"], module.params["probe"], module.params["headers"])
    except (nginx.NginxError, handshake.HandshakeError, OSError) as error:
        if swap and old:
            releases.point(live, os.path.join(os.path.dirname(release["sockets"]), old))
        elif swap and os.path.lexists(live):
            os.unlink(live)
        put(before)
        module.fail_json(
            msg=f"Release {release['id']} does not answer through nginx at {module.params['address']};"
            f" nginx and the live link are as they were. {error}"
        )
    module.exit_json(**result, milliseconds=round(seconds * 1000, 1))


if __name__ == "__main__":
    main()
