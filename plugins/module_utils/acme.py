"""Certificates from an ACME authority, by the distribution's certbot, whose timer renews them.

The authority asks over HTTP (HTTP-01), and nginx answers from :data:`WEBROOT`.
"""

from __future__ import annotations

import os
import re
import subprocess

WEBROOT = "/var/lib/websockets-acme"
FOLDER = "/etc/letsencrypt"


class AcmeError(Exception):
    """There is no certificate; the message has certbot's own words."""


def lineage(app):
    """Return what certbot calls the certificate of an app."""
    return f"websockets-{app}"


def authority(app):
    """Return the directory of the authority that the app's certificate is from, empty if there is none."""
    try:
        with open(f"{FOLDER}/renewal/{lineage(app)}.conf", encoding="utf-8") as file:
            found = re.search(r"(?m)^server\s*=\s*(\S+)", file.read())
    except FileNotFoundError:
        return ""
    return found[1] if found else ""


def request(app, names, directory, email):
    """Have certbot get a certificate, new or instead of the one that there is.

    What is asked here is what certbot's timer repeats; after each success nginx reads the new one.
    """
    os.makedirs(WEBROOT, exist_ok=True)
    os.chmod(WEBROOT, 0o755)  # nginx's workers read the answers, whatever the umask was
    arguments = ["certonly", "--non-interactive", "--agree-tos", "--webroot", "--webroot-path", WEBROOT]
    arguments += ["--server", directory, "--cert-name", lineage(app), "--renew-with-new-domains", "--force-renewal"]
    arguments += ["--email", email] if email else ["--register-unsafely-without-email"]
    arguments += ["--deploy-hook", "nginx -s reload"]
    _certbot([*arguments, *(word for name in names for word in ("--domain", name))])


def forget(app):
    """Remove an app's certificate and its renewal, if there is one."""
    if authority(app):
        _certbot(["delete", "--non-interactive", "--cert-name", lineage(app)])


def _certbot(arguments):
    try:
        done = subprocess.run(
            ["certbot", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise AcmeError(f"certbot: {error.strerror}") from None
    if done.returncode:
        words = [line for line in (done.stdout + done.stderr).splitlines() if line and not line.startswith("Saving")]
        raise AcmeError("\n".join(words[-15:]))


def answering(site, new_site, listen):
    """Return the app's site as it is, answering the authority too; ``new_site`` is the one that it will be.

    nginx has to answer before there is a certificate, and the new site cannot be served before that.

    :param site: the text that serves now, None if there is none
    :param listen: where the new site listens for plain HTTP
    """
    blocks = re.findall(r"(?ms)^server \{\n.*?^\}\n", new_site)
    (plain,) = [block for block in blocks if "/.well-known/acme-challenge/" in block]
    location = re.search(r"(?ms)^    location \^~ /\.well-known/acme-challenge/ \{.*?^    \}\n", plain)[0]
    names = re.search(r"(?m)^    server_name (.*);$", plain)[1].split()
    there = re.search(
        rf"(?m)^    listen {re.escape(listen)}(?P<options>(?: [^;]*)?);\n    server_name (?P<names>.*);\n", site or ""
    )
    if not there:
        return (site or "") + "\n" + plain
    every = " ".join(dict.fromkeys([*there["names"].split(), *names]))
    answer = "" if location in site else f"\n{location}"
    head = f"    listen {listen}{there['options']};\n    server_name {every};\n{answer}"
    return site[: there.start()] + head + site[there.end() :]
