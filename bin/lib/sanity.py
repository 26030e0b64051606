"""Run sanity tests of ansible-test on the collection as a user gets it: built, and unpacked where Ansible looks.

ansible-test itself makes a virtual environment for each test, from the network, and refuses a checkout elsewhere. So
its test programs are run as it runs them, with what they need from this environment (requirements/test.in).
"""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import ansible_test
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(ansible_test.__path__[0]) / "_util" / "controller" / "sanity"
# The licence is MIT, as a collection's may be; Ansible's own modules have the GPL.
ACCEPTED = {"missing-gplv3-license"}


def unpack(folder):
    """Build the collection, unpack it below a folder, and return its path and what galaxy.yml says."""
    about = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
    build = ["ansible-galaxy", "collection", "build", "--output-path", folder]
    subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    (built,) = folder.glob("*.tar.gz")
    collection = folder / "ansible_collections" / about["namespace"] / about["name"]
    with tarfile.open(built) as archive:
        archive.extractall(collection, filter="data")
    print(f"{built.name}: {built.stat().st_size / 1024:.0f} KiB")
    return collection, about


def run(collection, program, *arguments, **options):
    """Return what a test program prints; it fails by itself only if it cannot do its work."""
    root = collection.parents[2]
    # A file of nothing: no settings of this checkout, or of this machine.
    (root / "ansible.cfg").touch()
    env = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(root), "ANSIBLE_CONFIG": str(root / "ansible.cfg")}
    command = [sys.executable, PROGRAMS / program, *arguments]
    done = subprocess.run(command, cwd=collection, env=env, capture_output=True, text=True, check=False, **options)
    if done.stderr or done.returncode not in (0, 3):
        sys.exit(f"{program} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def validate(collection, version):
    """Yield what validate-modules finds: documentation that is missing, wrong, or other than the arguments."""
    paths = sorted(str(path.relative_to(collection)) for path in collection.glob("plugins/modules/*.py"))
    # The path below the root: validate-modules makes the modules' Python names of it.
    about = ["--collection", str(collection.relative_to(collection.parents[2])), "--collection-version", version]
    printed = run(collection, "validate-modules/validate.py", "--format=json", "--arg-spec", *about, *paths)
    for path, found in json.loads(printed).items():
        for error in found["errors"]:
            if error["code"] not in ACCEPTED:
                yield f"{path}:{error['line']}: {error['code']}: {error['msg']}"


def main():
    with tempfile.TemporaryDirectory() as folder:
        collection, about = unpack(Path(folder))
        errors = list(validate(collection, about["version"]))
        paths = "".join(f"{path.relative_to(collection)}\n" for path in sorted(collection.rglob("*")))
        errors += run(collection, "code-smell/action-plugin-docs.py", input=paths).splitlines()
        errors += run(collection, "code-smell/runtime-metadata.py", "meta/runtime.yml").splitlines()
    print(*errors, f"{len(errors)} errors", sep="\n")
    return bool(errors)


if __name__ == "__main__":
    sys.exit(main())
