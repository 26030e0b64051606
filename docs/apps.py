"""Write the table of servers in docs/apps.md.

It has, for each app of the scenario molecule/apps, what the comment above it in the inventory says, its packages and its
command, and what the scenario has seen (`APPS_RESULTS=1 bin/test molecule apps`).

``python docs/apps.py`` writes the table; with ``--check`` it only says, by a diff and exit status 1, that the page is not
what it would write.
"""

import difflib
import json
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
SCENARIO = ROOT / "molecule" / "apps"
INVENTORY = SCENARIO / "inventory" / "group_vars" / "websockets.yml"
RESULTS = SCENARIO / "results.json"
DEFAULTS = ROOT / "roles" / "websockets" / "defaults" / "main.yml"
PAGE = ROOT / "docs" / "apps.md"
BEGIN, END = "<!-- This table is written by docs/apps.py. -->", "<!-- Here docs/apps.py ends. -->"


def comments(text):
    """Return {app: the comment above it}."""
    found = re.findall(r"^((?:  # .*\n)+)  (\w+):$", text, re.MULTILINE)
    return {app: " ".join(line.removeprefix("  # ") for line in lines.splitlines()) for lines, app in found}


def packages(app):
    """Return the packages of an app's own list, such as ``uvicorn 0.54.0``."""
    folder = SCENARIO / "apps" / app
    if (folder / "package.json").exists():
        return [" ".join(item) for item in json.loads((folder / "package.json").read_text())["dependencies"].items()]
    return [line.replace("==", " ") for line in (folder / "requirements.txt").read_text().splitlines()]


def left(found):
    return ", ".join(found) or "nothing"


def table():
    text = INVENTORY.read_text(encoding="utf-8")
    apps, needs, seen = yaml.safe_load(text)["websockets_apps"], comments(text), json.loads(RESULTS.read_text())
    default = yaml.safe_load(DEFAULTS.read_text(encoding="utf-8"))["websockets_command"]
    head = ["packages", "`websockets_command`", "what it needs", "close code", "failed handshakes", "what it left"]
    rows = [head, ["---"] * len(head)]
    for app, inputs in apps.items():
        codes = ", ".join(map(str, seen[app]["codes"]))
        command = f"`{inputs.get('command', default)}`"
        rows.append(
            [", ".join(packages(app)), command, needs[app], codes, str(seen[app]["failed"]), left(seen[app]["left"])]
        )
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main(arguments):
    present = PAGE.read_text(encoding="utf-8")
    before, rest = present.split(BEGIN)
    wanted = f"{before}{BEGIN}\n\n{table()}\n{END}{rest.split(END)[1]}"
    if arguments != ["--check"]:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    names = ("docs/apps.md", "what `python docs/apps.py` writes")
    sys.stdout.writelines(difflib.unified_diff(present.splitlines(True), wanted.splitlines(True), *names))
    return int(present != wanted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
