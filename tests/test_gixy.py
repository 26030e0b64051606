"""gixy reads nginx's configuration, and finds nothing in the role's files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.websockets.deploy.plugins.module_utils import nginx, paths
from role import nginx_files, plan


def findings(folder, **inputs):
    """Return gixy's findings in the role's part of a host's whole configuration."""
    planned = plan(**inputs)
    for path, text in nginx_files(planned, folder).items():
        Path(path).write_text(text)
    sizes = planned["sizes"]
    main = Path(paths.NGINX_MAIN)
    main.write_text(nginx.tune(main.read_text(), sizes["worker_connections"], sizes["nginx_nofile"]))
    # HSTS is for the owner of the host name to set (docs/security.md), and a server that does not answer sends no header.
    command = [sys.executable, "-m", "gixy", "--format", "json", "--skips", "hsts_header", main]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [issue for issue in json.loads(done.stdout) if "websockets" in json.dumps(issue)]


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {
            "listen": "80",
            "tls": "none",
            "server_name": ["*.example.com", "ws.example.com"],
            "origins": ["https://a.example"],
        },
        {"listen": "443", "tls": "self-signed", "server_name": ["ws.example.com", "192.0.2.1"], "hsts": 63072000},
        {
            "listen": "443",
            "tls": "acme",
            "server_name": ["ws.example.com"],
            "trusted_proxies": ["10.0.0.0/8", "2001:db8::/32"],
            "proxy_protocol": True,
            "auth_request": "http://127.0.0.1:9000/auth",
        },
        {"trusted_proxies": ["10.0.0.0/8"], "origins": ["*"]},
    ],
)
def test_nothing_is_found(nginx_folder, inputs):
    assert findings(nginx_folder, **inputs) == []


def test_something_would_be_found(nginx_folder):
    (nginx_folder / "conf.d" / "websockets-other.conf").write_text(
        "server { listen 81; server_tokens on; location ~ /p/(.*) { proxy_pass http://$1; } }\n"
    )
    assert findings(nginx_folder)
