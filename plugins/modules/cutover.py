#!/usr/bin/python
"""Give a release the traffic, prove it through nginx, and take it all back if that fails."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cutover
short_description: Give a release the traffic
version_added: 1.0.0
description:
  - First, this module makes the certificate, or gets it from an ACME authority, if there has to be a new one.
  - It has nginx test its whole configuration with the new files, puts them in place, and reloads nginx if they differ.
  - It points the live link at the release's sockets by one rename, and proves the result by a handshake through nginx.
  - If any of these steps fails, it puts the files and the link back and stops the release.
  - This module is for the role P(websockets.deploy.websockets#role) itself; its options change without notice.
author: The authors of this repository (!UNKNOWN)
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    support: full
    platforms: debian
options:
  release:
    description: The release, as the action M(websockets.deploy.plan) returns it.
    type: dict
    required: true
  run:
    description:
      - This run of C(ansible-playbook), as the action M(websockets.deploy.plan) returns it.
      - The host's lock belongs to it.
    type: dict
    required: true
  rollback:
    description: Whether the release has been live before.
    type: bool
    required: true
  last:
    description: Whether this is the run's last step on this host. If so, the module gives the host's lock back.
    type: bool
    required: true
  files:
    description: The texts of nginx's files, of this app and of all apps, by their paths.
    type: dict
    required: true
  site_file:
    description: Path of nginx's site of the app.
    type: path
    required: true
  tls:
    description: The certificate, as the action M(websockets.deploy.plan) returns it; empty without TLS.
    type: dict
    required: true
  pem:
    description: Certificate and key as PEM text, if the role's inputs have them; otherwise empty.
    type: list
    elements: str
    required: true
  plain:
    description: Where nginx listens for plain HTTP beside TLS; empty if it does not.
    type: str
    required: true
  worker_connections:
    description: The smallest number that nginx's C(worker_connections) may have.
    type: int
    required: true
  address:
    description: Address and port of nginx that the proof connects to.
    type: list
    elements: raw
    required: true
  probe:
    description: The proof's handshake, as the action M(websockets.deploy.plan) returns it.
    type: dict
    required: true
  sources:
    description: Addresses of this host that the proof may come from.
    type: list
    elements: str
    required: true
  headers:
    description: Further headers of the proof's handshake. They may hold secrets.
    type: dict
    required: true
"""

EXAMPLES = r"""
---
- name: Give the release the traffic and prove it through nginx
  websockets.deploy.cutover:
    release: "{{ __websockets_release }}"
    run: "{{ __websockets_plan.run }}"
    rollback: false
    last: "{{ not __websockets_plan.todo.drain }}"
    files:
      /etc/nginx/conf.d/websockets-echo.conf: "{{ lookup('ansible.builtin.template', 'site.conf.j2') }}"
    site_file: /etc/nginx/conf.d/websockets-echo.conf
    tls: "{{ __websockets_plan.tls }}"
    pem: []
    plain: "{{ __websockets_plan.plain }}"
    worker_connections: 9216
    address: [127.0.0.1, 8080]
    probe: "{{ __websockets_plan.probe }}"
    sources: [127.0.0.2, "::1"]
    headers: {}
"""

RETURN = r"""
---
milliseconds:
  description: How long the handshake through nginx took. Not in check mode.
  returned: success
  type: float
  sample: 2.4
"""

import os
import shutil
import time

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import acme, handshake, lock, nginx, tls
from ..module_utils import release as releases
from ..module_utils.supervisor import Supervisor, SupervisorError


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


# A self-signed certificate is made anew when it has fewer days left: only a deploy does it.
_RENEW_DAYS = 90


def examined(certificate):
    """Return what there is of the certificate, empty if it cannot be used."""
    try:
        return tls.examine(certificate["certificate"], certificate["key"], certificate["names"])
    except tls.CertificateError:
        return {}


def pair(module, installed):
    """Return {path: text} of the certificate and its key, where they are the role's own to write."""
    certificate = module.params["tls"]
    if module.params["pem"]:
        texts = [f"{text.strip()}\n" for text in module.params["pem"]]
    elif certificate.get("mode") == "self-signed" and installed:
        found = examined(certificate)
        if found and found["until"] - time.time() > _RENEW_DAYS * tls.DAY:
            return {}
        texts = tls.make(certificate["names"], folder=nginx.SCRATCH)
    else:
        return {}
    return dict(zip((certificate["certificate"], certificate["key"]), texts, strict=True))


def with_stand_in(module, files):
    """Return the files for a test before there is a certificate: nginx refuses a site without one."""
    certificate, key = module.params["tls"]["certificate"], module.params["tls"]["key"]
    there = [f"{nginx.FOLDER}/websockets/stand-in{ending}" for ending in (".crt", nginx.KEY)]
    path = module.params["site_file"]
    site = files[path].replace(f" {certificate};", f" {there[0]};").replace(f" {key};", f" {there[1]};")
    return {**files, path: site, **dict(zip(there, tls.make(["localhost"], folder=nginx.SCRATCH), strict=True))}


def certify(module, found):
    """Get or renew the certificate from the authority if it is time; return whether there is a new one.

    nginx has to answer the authority's questions, which it does beside what it serves now.
    """
    certificate, app = module.params["tls"], module.params["release"]["app"]
    path = module.params["site_file"]
    names, directory = certificate["names"], certificate["directory"]
    if found:
        try:
            acme.request(app, names, directory, certificate["email"])
        except acme.AcmeError as error:
            until = time.strftime("%Y-%m-%d", time.localtime(found["until"]))
            module.warn(f"The certificate of {app} ends on {until}, and cannot be renewed. certbot says:\n{error}")
            return False
        return True
    was = nginx.read(path)
    meanwhile = acme.answering(was, module.params["files"][path], module.params["plain"])
    try:
        if meanwhile != was:
            nginx.test({path: meanwhile})
            nginx.apply({path: meanwhile})
        acme.request(app, names, directory, certificate["email"])
    except (acme.AcmeError, nginx.NginxError) as error:
        if nginx.read(path) != was:
            nginx.apply({path: was})
        raise acme.AcmeError(
            f"There is no certificate for {', '.join(names)} from {directory}. What served before serves, and the next"
            f" run asks again. {error}"
        ) from None
    return True


def wanted(module, installed):
    """Return {path: text} of the files that differ, and the same as they are now."""
    main = nginx.read(nginx.MAIN)
    files = {**module.params["files"], **pair(module, installed)}
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
            "site_file": {"type": "path", "required": True},
            "tls": {"type": "dict", "required": True},
            "pem": {"type": "list", "elements": "str", "required": True, "no_log": True},
            "plain": {"type": "str", "required": True},
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
    # On a host that has nothing installed yet, a check has nothing to ask.
    tools = ["nginx", *(["openssl"] if module.params["tls"] else [])]
    installed = nginx.read(nginx.MAIN) is not None and all(map(shutil.which, tools))
    try:
        files, before = wanted(module, installed)
    except tls.CertificateError as error:
        fail(module, release, releases.live(release["base"]), str(error))
    live, old = release["live"], releases.live(release["base"])
    swap = old != release["id"]
    diff = [
        {"before_header": path, "after_header": path, "before": before[path] or "", "after": text}
        if not path.endswith(nginx.KEY)
        else {"before_header": path, "after_header": path, "before": "", "after": "(a private key)\n"}
        for path, text in files.items()
    ]
    certificate, found, due = module.params["tls"], {}, False
    if certificate.get("mode") == "acme":
        found = examined(certificate) if acme.authority(release["app"]) == certificate["directory"] else {}
        due = not found or tls.ends_soon(found)
        if due:
            path = certificate["certificate"]
            after = f"from {certificate['directory']}\n"
            diff.append({"before_header": path, "after_header": path, "before": "", "after": after})
    if swap:
        was, will_be = (f"{old}\n" if old else ""), f"{release['id']}\n"
        diff.append({"before_header": live, "after_header": live, "before": was, "after": will_be})
    try:
        if files and installed:
            lacking = certificate.get("mode") == "acme" and not tls.first(certificate["certificate"])
            words = nginx.test(with_stand_in(module, {**module.params["files"], **files}) if lacking else files)
            if conflict(words, module.params["probe"]["host"]):
                raise nginx.NginxError(conflict(words, module.params["probe"]["host"]))
    except (nginx.NginxError, tls.CertificateError) as error:
        fail(module, release, old, f"nginx refuses the new configuration; the working one is untouched:\n{error}")
    # Somebody has put another certificate there: nginx has the one that it read.
    known = tls.first(certificate["certificate"]) if certificate else None
    probe = module.params["probe"]
    first = handshake.PROXY if probe["proxy_protocol"] else b""
    shown = tls.shown(module.params["address"], probe["host"], first) if known else None
    stale = bool(shown) and shown != known
    if module.check_mode:
        module.exit_json(changed=bool(files) or swap or stale or due, diff=diff)
    if nginx.MAIN in files:
        module.backup_local(nginx.MAIN)
    try:
        if due:
            stale |= certify(module, found)
    except acme.AcmeError as error:
        fail(module, release, old, str(error))
    try:
        reloaded = nginx.apply(files, stale)
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
