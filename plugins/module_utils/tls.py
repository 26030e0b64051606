"""Certificates: OpenSSL checks them, makes self-signed ones, and reads the certificate that nginx shows.

It needs only the standard library: it runs on the host, and on the control node for a certificate from the inputs.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import paths

DAY = 86400
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.S)
_KEY = re.compile(r"-----BEGIN ([A-Z]+ )?PRIVATE KEY-----")
_ENCRYPTED = re.compile(r"-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED", re.M)
_REQUEST = """
[req]
prompt = no
distinguished_name = name
x509_extensions = extensions
[name]
CN = {names[0]:.64}
[extensions]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
extendedKeyUsage = serverAuth
subjectAltName = {alternatives}
"""


@dataclass(frozen=True)
class Validity:
    """When a certificate on the host is valid, and what is wrong with it.

    :param since: when it begins, in seconds since the epoch; 0 if there is none yet
    :param until: when it ends, in seconds since the epoch
    :param about: ``certificate`` or ``key``: which of them has the problem
    :param problem: why nginx cannot use it, empty if it can
    """

    since: int = 0
    until: int = 0
    about: str = ""
    problem: str = ""


class CertificateError(Exception):
    """nginx cannot use a certificate or its key. ``about`` is ``certificate`` or ``key``; the message says why."""

    def __init__(self, about: str, why: str) -> None:
        super().__init__(why)
        self.about = about


def examine(certificate: str, key: str, names: Sequence[str]) -> Validity:
    """Return when a certificate begins and ends.

    A TLS client that trusts only the last certificate of the chain connects to a server with this certificate and key.
    So OpenSSL says whether certificate and key belong together, whether the chain is whole, is valid now, and covers the
    names.

    :param certificate: path of the certificate and its chain, PEM
    :param key: path of its key, PEM
    :param names: host names that it has to cover; with an empty list, any certificate does
    :raises CertificateError: if nginx or a client could not use it
    """
    chain = _CERTIFICATE.findall(_read(certificate, "certificate"))
    if not chain:
        raise CertificateError("certificate", "it has no certificate in PEM (-----BEGIN CERTIFICATE-----).")
    text = _read(key, "key")
    if _ENCRYPTED.search(text):
        raise CertificateError("key", "it has a passphrase, which nginx cannot ask for at boot; remove the passphrase.")
    if not _KEY.search(text):
        raise CertificateError("key", "it has no private key in PEM (-----BEGIN PRIVATE KEY-----).")
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        server.load_cert_chain(certificate, key, password=lambda: b"")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CertificateError("key", "it is not the key of the first certificate.") from None
        raise CertificateError("certificate", f"OpenSSL cannot use it with its key: {error.reason}.") from None
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.hostname_checks_common_name = False  # browsers ignore the common name too
    try:
        client.load_verify_locations(cadata=chain[-1])
        client.check_hostname = bool(names)
        found = [_introduce(server, client, name) for name in (names or (None,))]
    except ssl.SSLCertVerificationError as error:
        raise CertificateError("certificate", f"{error.verify_message.rstrip('.')}.") from None
    except ssl.SSLError as error:
        raise CertificateError("certificate", f"OpenSSL cannot use it: {error.reason}.") from None
    since, until = (int(ssl.cert_time_to_seconds(found[0][entry])) for entry in ("notBefore", "notAfter"))
    return Validity(since=since, until=until)


def ends_soon(found: Validity, now: float | None = None) -> bool:
    """Tell whether a certificate should have been renewed: it has less than 14 days and a quarter of its life left.

    certbot renews it earlier, at a third of its life or at 30 days.

    :param now: seconds since the epoch, the present by default
    """
    left = found.until - (time.time() if now is None else now)
    return left < min(14 * DAY, (found.until - found.since) / 4)


def _introduce(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None) -> dict[str, Any]:
    """Make a TLS handshake of a server and a client in memory; return the certificate that the client has verified."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(ends)
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
    return ends[0].getpeercert() or {}


def _read(path: str, about: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError as error:
        raise CertificateError(about, f"it cannot be read on the host ({error.strerror}).") from None


def first(path: str) -> bytes | None:
    """Return the first certificate of a file, which a server shows, as DER; None if the file has none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            chain = _CERTIFICATE.findall(file.read())
    except OSError:
        return None
    return ssl.PEM_cert_to_DER_cert(chain[0]) if chain else None


def context() -> ssl.SSLContext:
    """Return a client's context that accepts any certificate; the caller compares it with the certificate that it expects."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made


def shown(address: Sequence[Any], name: str, before: bytes = b"", timeout: float = 5.0) -> bytes | None:
    """Return the certificate that a server shows for a name, as DER; None if it shows none.

    :param address: (address, port) of the server
    :param name: server name in the TLS handshake
    :param before: bytes that the server expects before TLS, such as the PROXY protocol's
    :param timeout: seconds
    """
    try:
        plain = socket.create_connection((address[0], address[1]), timeout)
        plain.sendall(before)
        with plain, context().wrap_socket(plain, server_hostname=name) as connection:
            return connection.getpeercert(binary_form=True)
    except OSError:
        return None


def make(names: Sequence[str], days: int = 365) -> tuple[str, str]:
    """Return a new self-signed certificate for these names, and its key, as PEM.

    :param names: host names and IP addresses
    :param days: days for which it is valid
    :raises CertificateError: if openssl fails
    """
    alternatives = ", ".join(f"{'IP' if _is_address(name) else 'DNS'}:{name}" for name in names)
    with tempfile.TemporaryDirectory(prefix="websockets-tls-", dir=paths.SCRATCH) as scratch:
        request, key = (os.path.join(scratch, name) for name in ("request", "key"))
        with open(request, "w", encoding="utf-8") as file:
            file.write(_REQUEST.format(names=names, alternatives=alternatives))
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        command = ["openssl", "req", "-x509", "-config", request, *curve, "-noenc", "-keyout", key, "-days", str(days)]
        try:
            made = subprocess.run(command, capture_output=True, text=True, errors="replace", check=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            words = getattr(error, "stderr", "") or str(error)
            raise CertificateError("certificate", f"openssl cannot make a certificate: {words.strip()}") from None
        with open(key, encoding="utf-8") as file:
            return made, file.read()


def _is_address(name: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, name)
            return True
        except OSError:
            continue
    return False
