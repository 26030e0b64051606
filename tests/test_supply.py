"""pip installs exactly what the lock files name."""

import subprocess

from role import ROOT


def test_a_lock_without_hashes_is_not_installed(tmp_path):
    (tmp_path / "requirements").mkdir()
    for name in ("deploy", "test"):
        (tmp_path / "requirements" / f"{name}.txt").write_text("pyyaml==6.0.2\n")
    command = ["sh", "-c", f"root=$PWD; . {ROOT}/bin/lib/venv.sh; use_venv deploy"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "Hashes are required in --require-hashes mode" in done.stderr
    assert not (tmp_path / ".venv" / "stamp").exists()
