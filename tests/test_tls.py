"""Certificates: which ones the role accepts, which ones it makes, and how nginx serves them."""

import dataclasses
import datetime
import http.client
import json
import os
import re
import socket
import ssl
import stat
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.websockets.deploy.plugins.module_utils import acme, handshake, nginx, paths, recorded, tls
from ansible_collections.websockets.deploy.plugins.module_utils.probe import Probe
from ansible_collections.websockets.deploy.plugins.module_utils.record import from_dict
from ansible_collections.websockets.deploy.plugins.module_utils.site import Certificate, Site
from ansible_collections.websockets.deploy.plugins.module_utils.tls import Validity
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from role import challenge, load, plan, render
from talk import connected
from test_cutover import cut_over, cutover, port, remove, running_nginx, started  # noqa: F401  fixtures, and two modules

NAMES = ["a.example", "b.example"]
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def pem(key, password=None):
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, protection).decode()


def certificate(key, names=NAMES, since=NOW - DAY, until=NOW + 90 * DAY, issuer=None, alternatives=True, ca=False):
    """Return a certificate; ``issuer`` is (name, key), by default its own."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    by, signer = issuer or (subject, key)
    builder = x509.CertificateBuilder(by, subject, key.public_key(), 1, since, until)
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False)
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), True)
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


KEYS = {who: ec.generate_private_key(ec.SECP256R1()) for who in ("host", "middle", "root", "other")}
ROOT = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")])
MIDDLE = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "middle")])
MIDDLES = certificate(KEYS["middle"], ["middle"], issuer=(ROOT, KEYS["root"]), ca=True)
ISSUED = certificate(KEYS["host"], issuer=(MIDDLE, KEYS["middle"]))
OWN = certificate(KEYS["host"])


@pytest.fixture
def examine(tmp_path):
    def run(chain, key, names=NAMES):
        files = [tmp_path / "certificate", tmp_path / "key"]
        for path, text in zip(files, (chain, key), strict=True):
            if text is not None:
                path.write_text(text)
        return tls.examine(*map(str, files), names)

    return run


@pytest.mark.parametrize("chain", [OWN, ISSUED, ISSUED + MIDDLES], ids=["self-signed", "without chain", "with chain"])
def test_a_certificate_tells_when_it_ends(examine, chain):
    found = examine(chain, pem(KEYS["host"]))
    assert found == Validity(since=int((NOW - DAY).timestamp()), until=int((NOW + 90 * DAY).timestamp()))


def test_a_wildcard_covers_its_names(examine):
    examine(certificate(KEYS["host"], ["*.w.example"]), pem(KEYS["host"]), ["any.w.example"])


REFUSED = {
    "nothing there": (None, "", "certificate", "it cannot be read on the host (No such file or directory)."),
    "no certificate": (pem(KEYS["host"]), pem(KEYS["host"]), "certificate", "it has no certificate in PEM"),
    "no key": (OWN, OWN, "key", "it has no private key in PEM"),
    "key of another": (OWN, pem(KEYS["other"]), "key", "it is not the key of the first certificate."),
    "chain upside down": (MIDDLES + ISSUED, pem(KEYS["host"]), "key", "it is not the key of the first certificate."),
    "chain of another": (
        ISSUED + certificate(KEYS["other"], ["x"], ca=True),
        pem(KEYS["host"]),
        "certificate",
        "unable to get local issuer certificate.",
    ),
    "passphrase": (OWN, pem(KEYS["host"], b"secret"), "key", "it has a passphrase"),
    "expired": (
        certificate(KEYS["host"], until=NOW - DAY / 2),
        pem(KEYS["host"]),
        "certificate",
        "certificate has expired.",
    ),
    "not yet": (
        certificate(KEYS["host"], since=NOW + DAY),
        pem(KEYS["host"]),
        "certificate",
        "certificate is not yet valid.",
    ),
    "another name": (
        certificate(KEYS["host"], ["a.example", "c.example"]),
        pem(KEYS["host"]),
        "certificate",
        "Hostname mismatch, certificate is not valid for 'b.example'.",
    ),
    "name where no browser looks": (
        certificate(KEYS["host"], ["a.example"], alternatives=False),
        pem(KEYS["host"]),
        "certificate",
        "Hostname mismatch, certificate is not valid for 'a.example'.",
    ),
    "damaged": (
        OWN.replace(OWN[100:140], "A" * 40),
        pem(KEYS["host"]),
        "certificate",
        "OpenSSL cannot use it with its key",
    ),
}


@pytest.mark.parametrize(("chain", "key", "about", "words"), REFUSED.values(), ids=REFUSED)
def test_a_certificate_that_cannot_be_used(examine, chain, key, about, words):
    with pytest.raises(tls.CertificateError) as error:
        examine(chain, key)
    assert str(error.value).startswith(words)
    assert error.value.about == about


@pytest.mark.parametrize(("days", "left", "soon"), [(90, 13, True), (90, 15, False), (6, 1, True), (6, 2, False)])
def test_what_should_have_been_renewed(days, left, soon):
    assert tls.ends_soon(Validity(since=0, until=days * tls.DAY), now=(days - left) * tls.DAY) is soon


@pytest.mark.parametrize("names", [["a.example"], ["*.a.example", "b_1.example", "192.0.2.1"], ["a" * 63 + ".example"]])
def test_a_self_signed_certificate_is_one_for_its_names(examine, tmp_path, names, monkeypatch):
    monkeypatch.setattr(paths, "SCRATCH", str(tmp_path))
    made, key = tls.make(names)
    asked = [name.replace("*", "any") for name in names]
    found = examine(made, key, asked)
    assert found.until - found.since == 365 * tls.DAY
    assert sorted(os.listdir(tmp_path)) == ["certificate", "key"], "a key is left behind"


def test_the_host_refuses_a_key_that_everybody_can_read(tmp_path):
    observe = load("modules/observe")
    certificate_, key = (tmp_path / name for name in ("certificate", "key"))
    certificate_.write_text(OWN)
    key.write_text(pem(KEYS["host"]))
    wanted = Certificate("files", str(certificate_), str(key), NAMES)
    key.chmod(0o644)
    assert observe.validity(wanted) == Validity(
        about="key", problem="every user of the host can read it; set its mode to 0600."
    )
    key.chmod(0o640)
    assert observe.validity(wanted).until > NOW.timestamp()
    # The role itself makes or gets the others, so they cannot be wrong inputs.
    key.unlink()
    assert observe.validity(dataclasses.replace(wanted, mode="acme")) == Validity()


def test_status_tells_when_the_certificate_ends(nginx_folder, tmp_path):
    """It also does for a site without a record."""
    status = load("modules/status")
    given = {"tls_certificate": f"{tmp_path}/a.crt", "tls_key": f"{tmp_path}/a.key"}
    site = render("site.conf.j2", plan(tls="files", **given))
    (nginx_folder / "conf.d" / "websockets-echo.conf").write_text(site)
    Path(given["tls_key"]).write_text(pem(KEYS["host"]))
    for until, problem in ((NOW + 50 * DAY, ""), (NOW + 5 * DAY, "it should have been renewed by now")):
        Path(given["tls_certificate"]).write_text(certificate(KEYS["host"], since=NOW - 80 * DAY, until=until))
        seen = status.certificate("echo")
        assert (seen["path"], seen["problem"]) == (given["tls_certificate"], problem)
        assert seen["until"] == status.stamp(int(until.timestamp()))
    Path(given["tls_certificate"]).write_text(certificate(KEYS["host"], until=NOW - DAY / 2))
    assert status.certificate("echo")["problem"] == "certificate has expired."
    (nginx_folder / "conf.d" / "websockets-echo.conf").write_text(render("site.conf.j2", plan()))
    assert status.certificate("echo") == {}


# nginx


@pytest.fixture
def plain_port(free_port):
    return free_port()


@pytest.fixture
def secure(started, plain_port):  # noqa: F811
    """Start a release whose clients come by TLS."""
    return lambda number=1, **inputs: started(
        number,
        **{"tls": "self-signed", "server_name": ["localhost"], "listen_plain": f"127.0.0.1:{plain_port}", **inputs},
    )


def trusting(path):
    context = ssl.create_default_context(cafile=path)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def own_pair(folder):
    return [folder / "websockets" / f"echo{ending}" for ending in (".crt", ".key")]


def test_clients_come_by_tls(secure, cut_over, nginx_folder, port, plain_port):  # noqa: F811
    done = cut_over(secure(hsts=5))
    assert "failed" not in done, done
    path, key = own_pair(nginx_folder)
    assert (stat.S_IMODE(key.stat().st_mode), key.stat().st_uid) == (0o600, os.getuid())
    assert "PRIVATE KEY-----" not in json.dumps(done)
    url, context = f"wss://localhost:{port}/", trusting(path)
    with connected(url, ssl=context, host="127.0.0.1") as client:
        assert client.echo("hello") == "hello"
        assert client.websocket.response.headers["Strict-Transport-Security"] == "max-age=5"
        assert client.tls.version() == "TLSv1.3"
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with connected(url, ssl=context, host="127.0.0.1") as client:
        assert client.tls.cipher()[0].startswith("ECDHE-ECDSA-")
    # nginx redirects plain HTTP to TLS.
    plain = http.client.HTTPConnection("127.0.0.1", plain_port)
    plain.request("GET", "/a?b=c", headers={"Host": "localhost"})
    answer = plain.getresponse()
    assert (answer.status, answer.headers["Location"]) == (301, f"https://localhost:{port}/a?b=c")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_old_versions_of_tls_are_refused(secure, cut_over, port):  # noqa: F811
    cut_over(secure())
    context = tls.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", port)) as plain, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(plain, server_hostname="localhost")


def test_names_that_no_site_has_get_no_answer(secure, cut_over, port, plain_port):  # noqa: F811
    cut_over(secure())
    assert tls.shown(("127.0.0.1", port), "localhost")
    assert tls.shown(("127.0.0.1", port), "other.example") is None
    assert tls.shown(("127.0.0.1", port), None) is None
    with pytest.raises(handshake.HandshakeError, match="closed the connection without an answer"):
        handshake.ask(("127.0.0.1", plain_port), Probe(server_name="other.example"))


@pytest.mark.parametrize("names", [["localhost"], ["localhost", "127.0.0.1"]], ids=["names", "an address too"])
def test_names_that_no_site_has_get_no_answer_behind_the_handshake_of_another(secure, cut_over, port, names):  # noqa: F811
    cut_over(secure(server_name=names))
    with socket.create_connection(("127.0.0.1", port), 10) as plain:
        client = tls.context().wrap_socket(plain, server_hostname="localhost")
        client.sendall(b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n")
        assert client.recv(4096) == b""


def test_names_that_no_site_has_get_no_answer_without_tls(started, cut_over, port):  # noqa: F811
    cut_over(started(1))
    handshake.ask(("127.0.0.1", port), Probe())
    with pytest.raises(handshake.HandshakeError, match="closed the connection without an answer"):
        handshake.ask(("127.0.0.1", port), Probe(server_name="other.example"))


def test_the_app_hears_that_it_was_https(monkeypatch):
    """The app gets the same header at the gate and through nginx."""
    seen = []
    monkeypatch.setattr(handshake, "ask", lambda _address, _probe, headers: seen.append(headers))
    for inputs in ({"tls": "self-signed"}, {}):
        handshake.fault("a.sock", from_dict(Probe, plan(**inputs)["probe"]), {})
    assert [headers["X-Forwarded-Proto"] for headers in seen] == ["https", "http"]


def test_a_self_signed_certificate_is_kept_while_it_fits(secure, cut_over, nginx_folder):  # noqa: F811
    made = secure()
    cut_over(made)
    path, key = own_pair(nginx_folder)
    before = path.read_text(), key.read_text()
    assert cut_over(made)["changed"] is False
    assert (path.read_text(), key.read_text()) == before
    # It has another name, or ends soon.
    assert cut_over(secure(2, server_name=["localhost", "b.example"]))["changed"] is True
    assert path.read_text() != before[0]
    for text, place in zip(tls.make(made["site"]["certificate"]["names"], 80), (path, key), strict=True):
        place.write_text(text)
    with_few_days = path.read_text()
    assert cut_over(made, _ansible_check_mode=True)["changed"] is True
    assert path.read_text() == with_few_days
    assert cut_over(made)["changed"] is True
    assert path.read_text() != with_few_days


BUFFER = "    ssl_buffer_size 4k;\n"


def test_nginx_has_a_small_buffer_unless_it_may_send_files():
    assert BUFFER in render("site.conf.j2", plan(tls="self-signed"))
    for inputs in ({"nginx_locations": {"/static/": "/srv/static"}}, {"nginx_server": "ssl_buffer_size 8k;"}):
        assert BUFFER not in render("site.conf.j2", plan(tls="self-signed", **inputs))


def test_a_host_of_an_older_version_gets_the_small_buffer_with_the_next_release(secure, cut_over):  # noqa: F811
    made = secure()
    cut_over(made)
    site = Path(paths.site_file("echo"))
    whole = site.read_text()
    older = next(text for text in load("modules/cutover").earlier(whole) if BUFFER not in text)
    site.write_text(older)
    assert cut_over(made)["changed"] is False
    assert site.read_text() == older
    assert cut_over(secure(2))["changed"] is True
    assert site.read_text() == whole


def test_a_new_certificate_does_not_cut_a_client(secure, cut_over, nginx_folder, port):  # noqa: F811
    made = secure(tls="files", tls_certificate=f"{nginx_folder}/a.crt", tls_key=f"{nginx_folder}/a.key")
    for text, ending in zip(tls.make(["localhost"]), ("crt", "key"), strict=True):
        (nginx_folder / f"a.{ending}").write_text(text)
    cut_over(made)
    with connected(f"wss://localhost:{port}/", ssl=tls.context(), host="127.0.0.1") as client:
        # Another program renews the certificate without a reload of nginx.
        for text, ending in zip(tls.make(["localhost"]), ("crt", "key"), strict=True):
            (nginx_folder / f"a.{ending}").write_text(text)
        assert tls.shown(("127.0.0.1", port), "localhost") != tls.first(f"{nginx_folder}/a.crt")
        assert cut_over(made)["changed"] is True
        assert tls.shown(("127.0.0.1", port), "localhost") == tls.first(f"{nginx_folder}/a.crt")
        assert client.echo("still here") == "still here"
    assert cut_over(made)["changed"] is False


def test_a_new_certificate_is_noticed_behind_the_proxy_protocol(secure, cut_over, nginx_folder):  # noqa: F811
    given = {"tls_certificate": f"{nginx_folder}/a.crt", "tls_key": f"{nginx_folder}/a.key"}
    made = secure(tls="files", **given, proxy_protocol=True, trusted_proxies=["127.0.0.3"])
    for changed in (True, True, False):
        if changed:
            for text, path in zip(tls.make(["localhost"]), given.values(), strict=True):
                Path(path).write_text(text)
        assert cut_over(made)["changed"] is changed


def test_a_key_from_the_inputs_is_roots_alone_and_never_shown(secure, cut_over, nginx_folder, port):  # noqa: F811
    certificate_, key = tls.make(["localhost"])
    made = secure(tls="files", tls_certificate=certificate_, tls_key=key)
    checked = cut_over(made, pem=[certificate_, key], _ansible_check_mode=True)
    done = cut_over(made, pem=[certificate_, key])
    for shown in (json.dumps(checked), json.dumps(done), repr(made)):
        assert key.splitlines()[1] not in shown
    path, place = own_pair(nginx_folder)
    assert (path.read_text(), place.read_text()) == (certificate_, key)
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert tls.shown(("127.0.0.1", port), "localhost") == tls.first(path)
    assert cut_over(made, pem=[certificate_, key])["changed"] is False


def test_another_certificate_than_the_deployed_one_is_no_proof(secure, cut_over, nginx_folder, port, tmp_path):  # noqa: F811
    cut_over(secure())
    other = tmp_path / "other.crt"
    other.write_text(OWN)
    with pytest.raises(handshake.HandshakeError, match=f"shows another certificate than {other}"):
        handshake.ask(("127.0.0.1", port), Probe(certificate=str(other)))


def test_a_failed_proof_takes_the_certificate_back(secure, cut_over, nginx_folder):  # noqa: F811
    made = secure()
    done = cut_over(made, edit=lambda site: site.replace("proxy_set_header Upgrade $http_upgrade;", ""))
    assert done["failed"]
    assert not any(path.exists() for path in own_pair(nginx_folder))


def test_remove_takes_the_certificate_along(secure, cut_over, nginx_folder, capsys):  # noqa: F811
    made = secure()
    cut_over(made)
    arguments = {"run": made["run"], "site": made["site"]}
    with patch_module_args(arguments), pytest.raises(SystemExit):
        remove.main()
    assert "failed" not in json.loads(capsys.readouterr().out)
    gone = [*own_pair(nginx_folder), *(nginx_folder / "conf.d" / f"websockets{end}.conf" for end in ("-echo", ""))]
    assert not any(path.exists() for path in gone)


# An authority that cannot be reached; molecule/tls has a real one


@pytest.fixture
def authority(short_path, monkeypatch):
    """A certbot that cannot reach its authority, and records its arguments."""
    monkeypatch.setattr(paths, "LETSENCRYPT", f"{short_path}/letsencrypt")
    monkeypatch.setattr(paths, "WEBROOT", f"{short_path}/webroot")
    command = short_path / "bin" / "certbot"
    command.write_text(f'#!/bin/sh\necho "$@" >{short_path}/asked\necho Connection refused >&2\nexit 1\n')
    command.chmod(0o755)
    return short_path / "asked"


ACME = {"tls": "acme", "server_name": ["ws.example.com"], "acme_directory": "https://127.0.0.1:9/dir"}


def test_without_an_authority_the_old_site_still_serves(secure, started, cut_over, nginx_folder, authority, port):  # noqa: F811
    cut_over(started(1))
    site = nginx_folder / "conf.d" / "websockets-echo.conf"
    before = site.read_text()
    done = cut_over(secure(2, **ACME))
    assert done["msg"] == (
        "There is no certificate for ws.example.com from https://127.0.0.1:9/dir; nginx serves what it served before."
        " The next run asks again. Connection refused"
    )
    assert "--domain ws.example.com" in authority.read_text()
    assert site.read_text() == before
    handshake.ask(("127.0.0.1", port), Probe(message="hello"))


def test_a_check_does_not_ask_the_authority(secure, cut_over, authority):  # noqa: F811
    done = cut_over(secure(**ACME), _ansible_check_mode=True)
    assert done["changed"] is True
    assert "from https://127.0.0.1:9/dir\n" in [part["after"] for part in done["diff"]]
    assert not authority.exists()


@pytest.mark.parametrize(
    "before",
    [
        {"listen": "127.0.0.1:8081", "server_name": ["old.example"]},
        {"listen": "127.0.0.1:8443", "listen_plain": "127.0.0.1:8081", "tls": "self-signed"},
        {"listen": "127.0.0.1:8082"},
        None,
    ],
    ids=["plain HTTP at the same port", "redirect at the same port", "another port", "nothing"],
)
def test_the_site_that_serves_answers_the_authority_too(nginx_folder, before):
    new = plan(**{"listen": "127.0.0.1:8443", "listen_plain": "127.0.0.1:8081", **ACME})
    plain, texts = from_dict(Site, new["site"]).plain, challenge(new)
    old = render("site.conf.j2", plan(**before)) if before else ""
    site_file = nginx_folder / "conf.d" / "websockets-echo.conf"

    def answering(text):
        site_file.write_text(text)
        return acme.answering(recorded.site_of("echo"), text, plain, texts["server"], texts["location"])

    meanwhile = answering(old)
    assert meanwhile.count("acme-challenge") == 1
    server = next(text for text in meanwhile.split("\nserver {") if "acme-challenge" in text)
    assert "ws.example.com" in server
    if before and "server_name" in before:
        assert "old.example ws.example.com;" in server and "proxy_pass" in server
    assert answering(meanwhile) == meanwhile
    files = {f"{nginx_folder}/conf.d/websockets.conf": render("http.conf.j2", new), str(site_file): meanwhile}
    pair = tls.make(["localhost"])
    files |= {f"{nginx_folder}/websockets/echo{end}": text for end, text in zip((".crt", ".key"), pair, strict=True)}
    assert "[warn]" not in nginx.test(files)


def test_the_site_that_serves_answers_the_authority_at_each_address(nginx_folder):
    serving = {"listen": ["127.0.0.1:8081", "[::1]:8081"], "server_name": ["old.example"]}
    new = plan(
        **{"listen": "127.0.0.1:8443", "listen_plain": ["[::1]:8081", "127.0.0.1:8081", "127.0.0.1:8082"], **ACME}
    )
    site_file, text = nginx_folder / "conf.d" / "websockets-echo.conf", render("site.conf.j2", plan(**serving))

    def answering(text):
        site_file.write_text(text)
        plain, texts = from_dict(Site, new["site"]).plain, challenge(new)
        return acme.answering(recorded.site_of("echo"), text, plain, texts["server"], texts["location"])

    meanwhile = answering(text)
    servers = [part for part in meanwhile.split("\nserver {") if "acme-challenge" in part]
    assert [re.findall(r"(?m)^    listen (\S+)[; ]", part) for part in servers] == [
        ["127.0.0.1:8081", "[::1]:8081"],
        ["[::1]:8081", "127.0.0.1:8081", "127.0.0.1:8082"],
    ]
    assert "old.example ws.example.com;" in servers[0]
    assert answering(meanwhile) == meanwhile
    nginx.test({f"{nginx_folder}/conf.d/websockets.conf": render("http.conf.j2", new), str(site_file): meanwhile})
