"""What has to agree: defaults with their specification, inputs with their use, documents with the tree."""

import re
import subprocess
import sys

import pytest
import yaml
from role import ROLE, ROOT, load

SPEC = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
DEFAULTS = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
# What documents tell a person to make.
EXAMPLES = ("inventory/mine/", "playbooks/chat.yml", "playbooks/feed.yml")
DOCUMENTS = sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/*.md"))


def test_every_input_has_a_default_and_a_specification():
    assert list(DEFAULTS) == list(SPEC), "the same inputs, in the same order"


@pytest.mark.parametrize("name", DEFAULTS)
def test_an_inputs_default_is_the_specified_one(name):
    assert (name, SPEC[name]["default"]) == (name, DEFAULTS[name])
    assert type(SPEC[name]["default"]) is type(DEFAULTS[name])


@pytest.mark.parametrize("name", SPEC)
def test_an_input_is_described_and_typed(name):
    option = SPEC[name]
    described = option["description"] if isinstance(option["description"], list) else [option["description"]]
    assert all(sentence.endswith((".", ")")) for sentence in described)
    assert option["type"] in ("str", "int", "bool", "dict", "list", "raw")
    assert ("elements" in option) == (option["type"] == "list")
    for other in re.findall(r"\bO\((websockets_\w+)\)", " ".join(described)):
        assert other in SPEC


@pytest.mark.parametrize("name", SPEC)
def test_an_input_is_used(name):
    """Checking an input is not using it: module_utils/inputs.py counts only for where a rollback goes."""
    used = [
        *ROLE.glob("tasks/*.yml"),
        *ROLE.glob("templates/*"),
        *ROOT.glob("plugins/action/*.py"),
        *ROOT.glob("playbooks/*.yml"),
    ]
    texts = [path.read_text() for path in used]
    derived = "".join((ROOT / f"plugins/module_utils/{name}.py").read_text() for name in ("release", "site"))
    derived += (ROOT / "plugins/module_utils/inputs.py").read_text().split("\ndef go_back(")[-1]
    short = name.removeprefix("websockets_")
    assert any(re.search(rf"\b{name}\b", text) for text in [*texts, derived]) or f'"{short}"' in derived


@pytest.mark.parametrize("name", SPEC)
def test_a_secret_input_is_marked_as_one(name):
    assert not SPEC[name].get("no_log") or name in load("action/plan")._SECRET


def test_internal_names_have_the_internal_prefix():
    for path in [*ROLE.glob("tasks/*.yml"), *ROLE.glob("vars/*.yml")]:
        for name in re.findall(r"(?m)^\s*register: (\w+)|^(\w+):", path.read_text()):
            assert "".join(name).startswith("__websockets_"), f"{path}: {name}"


def test_every_role_task_file_is_reached():
    texts = "".join(path.read_text() for path in [*ROLE.glob("tasks/*.yml"), *ROOT.glob("playbooks/*.yml")])
    for path in ROLE.glob("tasks/*.yml"):
        by_name = path.stem == "main" or re.search(rf"\b{path.stem}(\.yml)?\b", texts.replace(path.read_text(), ""))
        assert by_name, f"{path.name} is in nobody's way"


@pytest.mark.parametrize("inventory", sorted(path.name for path in ROOT.glob("inventory/*")))
def test_inventories_set_inputs_that_exist(inventory):
    for path in (ROOT / "inventory" / inventory).rglob("*.yml"):
        for name in re.findall(r"(?m)^\s*#?\s*(websockets_\w+):", path.read_text()):
            assert name in SPEC, f"{path}: {name}"


# Documents


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        path, _, anchor = target.partition("#")
        if re.match(r"\w+:", target):
            continue
        linked = (document.parent / path).resolve() if path else document
        assert linked.exists(), target
        if anchor and linked.suffix == ".md":
            headings = re.findall(r"(?m)^#+ (.*)$", linked.read_text())
            anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in anchors, target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_of_the_tree_that_a_document_names_are_there(document):
    tops = "|".join(re.escape(path.name) for path in ROOT.iterdir() if path.is_dir() and path.name != ".git")
    for path in re.findall(rf"`((?:{tops})/[\w./*-]*)`", document.read_text()):
        assert path.startswith(EXAMPLES) or list(ROOT.glob(path.rstrip("/"))), path


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_inputs_that_a_document_names_exist(document):
    for name in re.findall(r"\bwebsockets_[a-z_]+\b", document.read_text()):
        assert name in SPEC or name == "websockets_", name


def test_the_reference_of_the_variables_is_up_to_date():
    done = subprocess.run(
        [sys.executable, ROOT / "docs/variables.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
