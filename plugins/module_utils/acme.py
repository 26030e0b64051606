"""Certificates that certbot gets from an ACME authority. The timer of certbot's package renews them.

The authority asks over HTTP (HTTP-01), and nginx answers from :data:`paths.WEBROOT`.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Sequence

from . import paths
from .site import Server, Site


class AcmeError(Exception):
    """certbot has failed; the message is its output."""


def authority(app: str) -> str:
    """Return the URL of the ACME directory that the app's certificate is from; empty if certbot has no certificate."""
    try:
        with open(paths.acme_renewal(app), encoding="utf-8") as file:
            found = re.search(r"(?m)^server\s*=\s*(\S+)", file.read())
    except FileNotFoundError:
        return ""
    return found[1] if found else ""


def request(app: str, names: Iterable[str], directory: str, email: str) -> None:
    """Have certbot get a new certificate, also if it has one already.

    certbot's timer repeats the request with the same arguments. After each success certbot has nginx read the new
    certificate.

    :param names: host names that it has to cover
    :param directory: URL of the authority's ACME directory
    :param email: address that the authority may write to; empty for none
    :raises AcmeError: if certbot fails
    """
    os.makedirs(paths.WEBROOT, exist_ok=True)
    os.chmod(paths.WEBROOT, 0o755)  # nginx's workers read the answers, whatever the umask was
    arguments = ["certonly", "--non-interactive", "--agree-tos", "--webroot", "--webroot-path", paths.WEBROOT]
    arguments += [
        "--server",
        directory,
        "--cert-name",
        paths.lineage(app),
        "--renew-with-new-domains",
        "--force-renewal",
    ]
    arguments += ["--email", email] if email else ["--register-unsafely-without-email"]
    arguments += ["--deploy-hook", "nginx -s reload"]
    _certbot([*arguments, *(word for name in names for word in ("--domain", name))])


def forget(app: str) -> None:
    """Have certbot remove an app's certificate and its renewal; do nothing if it has none.

    :raises AcmeError: if certbot fails
    """
    if authority(app):
        _certbot(["delete", "--non-interactive", "--cert-name", paths.lineage(app)])


def _certbot(arguments: list[str]) -> None:
    try:
        done = subprocess.run(
            ["certbot", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise AcmeError(f"certbot cannot be started: {error.strerror}") from None
    if done.returncode:
        words = [line for line in (done.stdout + done.stderr).splitlines() if line and not line.startswith("Saving")]
        raise AcmeError("\n".join(words[-15:]))


def answering(site: Site | None, text: str, plain: Sequence[Server], server: str, location: str) -> str:
    """Return the text of the app's present site with the answer to the authority added.

    nginx has to answer the authority first: it cannot serve the new site without the certificate.

    :param site: the site that nginx serves now, None if it serves none
    :param text: the text of its file
    :param plain: the new site's server for plain HTTP, at each of its addresses
    :param server: the text of that server
    :param location: the location of that server with the answer
    """
    if server in text:
        return text
    there = {server.listen: server.directive for server in site.servers if server.names} if site else {}
    shared = [there[new.listen] for new in plain if new.listen in there]
    for directive in shared:
        line = re.escape(f"    listen {directive};\n")
        head = re.search(rf"(?m)^{line}(?:    listen .+\n)*    server_name (?P<names>.+);\n", text)
        if not head:
            return f"{text}\n{server}"
        before, rest = text[: head.start()], text[head.end() :]
        names = " ".join(dict.fromkeys([*head["names"].split(), *plain[0].names]))
        answer = "" if location in rest.split("\nserver {")[0] else f"\n{location}"
        text = f"{before}{head[0].replace(head['names'], names)}{answer}{rest}"
    # At an address where nginx serves the names already, it ignores them here, and the authority gets its answer there.
    return text if len(shared) == len(plain) else f"{text}\n{server}"
