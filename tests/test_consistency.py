"""Things that have to agree: defaults and specification, inputs and their use, names, documents and the tree."""

import re
import subprocess
import sys

import pytest
import yaml
from ansible_collections.websockets.deploy.plugins.module_utils.inputs import HIDDEN
from role import ROLE, ROOT


def parsed(path):
    return yaml.safe_load(path.read_text())


def walk(value):
    """Yield each (key, value) of all mappings in what YAML has parsed."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield key, inner
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(inner)


SPECS = parsed(ROLE / "meta/argument_specs.yml")["argument_specs"]
SPEC = SPECS["deploy"]["options"]
DEFAULTS = parsed(ROLE / "defaults/main.yml")
GALAXY = parsed(ROOT / "galaxy.yml")
COLLECTION = f"{GALAXY['namespace']}.{GALAXY['name']}"
TASKS = {path.stem: parsed(path) for path in sorted(ROLE.glob("tasks/*.yml"))}
PLAYBOOKS = {path.stem: parsed(path) for path in sorted(ROOT.glob("playbooks/*.yml"))}
# Files that the documents tell you to make.
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


# tests/test_rollback.py sees where a rollback goes.
@pytest.mark.parametrize("name", [name for name in SPEC if name != "websockets_rollback_to"])
def test_an_input_is_used(name):
    """A check of an input is not a use, so module_utils/inputs.py does not count."""
    short = name.removeprefix("websockets_")
    used = [
        *(ROLE / "tasks").iterdir(),
        *(ROLE / "templates").rglob("*.j2"),
        *ROOT.glob("plugins/action/*.py"),
        *ROOT.glob("plugins/module_utils/*.py"),
        *ROOT.glob("playbooks/*.yml"),
    ]
    text = "".join(path.read_text() for path in used if path.name != "inputs.py")
    assert re.search(rf'\b{name}\b|\binputs\.{short}\b|"{short}"', text)


@pytest.mark.parametrize("name", SPEC)
def test_a_secret_input_is_marked_as_one(name):
    assert not SPEC[name].get("no_log") or name.removeprefix("websockets_") in HIDDEN


def test_internal_names_have_the_internal_prefix():
    names = [value for key, value in walk(list(TASKS.values())) if key == "register"]
    names += [name for path in ROLE.glob("vars/*.yml") for name in parsed(path)]
    assert [name for name in names if not name.startswith("__websockets_")] == []


# Names of the collection


def entry_points():
    """Return the task files by which playbooks enter the role; the role itself enters deploy.yml for each app."""
    named = {value for key, value in walk(list(PLAYBOOKS.values())) if key == "tasks_from"}
    return {"deploy", *(name.removesuffix(".yml") for name in named)}


def test_every_entry_point_that_playbooks_use_has_a_specification():
    assert set(SPECS) == entry_points()


@pytest.mark.parametrize("entry_point", SPECS)
def test_an_entry_point_has_inputs_of_a_deploy_and_says_what_it_does(entry_point):
    spec = SPECS[entry_point]
    assert spec["short_description"] and spec["description"]
    assert {name: SPEC.get(name) for name in spec["options"]} == spec["options"]


def test_every_role_task_file_is_reached():
    steps = ("ansible.builtin.import_tasks", "ansible.builtin.include_tasks")
    included = {value.removesuffix(".yml") for key, value in walk(list(TASKS.values())) if key in steps}
    assert {"main"} | entry_points() | included == set(TASKS)


def test_names_in_tasks_and_playbooks_are_ansibles_or_the_collections_own():
    for key, value in walk([TASKS, PLAYBOOKS]):
        prefix, _, name = str(key).rpartition(".")
        if prefix.count(".") == 1 and prefix != "ansible.builtin":
            assert prefix == COLLECTION, key
            assert list(ROOT.glob(f"plugins/*/{name}.py")), key
        if key == "role" or str(key).endswith("_role"):
            used = value if key == "role" else value["name"]
            assert used == f"{COLLECTION}.websockets"


@pytest.mark.parametrize("inventory", sorted(path.name for path in ROOT.glob("inventory/*")))
def test_inventories_set_inputs_that_exist(inventory):
    for path in (ROOT / "inventory" / inventory).rglob("*.yml"):
        for name in re.findall(r"(?m)^\s*#?\s*(websockets_\w+):", path.read_text()):
            assert name in SPEC, f"{path}: {name}"


# Documents


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= 1000


def test_readme_has_a_link_to_each_page():
    linked = re.findall(r"\]\((docs/\w+\.md)\)", (ROOT / "README.md").read_text())
    assert {str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md")} == set(linked)


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
def test_roles_and_playbooks_that_a_document_names_have_the_collections_name(document):
    own = "|".join({ROLE.name, *PLAYBOOKS})
    for prefix in re.findall(rf"(?<![\w./])(\w+\.\w+)\.(?:{own})\b(?!\.)", document.read_text()):
        assert prefix == COLLECTION


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_inputs_that_a_document_names_exist(document):
    # The name of an upstream is no input.
    for name in re.findall(r"(?<!http://)\bwebsockets_[a-z_]+\b", document.read_text()):
        assert name in SPEC or name == "websockets_", name


def test_the_reference_of_the_variables_is_up_to_date():
    done = subprocess.run(
        [sys.executable, ROOT / "docs/variables.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
