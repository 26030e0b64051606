"""nginx's configuration as gixy judges it: no finding, however small, in what the role writes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.module_utils.websockets import nginx
from role import nginx_files, plan


def findings(folder, **inputs):
    """Return what gixy finds in a host's whole configuration, as far as it is the role's."""
    planned = plan(**inputs)
    for path, text in nginx_files(planned, folder).items():
        Path(path).write_text(text)
    sizes = planned["sizes"]
    main = Path(nginx.MAIN)
    main.write_text(nginx.tune(main.read_text(), sizes["worker_connections"], sizes["nginx_nofile"]))
    command = [sys.executable, "-m", "gixy", "--format", "json", main]
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
    ],
)
def test_nothing_is_found(nginx_folder, inputs):
    assert findings(nginx_folder, **inputs) == []


def test_something_would_be_found(nginx_folder):
    (nginx_folder / "conf.d" / "websockets-other.conf").write_text(
        "server { listen 81; server_tokens on; location ~ /p/(.*) { proxy_pass http://$1; } }\n"
    )
    assert findings(nginx_folder)
