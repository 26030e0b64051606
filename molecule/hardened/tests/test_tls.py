"""TLS as testssl.sh sees it: nothing above informational, and what Mozilla's guideline says."""

import concurrent.futures
import json
import os
import pathlib

import pytest
import yaml

# It looks at both hosts: it has the newer testssl.sh.
testinfra_hosts = ["ansible://debian13"]

HOSTS = {"debian12": "debian-12", "debian13": "debian-13"}  # as __websockets_platforms calls them
VARS = pathlib.Path(__file__).parents[3] / "roles/websockets/vars/main.yml"
EXCUSED = {
    "DNS_CAArecord": "the name is in no DNS",
    "HTTP_status_code": "426 is the answer to who asks for no WebSocket",
    "engine_problem": "its own OpenSSL has no GOST",
    "sessionresumption_ticket": "there are no tickets that it could try",
}


@pytest.fixture(scope="module")
def reports(host, address, other):
    """Return {host: {what: finding}}."""
    authority = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "ca.pem").read_text()
    host.check_output("echo %s >/root/ca.pem", authority)
    addresses = {"debian12": other.check_output("hostname -I").split()[0], "debian13": address}

    def scan(name):
        # Protocols, ciphers that keep old secrets, the certificate, the answer's headers, known holes.
        options = "--overwrite --warnings off --add-ca /root/ca.pem -p -f -S -h -U"
        # Its return code counts findings.
        host.run(f"testssl {options} --ip {addresses[name]} --jsonfile /root/{name}.json https://ws.example.test/")
        return {found["id"]: found for found in json.loads(host.file(f"/root/{name}.json").content_string)}

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return dict(zip(HOSTS, pool.map(scan, HOSTS), strict=True))


@pytest.mark.parametrize("target", HOSTS)
def test_nothing_is_found(reports, target):
    assert {"TLS1_3", "FS", "HSTS_time", "RC4"} < set(reports[target]), "not all of it has been tried"
    assert reports[target]["cert_chain_of_trust"]["finding"] == "passed."
    worse = {what: found for what, found in reports[target].items() if found["severity"] not in ("OK", "INFO")}
    assert {what: found["finding"] for what, found in worse.items() if what not in EXCUSED} == {}


@pytest.mark.parametrize("target", HOSTS)
def test_ciphers_and_groups_are_those_of_the_guideline(reports, target):
    known = yaml.safe_load(VARS.read_text())

    def offered(*whats):
        return set(" ".join(reports[target][what]["finding"] for what in whats if what in reports[target]).split())

    # Of those for a certificate with an elliptic curve, as this one; TLS 1.3 has its own.
    ciphers = {cipher for cipher in known["__websockets_guideline"]["ciphers"] if "RSA" not in cipher}
    assert {cipher for cipher in offered("FS_ciphers") if not cipher.startswith("TLS_")} == ciphers
    groups = known["__websockets_platforms"][HOSTS[target]]["tls_groups"]
    assert offered("FS_ECDHE_curves", "FS_KEMs") == set(groups)
