"""What bin/test runs, part by part, and the count at its end. bin/test says how to call it."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHELL_SCRIPTS = ["bin/benchmark", "bin/deploy", "bin/test", "bin/lib/venv.sh", ".ci/run"]
LINTERS = {
    "ansible-lint": ["ansible-lint", "--offline", "--profile", "production"],
    "yamllint": ["yamllint", "--strict", "."],
    "sanity": [sys.executable, "bin/lib/sanity.py"],
    "types": ["mypy"],
    "ruff check": ["ruff", "check"],
    "ruff format": ["ruff", "format", "--check"],
    "shellcheck": ["shellcheck", *SHELL_SCRIPTS],
    # hunter2 is everybody's secret in the tests.
    "secrets": [
        "sh",
        "-c",
        "git ls-files -z | xargs -0 detect-secrets-hook --exclude-lines 'hunter2|no private key in'",
    ],
    "variables.md": [sys.executable, "docs/variables.py", "--check"],
    "changelog": [
        "sh",
        "-c",
        "antsibull-changelog lint && antsibull-changelog generate --output /dev/stdout | diff CHANGELOG.md -",
    ],
    "benchmarks": [sys.executable, "benchmarks/figures.py", "--check"],
}
# Many tests wait for a program that they have started: more workers than cores. A file is one worker's, as its fixtures are.
UNIT = [sys.executable, "-m", "pytest", "tests", "-n", str(2 * (os.cpu_count() or 1)), "--dist", "loadfile"]
ENGINE = [sys.executable, "molecule/hosts/engine.py"]


class Counts:
    """A linter counts as one, a scenario's run as one, and each pytest test as one."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def add(self, passed):
        self.passed += passed
        self.failed += not passed
        return passed

    def add_pytest(self, junit):
        suites = ET.parse(junit).getroot().iter("testsuite") if junit.exists() else []
        for suite in suites:
            tests, skipped = int(suite.get("tests")), int(suite.get("skipped"))
            failed = int(suite.get("failures")) + int(suite.get("errors"))
            self.passed += tests - skipped - failed
            self.failed += failed
            self.skipped += skipped

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed" + (f", {self.skipped} skipped" if self.skipped else "")


def run(title, command, **env):
    print(f"\n== {title}", flush=True)
    started = time.monotonic()
    # A process group of its own, so that an interruption can reach all of it and be waited for.
    child = subprocess.Popen(command, env={**os.environ, **env}, process_group=0, stdin=subprocess.DEVNULL)
    try:
        passed = not child.wait()
    except KeyboardInterrupt:
        stop(child)
        raise
    print(f"== {title}: {'passed' if passed else 'FAILED'} in {time.monotonic() - started:.0f} s", flush=True)
    return passed


def stop(child):
    for sign in (signal.SIGINT, signal.SIGKILL):
        os.killpg(child.pid, sign)
        try:
            return child.wait(timeout=20)
        except subprocess.TimeoutExpired:
            continue


def run_with_pytest(counts, title, command, **env):
    """Run what runs pytest, and count its tests. The run itself counts if it fails without a failed test."""
    with tempfile.TemporaryDirectory() as folder:
        junit = Path(folder) / "junit.xml"
        failed_before = counts.failed
        passed = run(title, command, PYTEST_ADDOPTS=f"--junitxml={junit}", **env)
        counts.add_pytest(junit)
        return passed, counts.failed > failed_before


def lint(counts):
    for name, command in LINTERS.items():
        counts.add(run(f"lint: {name}", command))


def unit(counts):
    passed, counted = run_with_pytest(counts, "unit", UNIT)
    if not passed and not counted:
        counts.add(False)


def scenarios():
    return sorted(path.parent.name for path in ROOT.glob("molecule/*/molecule.yml"))


def molecule_command(scenario, action):
    # Molecule finds its shared settings by itself only in a git repository.
    return [*ENGINE, "molecule", "--base-config", ".config/molecule/config.yml", action, "--scenario-name", scenario]


def molecule_env(scenario):
    """Molecule's own folder is named after the checkout's last part only: two checkouts would share it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    checkout = hashlib.sha256(bytes(ROOT)).hexdigest()[:12]
    return {
        "MOLECULE_EPHEMERAL_DIRECTORY": str(cache / "websockets-test-hosts" / checkout / scenario),
        "MOLECULE_COMMAND_BORDERS": "false",
    }


def molecule(counts, only=None):
    for scenario in [only] if only else scenarios():
        env = molecule_env(scenario)
        ended = False
        try:
            passed, counted = run_with_pytest(
                counts, f"molecule: {scenario}", molecule_command(scenario, "test"), **env
            )
            ended = passed
            if passed or not counted:
                counts.add(passed)
        finally:
            # Molecule removes its hosts after a failed step, but not when it is interrupted.
            if not ended:
                subprocess.run(molecule_command(scenario, "destroy"), env={**os.environ, **env}, capture_output=True)
            shutil.rmtree(env["MOLECULE_EPHEMERAL_DIRECTORY"], ignore_errors=True)


def main(part=None, scenario=None, action=None):
    parts = {"lint": lint, "unit": unit, "molecule": molecule}
    if part not in {None, *parts} or scenario not in {None, *scenarios()}:
        sys.exit(f"Usage: bin/test [lint | unit | molecule [{' | '.join(scenarios())} [ACTION]]]")
    if action:
        env = {**os.environ, **molecule_env(scenario)}
        return subprocess.run(molecule_command(scenario, action), env=env).returncode
    counts = Counts()
    started = time.monotonic()
    try:
        if part in (None, "lint"):
            lint(counts)
        if part in (None, "unit"):
            unit(counts)
        if part in (None, "molecule"):
            molecule(counts, scenario)
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. The test hosts are removed.")
    print(f"\nbin/test took {time.monotonic() - started:.0f} s")
    print(counts)
    return counts.failed > 0


if __name__ == "__main__":
    for end in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(end, signal.default_int_handler)
    if not sys.stdout.isatty():
        os.environ.setdefault("NO_COLOR", "1")
    os.chdir(ROOT)
    sys.exit(main(*sys.argv[1:]))
