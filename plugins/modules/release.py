#!/usr/bin/python
"""Put a release's code and packages in place, without touching anything that runs."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release
short_description: Put the code and the packages of a release in place
version_added: 1.0.0
description:
  - This module builds the release beside its place and renames it. A half-built release never has the final name.
  - It copies the files that an earlier release has from there. If such a file is not what it should be, nothing is built.
  - Releases that need the same packages share one virtual environment.
  - An action plugin of the same name runs on the control node. A task gives it C(host), the host as the action
    M(websockets.deploy.plan) has seen it. From that the action makes the options O(archive), O(requirements), O(wheels),
    O(files), O(compare) and O(live), and it sends the host an archive of the files that the host does not have.
  - This module is for the role P(websockets.deploy.websockets#role) itself; its options change without notice.
author: The authors of this repository (!UNKNOWN)
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - ansible.builtin.action_common_attributes.flow
  - websockets.deploy.step
  - websockets.deploy.step.run
attributes:
  action:
    support: full
  async:
    support: none
  bypass_host_loop:
    support: none
  diff_mode:
    support: full
options:
  release:
    description: The release, as the action M(websockets.deploy.plan) returns it.
    type: dict
    required: true
  code:
    description: Where the code is on the control node, as the action M(websockets.deploy.plan) returns it.
    type: dict
    required: true
  archive:
    description: Archive of the files that no earlier release has. The action sets it.
    type: path
  requirements:
    description:
      - File with all packages of the app's lock and their hashes. The action sets it.
      - Without it pip reads the C(requirements.txt) in the code, if there is one.
    type: path
  wheels:
    description: Archive of the wheels from which pip installs everything. The action sets it; without it pip asks an index.
    type: path
  files:
    description: The files of the code with their digests, by their paths. The action sets it.
    type: dict
    required: true
  compare:
    description: Paths of files whose text in the live release is returned, to show the difference. The action sets it.
    type: list
    elements: str
    required: true
  live:
    description: Id of the live release. The action sets it.
    type: str
    required: true
  program:
    description: Supervisor's configuration of the release.
    type: str
    required: true
  script:
    description: Script that starts one process. It may hold secrets.
    type: str
    required: true
  command:
    description: Script that runs a command in the environment of the processes. It may hold secrets.
    type: str
    required: true
  before_start:
    description: Script that runs the command before the start. If it is empty, the release has none.
    type: str
    required: true
  python:
    description: Interpreter that makes the virtual environment.
    type: str
    required: true
  pip_args:
    description: Further arguments of C(pip install).
    type: list
    elements: str
    default: []
  pip_index_url:
    description: The package index that pip uses instead of its own. It may hold a password.
    type: str
    default: ""
"""

EXAMPLES = r"""
---
- name: Put the release in place
  websockets.deploy.release:
    release: "{{ __websockets_release }}"
    run: "{{ __websockets_plan.run }}"
    code: "{{ __websockets_plan.code }}"
    host: "{{ __websockets_plan.host }}"
    program: "{{ lookup('ansible.builtin.template', 'program.conf.j2') }}"
    script: "{{ lookup('ansible.builtin.template', 'run.j2') }}"
    command: "{{ lookup('ansible.builtin.template', 'command.j2') }}"
    before_start: ""
    python: /usr/bin/python3
"""

RETURN = r"""
---
differing:
  description:
    - Paths of the files that are not what they should be. Nothing has been built.
    - The action sends all files then. A task sees this only as a warning.
  returned: when an earlier release has been edited on the host
  type: list
  elements: str
  sample: [app.py]
texts:
  description:
    - The texts in the live release of the files in O(compare).
    - The action makes a diff of them and does not return them.
  returned: when something has changed
  type: dict
  sample: {app.py: "print('hello')"}
"""

import contextlib
import glob
import json
import os
import pwd
import re
import shutil
import subprocess
import tarfile
import urllib.parse
from collections.abc import Iterable, Mapping

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import lock, logfile, paths, system
from ..module_utils import release as releases
from ..module_utils.inputs import SECRET, no_password
from ..module_utils.record import from_dict, to_dict
from ..module_utils.release import Release, Stored

_SHOWN = 1 << 16  # characters of a file in a diff
# A line of pip's that names the package at work, and a line of a compiler, of Python or of setup.py that names an error.
_PACKAGE = re.compile(r"(Collecting|Processing|Building wheel for|Building wheels for) ")
_ERROR = re.compile(r"(?i)\berror(\[\w+\])?: |\w+(Error|Exception|Interrupt)\b: ")


def build(module: AnsibleModule, release: Release) -> list[str]:
    """Build the release beside its place and rename it; return the paths of files with wrong content, and build nothing then."""
    parent = os.path.dirname(release.path)
    partial = os.path.join(parent, f".{release.id}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    os.mkdir(partial, 0o755)
    try:
        code = os.path.join(partial, "app")
        os.mkdir(code)
        if module.params["archive"]:
            with tarfile.open(module.params["archive"]) as archive:
                archive.extractall(code)
        copy(module.params["files"], releases.stored(release.app).values(), code)
        differing = releases.differ(module.params["files"], code)
        if differing:
            return differing
        install(module, release.venv, code)
        # The version before this one, on another control node, reads the link and the folder of the sockets by these names.
        older = {"live": release.live_link, "run": release.runtime}
        record = {
            **to_dict(release),
            **older,
            "files": module.params["files"],
            "source": module.params["code"]["folder"],
            "revision": module.params["code"]["revision"],
        }
        user = pwd.getpwnam(release.user)
        for folder in filter(None, (release.home, release.data)):
            make_home(folder, user)
        put(partial, "release.json", json.dumps(record, indent=1, sort_keys=True), 0o644)
        put(partial, "program.conf", module.params["program"], 0o644)
        scripts = {
            release.script: "script",
            release.command_script: "command",
            release.before_start_script: "before_start",
        }
        for path, option in scripts.items():
            if text := module.params[option]:
                put(partial, os.path.basename(path), text, 0o640, user.pw_gid)
        os.sync()
        replace(partial, release.path)
        return []
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def replace(made: str, path: str) -> None:
    """Give what has been made its final name.

    A release is there already if its record cannot be read. Its processes may run, so it is replaced file by file.
    """
    folders = [os.path.isdir(one) and not os.path.islink(one) for one in (made, path)]
    if all(folders):
        for name in sorted(os.listdir(made)):
            replace(os.path.join(made, name), os.path.join(path, name))
        return
    if folders[1]:
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
    os.rename(made, path)


def copy(files: Mapping[str, str], earlier: Iterable[Stored], code: str) -> None:
    """Copy the files that the archive did not have from earlier releases.

    They are copies, not links, so that an edit of an old release does not change this one.
    """
    places = {
        what.partition(" ")[2]: os.path.join(stored.release.code, path)
        for stored in earlier
        for path, what in stored.files.items()
    }
    for path, what in files.items():
        place, (kind, _, content) = os.path.join(code, path), what.partition(" ")
        if os.path.lexists(place) or not os.path.isfile(places.get(content, "")):
            continue
        os.makedirs(os.path.dirname(place), exist_ok=True)
        shutil.copyfile(places[content], place)
        os.chmod(place, 0o755 if kind == "executable" else 0o644)


def put(folder: str, name: str, text: str, mode: int, group: int = 0) -> None:
    """Write a new file that belongs to root and a group, which never has a wider mode than this one."""
    path = os.path.join(folder, name)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    os.chown(path, 0, group)
    os.chmod(path, mode)


def make_home(path: str, user: pwd.struct_passwd) -> None:
    """Make a folder of the app's user, its home or its data, which nobody else may enter."""
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)


def install(module: AnsibleModule, venv: str, code: str) -> None:
    """Make the virtual environment, unless an earlier release has made it."""
    if os.path.exists(os.path.join(venv, releases.COMPLETE)):
        return
    shutil.rmtree(venv, ignore_errors=True)
    log = Log(paths.pip_log(module.params["release"]["app"]), module.params["pip_index_url"])
    execute(module, log, [system.interpreter(module.params["python"]), "-m", "venv", venv])
    pip = [os.path.join(venv, "bin", "python"), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    requirements, house = module.params["requirements"], os.path.join(module.tmpdir, "wheels")
    if module.params["wheels"]:
        with tarfile.open(module.params["wheels"]) as archive:
            archive.extractall(house)
        requirements = requirements and os.path.join(house, "requirements.txt")
        # The arguments of pip's were for the pip that has got the wheels.
        pip += ["--no-index", "--find-links", house]
    else:
        pip += module.params["pip_args"]
    if itself := module.params["code"]["installs_itself"]:
        # A build leaves files where it runs, such as build/ and *.egg-info: not in the release.
        code = shutil.copytree(code, os.path.join(module.tmpdir, "app"), symlinks=True)
    if os.path.exists(os.path.join(code, "requirements.txt")):
        execute(module, log, [*pip, "-r", "requirements.txt"], code)
    else:
        if requirements:
            execute(module, log, [*pip, "--require-hashes", "--no-deps", "-r", requirements])
        if itself:
            execute(
                module,
                log,
                [*pip, "--no-deps", *(glob.glob(os.path.join(house, releases.OWN_WHEEL, "*.whl")) or ["."])],
                code,
            )
    put(venv, releases.COMPLETE, "", 0o644)


class Log:
    """What venv and pip say while they make the packages, without passwords. It is kept until they are made again."""

    def __init__(self, path: str, index_url: str) -> None:
        self.path, self.text, self.index_url = path, "", index_url

    def add(self, text: str) -> str:
        """Add to the file, if it can be written: the disk may be full. Return the text as it is in the log."""
        password = urllib.parse.urlsplit(self.index_url).password
        shown = no_password(text)
        for hidden in {password, urllib.parse.unquote(password)} if password else set():
            shown = shown.replace(hidden, SECRET)
        self.text += shown
        with contextlib.suppress(OSError), logfile.begin(self.path) as file:
            file.write(self.text)
        return shown


def execute(module: AnsibleModule, log: Log, command: list[str], folder: str | None = None) -> None:
    """Run a command; if it fails, fail the module with the cause, as far as the command's output has it."""
    index = {"PIP_INDEX_URL": log.index_url} if log.index_url else {}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **index},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        check=False,
    )
    said = log.add(done.stdout)
    if done.returncode != 0:
        serves = releases.still_serves(module.params["release"]["app"])
        whole = f"\nThe whole log is {log.path} on the host." if os.path.exists(log.path) else ""
        failed = f"{' '.join(command[:4])} failed:\n{cause(said)}{whole}"
        module.fail_json(msg=f"The release cannot be built; {serves}. {failed}")


def cause(said: str) -> str:
    """Return the lines of venv's or pip's output that say why it has failed.

    They are its last ones, unless a package's own build has failed. Then they are in the middle, and pip ends with "See
    above".
    """
    lines = said.strip().splitlines()
    ends = [number for number, line in enumerate(lines) if line.strip() == "[end of output]"]
    starts = [number for number, line in enumerate(lines) if line.endswith(" lines of output]")]
    if not starts or not ends or starts[0] > ends[0]:
        return "\n".join(lines[-15:])
    package = [line for line in lines[: starts[0]] if _PACKAGE.match(line.strip())][-1:]
    built = [line.strip() for line in lines[starts[0] + 1 : ends[0]] if line.strip()]
    errors = list(dict.fromkeys(line for line in built if _ERROR.search(line)))
    return "\n".join([*(line.strip() for line in package), *(errors[:5] or built[-10:])])


def texts(live: Release, names: Iterable[str]) -> dict[str, str]:
    """Return {path: text} of these files of the live release, without those that are not text."""
    found = {}
    for name in names:
        with contextlib.suppress(OSError, UnicodeDecodeError), open(f"{live.code}/{name}", encoding="utf-8") as file:
            text = file.read(_SHOWN + 1)
            if len(text) <= _SHOWN and "\0" not in text:
                found[name] = text
    return found


def main() -> None:
    module = AnsibleModule(
        {
            "release": {"type": "dict", "required": True},
            "code": {"type": "dict", "required": True},
            "archive": {"type": "path"},
            "requirements": {"type": "path"},
            "wheels": {"type": "path"},
            "files": {"type": "dict", "required": True},
            "compare": {"type": "list", "elements": "str", "required": True},
            "live": {"type": "str", "required": True},
            "program": {"type": "str", "required": True},
            "script": {"type": "str", "required": True, "no_log": True},
            "command": {"type": "str", "required": True, "no_log": True},
            "before_start": {"type": "str", "required": True},
            "run": {"type": "dict", "required": True},
            "python": {"type": "str", "required": True},
            "pip_args": {"type": "list", "elements": "str", "default": []},
            "pip_index_url": {"type": "str", "default": "", "no_log": True},
        },
        supports_check_mode=True,
    )
    release = from_dict(Release, module.params["release"])
    venv_is_whole = os.path.exists(os.path.join(release.venv, releases.COMPLETE))
    is_there = release.id in releases.stored(release.app)
    if is_there and venv_is_whole:
        module.exit_json(changed=False)
    if not module.check_mode:
        os.umask(0o022)
        os.nice(10)  # copying and pip must not take the processors from the app
        with lock.hold(module):
            try:
                if is_there:
                    install(module, release.venv, release.code)
                elif differing := build(module, release):
                    module.exit_json(changed=False, differing=differing)
            except OSError as error:
                module.fail_json(msg=f"The release cannot be built; {releases.still_serves(release.app)}. {error}")
    live = Release.of(release.app, module.params["live"])
    module.exit_json(changed=True, texts=texts(live, module.params["compare"]))


if __name__ == "__main__":
    main()
