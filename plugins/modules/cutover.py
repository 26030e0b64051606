#!/usr/bin/python
"""Give a release the traffic, prove it through nginx, and take everything back if that fails."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cutover
short_description: Give a release the traffic
version_added: 1.0.0
description:
  - First, this module makes the certificate, or gets it from an ACME authority, if there has to be a new one.
  - It has nginx test its whole configuration with the new files, puts them in place, and reloads nginx if they differ.
  - Before a new release gets the traffic, each of its processes has to answer a handshake through a server of nginx's
    that no client reaches.
  - If the site has pages of the app's, it makes hard links to those of the release, which nginx's user can read.
  - It points the live link at the release's sockets by one rename, and proves the result by a handshake through nginx.
  - If any of these steps fails, it puts the files and the link back and stops the release.
  - This module is for the role P(websockets.deploy.websockets#role) itself; its options change without notice.
author: The authors of this repository (!UNKNOWN)
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - websockets.deploy.step
  - websockets.deploy.step.run
attributes:
  diff_mode:
    support: full
options:
  release:
    description: The release, as the action M(websockets.deploy.plan) returns it.
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
  site:
    description: The app's site, as the action M(websockets.deploy.plan) returns it.
    type: dict
    required: true
  pem:
    description: Certificate and key as PEM text, if the role's inputs have them; otherwise empty.
    type: list
    elements: str
    required: true
  challenge:
    description:
      - How nginx answers an ACME authority, as text. C(server) is its server for plain HTTP, C(location) the location in
        it that has the answer. Empty without an authority.
    type: dict
    required: true
  worker_connections:
    description: The smallest number that nginx's C(worker_connections) may have.
    type: int
    required: true
  probe:
    description: The proof's handshake, as the action M(websockets.deploy.plan) returns it.
    type: dict
    required: true
  proof_sources:
    description: Addresses of this host that the proof may come from.
    type: list
    elements: str
    required: true
  inputs:
    description:
      - The inputs to record for a later rollback or removal, as the action M(websockets.deploy.plan) returns them.
      - Without this option nothing is recorded, as in a rollback, which uses the record.
    type: dict
  replaces:
    description:
      - Name of the app in whose place this one comes, empty for none. nginx serves this app's site instead of that one's
        from one reload on.
    type: str
    default: ""
  headers:
    description:
      - Further headers of the proof's handshake. They may hold secrets.
      - Without this option they are those that the app's last deploy has recorded.
    type: dict
"""

EXAMPLES = r"""
---
- name: Give the release the traffic and prove it through nginx
  websockets.deploy.cutover:
    release: "{{ __websockets_release }}"
    run: "{{ __websockets_plan.run }}"
    rollback: false
    last: "{{ __websockets_plan.todo.drain | length == 0 }}"
    files:
      /etc/nginx/conf.d/websockets-echo.conf: "{{ lookup('ansible.builtin.template', 'site.conf.j2') }}"
    site: "{{ __websockets_plan.site }}"
    pem: []
    challenge: {}
    worker_connections: 9216
    probe: "{{ __websockets_plan.probe }}"
    proof_sources: [127.0.0.2, "::1"]
    headers: {}
"""

RETURN = r"""
---
milliseconds:
  description: How long the handshake through nginx took, at the slowest of its addresses. Not in check mode.
  returned: success
  type: float
  sample: 2.4
would:
  description: What the module would change, as words that go on from "this run would".
  returned: in check mode
  type: list
  elements: str
  sample: [give 5f2b41c09a7e the traffic]
"""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import acme, certificate, handshake, lock, nginx, pages, paths, recorded, sizing, tls
from ..module_utils import release as releases
from ..module_utils.probe import Probe
from ..module_utils.record import from_dict
from ..module_utils.release import Release
from ..module_utils.run import Run
from ..module_utils.site import Site
from ..module_utils.supervisor import Supervisor, SupervisorError


def prove(address: tuple[str, int], probe: Probe, attempts: int = 3, **further: Any) -> float:
    """Repeat the handshake until it succeeds, and return its seconds.

    Clients get the same answers meanwhile, so the attempts are few.

    :raises handshake.HandshakeError: if the last attempt fails
    """
    while True:
        attempts -= 1
        try:
            return handshake.ask(address, probe, **further)
        except handshake.HandshakeError as error:
            if not attempts:
                raise handshake.HandshakeError(f"{error}.\nnginx's error log ends:\n{nginx.last_errors()}") from None
            time.sleep(0.02)


def conflict(words: str, host: str) -> str:
    """Return nginx's warning that another site has this host name, empty if its output has none."""
    return next((line for line in words.splitlines() if f'conflicting server name "{host}"' in line), "")


# What leads from the site of one version of the role to that of the version before it, the newest first.
_EARLIER: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    # Until 1.1.0: no maintenance. bin/maintenance writes these lines itself where they are missing.
    (r'^    # Maintenance: .*\n    set \$websockets_maintenance "";\n(?:    .+\n)+\n', ""),
    # Nor a smaller buffer for TLS, a smaller pool, and buffers of whole pages.
    (r"^    # A connection keeps this buffer\. .*\n    ssl_buffer_size 4k;\n", ""),
    (r"^    # For all requests at this address, .*\n    request_pool_size 1k;\n\n", ""),
    (
        r"(?<=Memory is used as far as messages have filled it\.\n)"
        r"        proxy_buffer_size (\d+);\n        proxy_buffers 2 \1;\n        proxy_busy_buffers_size \1;\n",
        lambda lines: lines[0].replace(lines[1], str(-(-int(lines[1]) // sizing.PAGE) * sizing.PAGE)),
    ),
    # Until 1.0.0: what a client says about its way reached the app.
    (
        r'^ +proxy_set_header X-Forwarded-Port "";\n(?:(?: +proxy_set_header X-Forwarded-(?:Proto|Host) "";\n){2}'
        r' +proxy_set_header Forwarded "";\n)?',
        "",
    ),
)


def earlier(site: str) -> Iterator[str]:
    """Yield a site's text as each earlier version of the role would have written it."""
    for now, before in _EARLIER:
        site = re.sub(now, before, site, flags=re.M)
        yield site


# By this header nginx's server for the next release knows which process is asked.
PROCESS = "X-Websockets-Process"


class CutOver:
    """One cut-over: :meth:`compare` the files with the wanted ones, :meth:`test` and :meth:`apply` them."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module, given = module, module.params
        self.release = from_dict(Release, given["release"])
        self.site = from_dict(Site, given["site"])
        self.probe = from_dict(Probe, {**given["probe"], "timeout": min(given["probe"]["timeout"], 5)})
        self.old = releases.live_id(self.release.app)
        self.old_pages = pages.live_id(self.release.app)
        self.swap = self.old != self.release.id
        # In check mode the host may not have nginx or openssl yet.
        tools = ["nginx", *(["openssl"] if self.site.certificate else [])]
        self.installed = nginx.read(paths.NGINX_MAIN) is not None and all(map(shutil.which, tools))

    def compare(self) -> None:
        """Find the files that differ, and whether certbot has to get a certificate."""
        main, wanted = nginx.read(paths.NGINX_MAIN), dict(self.module.params["files"])
        try:
            wanted |= certificate.own_files(self.site.certificate, self.module.params["pem"], self.installed)
        except tls.CertificateError as error:
            self.fail(str(error))
        if main is not None:
            connections = self.module.params["worker_connections"]
            wanted = {
                paths.NGINX_MAIN: nginx.tune(main, connections, connections, recorded.shutdown(self.site)),
                **wanted,
            }
        there = {path: nginx.read(path) for path in wanted}
        if not self.swap:
            # Both come with the next release: a newer version of the role alone changes nothing.
            if there[self.release.next_file] is None:
                del wanted[self.release.next_file]
            if there[self.site.file] in [*earlier(wanted[self.site.file])]:
                wanted[self.site.file] = there[self.site.file]
        self.text, self.wanted = wanted[self.site.file], wanted
        self.gone = recorded.served_files(self.module.params["replaces"])
        self.files: nginx.Texts = {path: text for path, text in wanted.items() if there[path] != text}
        self.before = {**{path: there[path] for path in self.files}, **{path: nginx.read(path) for path in self.gone}}
        self.files |= self.gone
        self.due = certificate.due(self.site)

    def test(self) -> None:
        """Have nginx test the whole configuration with the new files."""
        if not self.files or not self.installed:
            return
        try:
            to_come = nginx.upstreams_to_come(self.wanted) if self.module.check_mode else {}
            words = nginx.test({**self.files, **to_come}, certificate.to_come(self.site.certificate))
            if found := conflict(words, self.probe.server_name):
                raise nginx.NginxError(found)
        except (nginx.NginxError, tls.CertificateError) as error:
            self.fail(f"nginx refuses the new configuration; the working one is untouched:\n{error}")

    def diff(self) -> list[Mapping[str, str]]:
        """Return the differences for ``--diff``."""
        found = [certificate.diff(path, self.before[path], text) for path, text in self.files.items()]
        if self.due and self.site.certificate:
            found.append(certificate.diff(self.site.certificate.path, "", f"from {self.site.certificate.directory}\n"))
        if self.swap:
            was = f"{self.old}\n" if self.old else ""
            found.append(certificate.diff(self.release.live_link, was, f"{self.release.id}\n"))
        return found

    def would(self, stale: bool) -> list[str]:
        """Return what :meth:`apply` would do, in words that go on from "this run would"."""
        words = []
        if self.due and self.site.certificate:
            names, directory = ", ".join(self.site.certificate.names), self.site.certificate.directory
            words.append(f"get a certificate for {names} from {directory}")
        if self.files:
            takes = f", remove {', '.join(self.gone)}," if self.gone else ""
            words.append(
                f"write {', '.join(path for path in self.files if path not in self.gone)}{takes} and reload nginx"
            )
        elif stale:
            words.append("reload nginx, which shows an older certificate than its file has")
        if not pages.in_place(self.site, self.release.id):
            served = ", ".join(page.source for page in self.site.pages.values())
            words.append(f"have nginx serve {served} of {self.release.id}")
        if self.swap:
            instead = f" instead of {self.old}" if self.old else ""
            words.append(f"give {self.release.id} the traffic{instead}, and prove it through nginx")
        return words

    def apply(self, stale: bool) -> tuple[bool, float]:
        """Put everything in place and prove it; return whether nginx serves anything else, and the seconds of the proof.

        :param stale: whether nginx has to be reloaded even if no file differs
        """
        given = self.module.params
        if paths.NGINX_MAIN in self.files:
            self.module.backup_local(paths.NGINX_MAIN)
        try:
            if self.due:
                challenge = from_dict(certificate.Challenge, given["challenge"])
                stale |= certificate.certify(self.module, self.site, self.due, challenge)
        except acme.AcmeError as error:
            self.fail(str(error))
        serves_pages = pages.in_place(self.site, self.release.id)
        self.publish()
        further = {"headers": given["headers"], "sources": given["proof_sources"]}
        at, seconds = self.site.addresses[0], 0.0
        try:
            if self.swap and self.gone:
                # Clients come to the new site with the reload, so what it serves is proved before.
                self.take_place(further)
            if not self.swap and not serves_pages:
                pages.point(self.release.app, self.release.id)
            reloaded = nginx.apply(self.files, stale)
            if self.swap and not self.gone:
                self.prove_next(further)
                self.turn()
            for at in self.site.addresses:
                seconds = max(seconds, prove(at, self.probe, **further))
        except (nginx.NginxError, handshake.HandshakeError, OSError) as error:
            self.take_back()
            self.fail(
                f"Release {self.release.id} does not answer through nginx at {':'.join(map(str, at))};"
                f" {self.untouched()} {error}"
            )
        recorded.write(self.site, self.text)
        if given["inputs"] is not None:
            recorded.write_inputs(self.site, given["inputs"], given["headers"])
        if self.swap:
            releases.went_live(self.release, None if given["rollback"] else self.old)
        return reloaded or not serves_pages, seconds

    def publish(self) -> None:
        """Make the pages of the release that nginx's user may read. Nothing serves them yet."""
        try:
            lacking = pages.publish(self.release, self.site.pages.values(), anew=self.swap)
        except OSError as error:
            self.fail(f"The pages of release {self.release.id} cannot be made. {self.untouched()} {error}")
        if lacking:
            lacks = f"Release {self.release.id} has no {' and no '.join(lacking)} (websockets_nginx_locations)"
            if not self.module.params["rollback"]:
                self.fail(f"{lacks}. {self.untouched()}")
            self.module.warn(f"{lacks}: nginx answers 404 there. The app goes back all the same.")

    def untouched(self) -> str:
        """Return what serves after a step has failed that had changed nothing."""
        return f"nginx's files and the live link are as before, and {releases.still_serves(self.release.app)}."

    def take_place(self, further: Mapping[str, Any]) -> None:
        """Make ready for the clients of the app in whose place this one comes: the proof before them, the link, maintenance.

        :raises handshake.HandshakeError: if a process does not answer
        :raises nginx.NginxError: if nginx refuses the server for that proof
        """
        following = {path: self.files[path] for path in self.files if path == self.release.next_file}
        nginx.test(following)
        nginx.apply(following)
        self.prove_next(further)
        if recorded.maintenance(self.module.params["replaces"]):
            nginx.write({paths.maintenance(self.release.app): ""})
        self.turn()

    def turn(self) -> None:
        """Point the links at the release."""
        # Two renames are not one. A page that a browser gets between them is as one that it got before the deploy.
        if self.site.pages:
            pages.point(self.release.app, self.release.id)
        releases.point(self.release.live_link, self.release.sockets)

    def prove_next(self, further: Mapping[str, Any]) -> None:
        """Prove each process of the release through nginx, before any client reaches it.

        :raises handshake.HandshakeError: if a process does not answer
        """
        releases.point(self.release.next_link, self.release.sockets)
        try:
            for process in self.release.processes:
                asked = {**further, "headers": {**further["headers"], PROCESS: process.name}}
                try:
                    prove(self.site.addresses[0], self.probe, host=self.release.next_host, **asked)
                except handshake.HandshakeError as error:
                    raise handshake.HandshakeError(f"{process.name} {error}") from None
        finally:
            os.unlink(self.release.next_link)

    def take_back(self) -> None:
        """Put the link and nginx's files back."""
        link = self.release.live_link
        if self.swap and self.old:
            releases.point(link, Release.of(self.release.app, self.old).sockets)
        if pages.live_id(self.release.app) != self.old_pages:
            pages.point(self.release.app, self.old_pages)
        nginx.apply({path: text for path, text in self.before.items() if text is not None or os.path.exists(path)})
        if self.swap and not self.old:
            for path in (link, paths.maintenance(self.release.app)):
                if os.path.lexists(path):
                    os.unlink(path)

    def fail(self, message: str) -> NoReturn:
        """Fail the module, and stop the release if it gets no traffic."""
        if self.swap and not self.module.check_mode:
            try:
                Supervisor().retire(self.release)
                releases.discard(self.release)
            except (SupervisorError, OSError) as error:
                self.module.warn(f"{self.release.program} could not be removed: {error}")
        self.module.fail_json(msg=message)
        raise AssertionError  # fail_json has ended the module


def main() -> None:
    module = AnsibleModule(
        {
            "release": {"type": "dict", "required": True},
            "run": {"type": "dict", "required": True},
            "rollback": {"type": "bool", "required": True},
            "last": {"type": "bool", "required": True},
            "files": {"type": "dict", "required": True},
            "site": {"type": "dict", "required": True},
            "pem": {"type": "list", "elements": "str", "required": True, "no_log": True},
            "challenge": {"type": "dict", "required": True},
            "worker_connections": {"type": "int", "required": True},
            "probe": {"type": "dict", "required": True},
            "proof_sources": {"type": "list", "elements": "str", "required": True},
            "inputs": {"type": "dict"},
            "headers": {"type": "dict", "no_log": True},
            "replaces": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    recorded.fill_headers(module, module.params["release"]["app"])
    with lock.hold(module):
        cut_over(module)


def cut_over(module: AnsibleModule) -> None:
    """Do one cut-over and exit the module; in check mode, only show what would change."""
    this = CutOver(module)
    this.compare()
    this.test()
    diff, stale = this.diff(), certificate.stale(this.site, this.probe)
    if module.check_mode:
        would = this.would(stale)
        module.exit_json(changed=bool(would), diff=diff, would=would)
    differs, seconds = this.apply(stale)
    if module.params["last"]:
        lock.end(from_dict(Run, module.params["run"]))
    module.exit_json(changed=differs or this.swap, diff=diff, milliseconds=round(seconds * 1000, 1))


if __name__ == "__main__":
    main()
