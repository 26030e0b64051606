"""Write docs/variables.md, the reference of the role's inputs, from its argument specs.

``python docs/variables.py`` writes the file; with ``--check`` it only says, by a diff and exit status 1, that the file
is not what it would write.
"""

import difflib
import re
import sys
import textwrap
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
SPECS = ROOT / "roles" / "websockets" / "meta" / "argument_specs.yml"
PAGE = ROOT / "docs" / "variables.md"
HEAD = """\
# Variables

<!-- Written by docs/variables.py from roles/websockets/meta/argument_specs.yml: change that file, not this one. -->

All inputs of the role `websockets`, in the order of a deploy. Each is a variable of a host or group in the inventory,
or of the role's use in a play. A variable that starts with `websockets_` and is not one of these is an error.
"""
TYPES = {"str": "string", "int": "whole number", "bool": "yes or no", "dict": "dictionary", "raw": "any type"}


def headings(text):
    """Return {variable: heading}: in the specs, a comment above an option starts a group of them."""
    found, heading = {}, ""
    for line in text.splitlines():
        if match := re.fullmatch(r" {6}# (.+)", line):
            heading = match[1]
        elif match := re.fullmatch(r" {6}(\w+):", line):
            found[match[1]] = heading
    return found


def markdown(text):
    """Return a description with Ansible's markup turned into Markdown: O(option), V(value), C(code)."""

    def option(match):
        name = match[1]
        if "#" not in name:
            return f"[`{name}`](#{name})"
        plugin, name = name.split("#", 1)
        return f"`{name.split(':')[1]}` of `{plugin}`"

    marked = re.sub(r"\b[CV]\((.+?)\)", r"`\1`", re.sub(r"\bO\((.+?)\)", option, text))
    return textwrap.fill(marked, 120, break_long_words=False, break_on_hyphens=False)


def default(value):
    """Return a default as a person would write it in YAML."""
    if value in ("", [], {}):
        return "empty"
    written = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
    return f"`{written}`"


def section(name, option):
    kind = f"list of {TYPES[option['elements']]}s" if option["type"] == "list" else TYPES[option["type"]]
    description = option["description"]
    paragraphs = [description] if isinstance(description, str) else description
    facts = f"*{kind}, default {default(option['default'])}*"
    return "\n\n".join([f"### {name}", facts, *map(markdown, paragraphs)])


def page(text):
    options = yaml.safe_load(text)["argument_specs"]["main"]["options"]
    groups = headings(text)
    parts, current = [HEAD.rstrip()], None
    for name, option in options.items():
        if groups[name] != current:
            current = groups[name]
            parts.append(f"## {current}")
        parts.append(section(name, option))
    return "\n\n".join(parts) + "\n"


def main(arguments):
    wanted = page(SPECS.read_text(encoding="utf-8"))
    if arguments != ["--check"]:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    present = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    names = ("docs/variables.md", "what `python docs/variables.py` writes")
    sys.stdout.writelines(difflib.unified_diff(present.splitlines(True), wanted.splitlines(True), *names))
    return int(present != wanted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
