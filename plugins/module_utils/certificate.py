"""The certificate of a site on its host: the role makes it, or gets and renews it, and has nginx read it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import acme, handshake, nginx, paths, recorded, tls
from . import release as releases
from .probe import Probe
from .record import readable
from .site import Certificate, Site
from .tls import Validity

# A deploy replaces a self-signed certificate that has fewer days left. Nothing else replaces it.
_RENEW_DAYS = 90


@dataclass(frozen=True)
class Challenge:
    """nginx's text that answers an authority: its server for plain HTTP, and the location of it with the answer."""

    server: str = ""
    location: str = ""


def examined(certificate: Certificate) -> Validity | None:
    """Return when the certificate begins and ends, None if nginx cannot use it."""
    try:
        return tls.examine(certificate.path, certificate.key, certificate.names)
    except tls.CertificateError:
        return None


def own_files(certificate: Certificate | None, pem: Sequence[str], installed: bool) -> dict[str, str]:
    """Return {path: text} of the certificate and its key if the role has to write them, otherwise an empty dictionary.

    :param pem: certificate and key as PEM text if the inputs have them, otherwise empty
    :param installed: whether the host has nginx and openssl; without them no self-signed certificate is made
    :raises tls.CertificateError: if openssl fails
    """
    if not certificate:
        return {}
    texts: Sequence[str]
    if pem:
        texts = [f"{text.strip()}\n" for text in pem]
    elif certificate.mode == "self-signed" and installed:
        if _lasts(certificate):
            return {}
        texts = tls.make(certificate.names)
    else:
        return {}
    return dict(zip((certificate.path, certificate.key), texts, strict=True))


def _lasts(certificate: Certificate) -> bool:
    """Tell whether a self-signed certificate is there and need not be made again yet."""
    found = examined(certificate)
    return found is not None and found.until - time.time() > _RENEW_DAYS * tls.DAY


def at_rest(site: Site, probe: Probe) -> bool:
    """Tell whether the site's certificate is there, and nginx shows it: then a cut-over would leave it alone.

    Only a cut-over gets a certificate's text from the inputs, so the answer for such a one is always no.
    """
    certificate = site.certificate
    if not certificate:
        return True
    if certificate.given or (certificate.mode == "self-signed" and not _lasts(certificate)):
        return False
    return due(site) is None and not stale(site, probe)


def to_come(certificate: Certificate | None) -> dict[str, str]:
    """Return {path: text} of a stand-in for a certificate that certbot has yet to get: nginx refuses a site without it."""
    if not certificate or certificate.mode != "acme" or tls.first(certificate.path):
        return {}
    return dict(zip((certificate.path, certificate.key), tls.make(["localhost"]), strict=True))


def due(site: Site) -> Validity | None:
    """Return the present certificate if certbot has to get a new one now, otherwise None.

    It is an empty :class:`Validity` if there is no certificate of this authority that nginx can use.
    """
    certificate = site.certificate
    if not certificate or certificate.mode != "acme":
        return None
    mine = acme.authority(site.app) == certificate.directory
    found = (examined(certificate) if mine else None) or Validity()
    return found if not found.until or tls.ends_soon(found) else None


def certify(module: Any, site: Site, found: Validity, challenge: Challenge) -> bool:
    """Get or renew the certificate; return whether there is a new one.

    Meanwhile nginx serves what it serves now, and answers the authority too.

    :param module: the module that warns of a renewal that has failed
    :param found: what :func:`due` has returned
    :raises acme.AcmeError: if the app has no certificate after that
    """
    certificate = site.certificate
    assert certificate
    asked = (site.app, certificate.names, certificate.directory, certificate.email)
    if found.until:
        try:
            acme.request(*asked)
        except acme.AcmeError as error:
            until = time.strftime("%Y-%m-%d", time.localtime(found.until))
            module.warn(f"The certificate of {site.app} ends on {until}, and cannot be renewed. certbot says:\n{error}")
            return False
        return True
    was = nginx.read(site.file)
    serving = recorded.site_of(site.app)
    meanwhile = acme.answering(serving, was or "", site.plain, challenge.server, challenge.location)
    try:
        if meanwhile != was:
            nginx.test({site.file: meanwhile})
            nginx.apply({site.file: meanwhile})
        acme.request(*asked)
    except (acme.AcmeError, nginx.NginxError) as error:
        if nginx.read(site.file) != was:
            nginx.apply({site.file: was})
        raise acme.AcmeError(
            f"There is no certificate for {', '.join(certificate.names)} from {certificate.directory};"
            f" {releases.still_serves(site.app)}. The next run asks again. {error}"
        ) from None
    return True


def stale(site: Site, probe: Probe) -> bool:
    """Tell whether nginx shows another certificate than its file has: then nginx has to be reloaded."""
    known = tls.first(site.certificate.path) if site.certificate else None
    if not known:
        return False
    before = handshake.PROXY if probe.proxy_protocol else b""
    shown = tls.shown(site.address, probe.server_name, before)
    return bool(shown) and shown != known


def diff(path: str, before: str | None, after: str | None) -> Mapping[str, str]:
    """Return the change of a file for Ansible's diff; of a private key, only that it changes; of a new file, its size."""
    if path.endswith(paths.KEY):
        before, after = "", "(a private key)\n"
    elif before is None and after:
        after = f"(a new file of {len(after.splitlines())} lines)\n"
    texts = {"before": readable(before or ""), "after": readable(after or "")}
    return {"before_header": path, "after_header": path, **texts}
