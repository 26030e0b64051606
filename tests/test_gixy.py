"""nginx's configuration as gixy judges it: no finding, however small, in what the role writes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.websockets.deploy.plugins.module_utils import nginx, paths
from role import nginx_files, plan


def findings(folder, **inputs):
    """Return what gixy finds in a host's whole configuration, as far as it is the role's."""
    planned = plan(**inputs)
    for path, text in nginx_files(planned, folder).items():
        Path(path).write_text(text)
    sizes = planned["sizes"]
    main = Path(paths.NGINX_MAIN)
    main.write_text(nginx.tune(main.read_text(), sizes["worker_connections"], sizes["nginx_nofile"]))
    # HSTS is a promise that only the name's owner can make (docs/security.md); who gets no answer gets no header either.
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
