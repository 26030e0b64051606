"""Certificates from an ACME authority, by the distribution's certbot, whose timer renews them.

The authority asks over HTTP (HTTP-01), and nginx answers from :data:`paths.WEBROOT`.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable

from . import paths
from .site import Server, Site


class AcmeError(Exception):
    """There is no certificate; the message has certbot's own words."""


def authority(app: str) -> str:
    """Return the directory of the authority that the app's certificate is from, empty if there is none."""
    try:
        with open(paths.acme_renewal(app), encoding="utf-8") as file:
            found = re.search(r"(?m)^server\s*=\s*(\S+)", file.read())
    except FileNotFoundError:
        return ""
    return found[1] if found else ""


def request(app: str, names: Iterable[str], directory: str, email: str) -> None:
    """Have certbot get a certificate, new or instead of the one that there is.

    What is asked here is what certbot's timer repeats; after each success nginx reads the new one.
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
    """Remove an app's certificate and its renewal, if there is one."""
    if authority(app):
        _certbot(["delete", "--non-interactive", "--cert-name", paths.lineage(app)])


def _certbot(arguments: list[str]) -> None:
    try:
        done = subprocess.run(
            ["certbot", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise AcmeError(f"certbot: {error.strerror}") from None
    if done.returncode:
        words = [line for line in (done.stdout + done.stderr).splitlines() if line and not line.startswith("Saving")]
        raise AcmeError("\n".join(words[-15:]))


def answering(site: Site | None, text: str, plain: Server, server: str, location: str) -> str:
    """Return the text of the app's site as it is, answering the authority too.

    nginx has to answer before there is a certificate, and the new site cannot be served before that.

    :param site: the site that serves now, None if there is none
    :param text: the text of its file
    :param plain: the new site's server for plain HTTP
    :param server: its text
    :param location: the location in it that has the answer
    """
    there = [server for server in site.servers if server.listen == plain.listen and server.names] if site else []
    if not there or there[0].head() not in text:
        return f"{text}\n{server}"
    answer = "" if location in text else f"\n{location}"
    return text.replace(there[0].head(), there[0].head(plain.names) + answer, 1)
