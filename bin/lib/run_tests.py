"""What bin/test runs, part by part, and the count at its end. bin/test says how to call it."""

import collections
import concurrent.futures
import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
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
    "apps.md": [sys.executable, "docs/apps.py", "--check"],
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


# Their tests measure: nothing else runs beside them. All else runs beside each other, their hosts' preparation too.
ALONE = {"faults", "hardened", "rollout"}
SIDE_BY_SIDE = (os.cpu_count() or 1) + 1
FULL = "TESTS_FULL"

interrupted = threading.Event()
children = set()


class Part:
    """What has a line of its own at the end. A linter counts as one, a run of Molecule as one, and each pytest test as one."""

    def __init__(self, title, work, *arguments):
        self.title, self.work, self.arguments = title, work, arguments
        self.passed = self.failed = self.skipped = self.seconds = 0
        self.out = sys.stdout

    def __call__(self, out=sys.stdout):
        self.out, started = out, time.monotonic()
        self.work(self, *self.arguments)
        self.seconds = time.monotonic() - started

    def count(self, passed):
        self.passed += passed
        self.failed += not passed

    def count_pytest(self, junit):
        suites = ET.parse(junit).getroot().iter("testsuite") if junit.exists() else []
        for suite in suites:
            tests, skipped = int(suite.get("tests")), int(suite.get("skipped"))
            failed = int(suite.get("failures")) + int(suite.get("errors"))
            self.passed += tests - skipped - failed
            self.failed += failed
            self.skipped += skipped

    def say(self, line):
        print(line, file=self.out, flush=True)

    def run(self, title, command, **env):
        self.say(f"\n== {title}")
        started = time.monotonic()
        # A process group of its own, so that an interruption can reach all of it and be waited for.
        child = subprocess.Popen(
            command,
            env={**os.environ, **env},
            process_group=0,
            stdin=subprocess.DEVNULL,
            stdout=self.out,
            stderr=subprocess.STDOUT,
        )
        children.add(child)
        try:
            passed = not child.wait()
        except KeyboardInterrupt:
            stop(child)
            raise
        finally:
            children.discard(child)
        if interrupted.is_set():
            raise KeyboardInterrupt
        self.say(f"== {title}: {'passed' if passed else 'FAILED'} in {time.monotonic() - started:.0f} s")
        return passed

    def run_pytest(self, title, command, **env):
        """Run what runs pytest, and count its tests. Return whether all is well, and whether a failed test says why not."""
        with tempfile.TemporaryDirectory() as folder:
            junit = Path(folder) / "junit.xml"
            passed = self.run(title, command, PYTEST_ADDOPTS=f"--junitxml={junit}", **env)
            self.count_pytest(junit)
            return passed, self.failed > 0


def counts(parts):
    passed, failed, skipped = (sum(getattr(part, name) for part in parts) for name in ("passed", "failed", "skipped"))
    return f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")


def stop(child):
    for sign in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(timeout=20)


def run_beside_each_other(parts):
    """Run the parts, some at a time; print what each has said when it ends."""

    def work(part):
        with tempfile.TemporaryFile("w+") as out:
            try:
                if not interrupted.is_set():
                    part(out)
            finally:
                out.seek(0)
                said.append(out.read())

    said = collections.deque()
    print("\n== beside each other:", *(part.title for part in parts), flush=True)
    with concurrent.futures.ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        runs = [pool.submit(work, part) for part in parts]
        try:
            for run in concurrent.futures.as_completed(runs):
                print(said.popleft(), end="", flush=True)
                run.result()
        except BaseException:
            # The pool then waits for the threads, and they remove their hosts.
            interrupted.set()
            with concurrent.futures.ThreadPoolExecutor() as stoppers:
                stoppers.map(stop, list(children))
            raise


def lint(part):
    for name, command in LINTERS.items():
        part.count(part.run(f"lint: {name}", command))


def unit(part):
    passed, counted = part.run_pytest("unit", UNIT)
    if not passed and not counted:
        part.count(False)


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


def destroy(scenario):
    env = {**os.environ, **molecule_env(scenario)}
    subprocess.run(molecule_command(scenario, "destroy"), env=env, capture_output=True)
    shutil.rmtree(env["MOLECULE_EPHEMERAL_DIRECTORY"], ignore_errors=True)


def molecule(part, scenario, action="test"):
    gone = False
    try:
        passed, counted = part.run_pytest(part.title, molecule_command(scenario, action), **molecule_env(scenario))
        if passed or not counted:
            part.count(passed)
        gone = action == "test" and passed
    finally:
        # Molecule removes its hosts after a failed step, but not when it is interrupted.
        if not gone:
            destroy(scenario)


def hosts(part, scenario):
    """Have the hosts of a scenario, deployed to and idle, for its tests to run later and alone."""
    destroy(scenario)  # those of a run that was killed
    part.count(part.run(part.title, molecule_command(scenario, "converge"), **molecule_env(scenario)))


def chosen(part, scenario):
    """Return the parts that run beside each other, and then those that run alone."""
    if part == "molecule" and scenario:
        return [], [Part(f"molecule: {scenario}", molecule, scenario)]
    if part in ("lint", "unit"):
        return [], [Part(part, {"lint": lint, "unit": unit}[part])]
    beside = [Part(f"molecule: {name}", molecule, name) for name in scenarios() if name not in ALONE]
    beside += [] if part else [Part("unit", unit), Part("lint", lint)]
    beside += [Part(f"{name}: hosts", hosts, name) for name in sorted(ALONE)]
    return beside, [Part(f"molecule: {name}", molecule, name, "verify") for name in sorted(ALONE)]


def main(*arguments):
    if "--full" in arguments:
        os.environ[FULL] = "1"
    part, scenario, action, *more = [*(word for word in arguments if word != "--full"), None, None, None]
    if part not in {None, "lint", "unit", "molecule"} or scenario not in {None, *scenarios()} or any(more):
        sys.exit(f"Usage: bin/test [--full] [lint | unit | molecule [{' | '.join(scenarios())} [ACTION]]]")
    if action:
        env = {**os.environ, **molecule_env(scenario)}
        return subprocess.run(molecule_command(scenario, action), env=env).returncode
    started = time.monotonic()
    beside, alone = chosen(part, scenario)
    try:
        if beside:
            run_beside_each_other(beside)
        for one in alone:
            one()  # without its hosts it fails as well
    except KeyboardInterrupt:
        for name in ALONE if beside else ():
            destroy(name)
        sys.exit("\nInterrupted. The test hosts are removed.")
    print()
    for one in [*beside, *alone]:
        print(f"{one.title:20} {one.seconds:5.0f} s   {counts([one])}")
    print(f"bin/test took {time.monotonic() - started:.0f} s")
    print(counts([*beside, *alone]))
    return any(one.failed for one in [*beside, *alone])


if __name__ == "__main__":
    for end in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(end, signal.default_int_handler)
    if not sys.stdout.isatty():
        os.environ.setdefault("NO_COLOR", "1")
    os.chdir(ROOT)
    sys.exit(main(*sys.argv[1:]))
