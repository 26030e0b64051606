"""Build the image of a test host where it is missing, and print its name: `image.py RELEASE INIT`.

For example `image.py bookworm systemd`. Runs under engine.py. An image is kept for a week, or until the
Containerfile changes, so that a run takes seconds and security updates still come in.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENGINE = os.environ["TEST_HOSTS_ENGINE"]
NAME = "localhost/websockets-test-host"
WEEK = time.strftime("%G-%V")


def engine(*arguments, **options):
    return subprocess.run([ENGINE, *arguments], capture_output=True, text=True, **options)


def exists(image):
    return engine("image", "inspect", image).returncode == 0


def base_image(release):
    """Debian's image from a registry; where none answers, the same made from Debian's packages."""
    published, made = f"debian:{release}", f"{NAME}:base-{release}-{WEEK}"
    if exists(made):
        return made
    if engine("pull", published).returncode == 0:
        return published
    if not shutil.which("mmdebstrap"):
        sys.exit(f"{ENGINE} cannot pull {published}. To make it from packages instead: apt-get install mmdebstrap")
    rootfs = subprocess.Popen(["mmdebstrap", "--quiet", "--variant=minbase", release, "-"], stdout=subprocess.PIPE)
    imported = engine("import", "-", made, stdin=rootfs.stdout)
    if rootfs.wait() or imported.returncode:
        engine("rmi", made)
        sys.exit(f"mmdebstrap {release} | {ENGINE} import failed: {imported.stderr}")
    return made


def remove_earlier_weeks():
    """A host that still runs keeps its image: the engine refuses."""
    for image in engine(
        "images", "--filter", f"reference={NAME}", "--format", "{{.Repository}}:{{.Tag}}"
    ).stdout.split():
        if WEEK not in image:
            engine("rmi", image)


def build(release, init):
    key = hashlib.sha256((HERE / "Containerfile").read_bytes()).hexdigest()[:12]
    image = f"{NAME}:{release}-{init}-{WEEK}-{key}"
    if exists(image):
        return image
    arguments = ["--target", init, "--build-arg", f"BASE={base_image(release)}", "--tag", image]
    built = engine("build", *arguments, "--file", HERE / "Containerfile", HERE)
    if built.returncode:
        sys.exit(built.stdout + built.stderr)
    remove_earlier_weeks()
    return image


if __name__ == "__main__":
    # Cut off, a build leaves half-made containers behind. In a session of its own it comes to its end,
    # also when the run is interrupted.
    with contextlib.suppress(PermissionError):  # it leads one already
        os.setsid()
    with open(HERE / "Containerfile") as lock:
        # Of two scenarios at once, the second one finds the image made.
        fcntl.flock(lock, fcntl.LOCK_EX)
        print(build(*sys.argv[1:]))
