"""A certificate from an authority: got, renewed under a client's feet, and what happens without the authority."""

import datetime
import hashlib
import http.client
import pathlib
import re
import socket
import ssl
import sys
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.exceptions import InvalidHandshake

sys.path.append(str(pathlib.Path(__file__).parents[3] / "tests"))
from talk import connected

NAME = "ws.example.test"
LIVE = "/etc/letsencrypt/live/websockets-echo"


@pytest.fixture(scope="module")
def address(host):
    return host.check_output("hostname -I").split()[0]


@pytest.fixture(scope="module")
def trust(host):
    """What a client has that trusts this authority, and nobody else."""
    read = "import urllib.request as r; print(r.urlopen('https://ca.example.test:15000/roots/0').read().decode())"
    root = host.check_output(f'SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt python3 -c "{read}"')
    return ssl.create_default_context(cadata=root)


@pytest.fixture
def open_websocket(address, trust):
    def run(name=NAME, context=trust):
        return connected(f"wss://{name}/", ssl=context, host=address)

    return run


def shown(address, name=NAME):
    """Return the fingerprint of the certificate that a client gets to see."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((address, 443)) as plain, context.wrap_socket(plain, server_hostname=name) as secure:
        return hashlib.sha256(secure.getpeercert(binary_form=True)).hexdigest()


def says(client, text):
    return client.echo(text) == text


def test_a_client_that_trusts_the_authority_comes_in(open_websocket):
    with open_websocket() as client:
        assert says(client, "hello")
        assert client.websocket.response.headers["Strict-Transport-Security"] == "max-age=63072000"


def test_only_root_reads_the_key(host):
    assert host.check_output(f"stat -Lc '%a %U' {LIVE}/privkey.pem") == "600 root"


def test_it_is_renewed_by_itself(host):
    assert host.service("certbot.timer").is_running
    assert host.service("certbot.timer").is_enabled
    assert "nginx -s reload" in host.file("/etc/letsencrypt/renewal/websockets-echo.conf").content_string


def test_a_renewal_does_not_cut_a_client(host, address, open_websocket, confined):
    assert confined(host.check_output("cat /run/nginx.pid"))
    before = shown(address)
    with open_websocket() as held:
        assert says(held, "before")
        # What the timer runs, without waiting for the last month.
        host.check_output("certbot -q renew --no-random-sleep-on-renew --force-renewal")
        deadline = time.monotonic() + 15
        while shown(address) == before:
            assert time.monotonic() < deadline, "nginx shows the old certificate"
            time.sleep(0.1)
        with open_websocket() as new:
            assert says(new, "after")
        assert says(held, "still here")


def test_names_that_nobody_has_get_no_answer(address):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        shown(address, "other.example.test")


def test_plain_http_leads_to_tls(address):
    plain = http.client.HTTPConnection(address, 80)
    plain.request("GET", "/a?b=c", headers={"Host": NAME})
    answer = plain.getresponse()
    assert (answer.status, answer.headers["Location"]) == (301, f"https://{NAME}/a?b=c")


def five_days_left(names):
    """Return a key and a certificate as an authority would have given it 85 days ago."""
    key, now, day = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC), datetime.timedelta(1)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "old")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - 85 * day, now + 5 * day)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False)
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    texts = (
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain),
        builder.sign(key, hashes.SHA256()).public_bytes(pem),
    )
    return [text.decode() for text in texts]


@pytest.fixture
def without_authority(host):
    """The name leads to where nobody listens: Pebble itself would forget its accounts if it ended."""
    hosts = host.file("/etc/hosts").content_string
    host.check_output(f"cat >/etc/hosts <<'END'\n{re.sub('(?m)^127.0.0.1 ca', '127.0.0.9 ca', hosts)}END")
    yield
    host.check_output(f"cat >/etc/hosts <<'END'\n{hosts}END")


def test_without_the_authority_it_goes_on_and_says_so(host, deploy, address, open_websocket, without_authority):
    """Another name needs another certificate."""
    before = shown(address)
    done = deploy(websockets_server_name=[NAME, "second.example.test"])
    assert done.returncode != 0
    assert (
        "There is no certificate for ws.example.test, second.example.test from https://ca.example.test:14000/dir"
        in done.stdout
    )
    assert "Connection refused" in done.stdout
    assert shown(address) == before
    with open_websocket() as websocket:
        assert says(websocket, "as before")
    # Nothing new is needed: it is deployed to as ever.
    assert deploy().returncode == 0


def test_the_next_run_asks_again(deploy, address, open_websocket):
    with open_websocket() as held:
        done = deploy(websockets_server_name=[NAME, "second.example.test"])
        assert done.returncode == 0, done.stdout
        with open_websocket("second.example.test") as websocket:
            assert says(websocket, "hello")
        assert says(held, "still here")
    assert re.search(r"changed=0 ", deploy(websockets_server_name=[NAME, "second.example.test"]).stdout)


def test_a_renewal_that_fails_is_told(host, play, deploy, address, without_authority):
    """The certificate ends in five days: certbot has failed for weeks."""
    for name, text in zip(("privkey", "fullchain"), five_days_left([NAME, "second.example.test"]), strict=True):
        host.check_output(f"cat >{LIVE}/{name}.pem <<'END'\n{text}END")
    status = play("status").stdout
    assert "CERTIFICATE: it should have been renewed by now" in status
    done = deploy(websockets_server_name=[NAME, "second.example.test"])
    assert done.returncode == 0, done.stdout
    assert re.search(r"The certificate of echo ends on \d{4}-\d\d-\d\d, and cannot be renewed\.", done.stdout)


def test_a_deploy_renews_what_the_timer_has_not(host, deploy, play, open_websocket):
    assert deploy().returncode == 0
    with open_websocket() as websocket:
        assert says(websocket, "hello")
    assert "CERTIFICATE:" not in play("status").stdout


def test_a_second_app_makes_its_own_certificate_on_the_same_port(host, deploy, address, open_websocket):
    second = {"websockets_app": "second", "websockets_server_name": ["second.example.test"]}
    second |= {"websockets_tls": "self-signed", "websockets_numprocs": 1}
    assert deploy(**second).returncode == 0
    assert re.search(r"changed=0 ", deploy(**second).stdout)
    assert host.check_output("stat -c '%a %U' /etc/nginx/websockets/second.key") == "600 root"
    context = ssl.create_default_context(cadata=host.file("/etc/nginx/websockets/second.crt").content_string)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    with open_websocket("second.example.test", context) as websocket:
        assert says(websocket, "hello")
    with pytest.raises((ssl.SSLError, InvalidHandshake)), open_websocket("second.example.test"):
        pass
    with open_websocket() as first:
        assert says(first, "hello")


def test_remove_takes_the_certificate_along(host, play):
    done = play("remove", app_to_remove="echo", websockets_drain_timeout=0)
    assert done.returncode == 0, done.stdout
    assert not host.file(LIVE).exists
    assert not host.file("/etc/letsencrypt/renewal/websockets-echo.conf").exists
