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

The inputs of the role `websockets`, in the order of a deploy. Set them for a host or a group in the inventory, or where
a play uses the role. The role refuses a variable that starts with `websockets_` and is none of these, so a misspelt one
is an error. `ansible-doc -t role websockets.deploy.websockets` shows the same in a terminal.

The inputs are those of a deploy, which is the [entry point](#entry-points) `deploy`. Under each input stands which other
entry points use it.
"""
# The inputs that an app of your own needs first.
FIRST = "app src repo version command environment secrets numprocs listen server_name tls origins max_connections"
TYPES = {"str": "string", "int": "whole number", "bool": "yes or no", "dict": "dictionary", "raw": "any type"}


def headings(text):
    """Return {variable: heading}: in the specs, a comment above an option of deploy starts a group of them."""
    found, heading = {}, ""
    for line in text.splitlines():
        if match := re.fullmatch(r" {6}# (.+)", line):
            heading = match[1]
        elif match := re.fullmatch(r" {6}(\w+):(?: &\w+)?", line):
            found[match[1]] = heading
    return found


def markdown(text):
    """Return a description with Ansible's markup turned into Markdown: O(option), V(value), C(code)."""

    def option(match):
        name = match[1]
        return f"[`{name}`](#{name})"

    marked = re.sub(r"\b[CV]\((.+?)\)", r"`\1`", re.sub(r"\bO\((.+?)\)", option, text))
    return textwrap.fill(marked, 120, break_long_words=False, break_on_hyphens=False)


def written(value):
    """Return a value as a person would write it in YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
    return f"`{text}`"


def section(name, option, others):
    """Return what there is to say of an option of deploy, and which other entry points have it."""
    facts = f"list of {TYPES[option['elements']]}s" if option["type"] == "list" else TYPES[option["type"]]
    if choices := [choice for choice in option.get("choices", []) if choice]:
        facts += f", one of {', '.join(map(written, choices))}"
    facts += ", default " + ("empty" if option["default"] in ("", [], {}) else written(option["default"]))
    if others:
        facts += f"; also for {' and '.join(f'`{other}`' for other in others)}"
    description = option["description"]
    paragraphs = [description] if isinstance(description, str) else description
    return "\n\n".join([f"### {name}", f"*{facts}*", *map(markdown, paragraphs)])


def page(text):
    specs = yaml.safe_load(text)["argument_specs"]
    groups = headings(text)
    first = ", ".join(f"O(websockets_{name})" for name in FIRST.split())
    parts, current = [HEAD.rstrip(), markdown(f"For an app of your own, set these first: {first}.")], None
    for name, option in specs["deploy"]["options"].items():
        if groups[name] != current:
            current = groups[name]
            parts.append(f"## {current}")
        others = [entry for entry, spec in specs.items() if entry != "deploy" and name in spec["options"]]
        parts.append(section(name, option, others))
    parts.append("## Entry points")
    for entry, spec in specs.items():
        parts += [f"### {entry}", f"*{spec['short_description']}*", *map(markdown, spec["description"])]
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
