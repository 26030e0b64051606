"""The collection refuses an old ansible-core in one line, before it looks at a host."""

import importlib

import ansible.template
import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.release import __version__
from role import ROOT, load


def test_error_names_the_version_that_is_needed(monkeypatch):
    plan = load("action/plan")
    monkeypatch.delattr(ansible.template, "trust_as_template")  # ansible-core 2.18 does not have it
    with pytest.raises(AnsibleError) as refused:
        importlib.reload(plan)
    needed = yaml.safe_load(ROOT.joinpath("meta/runtime.yml").read_text())["requires_ansible"]
    version = needed.removeprefix(">=").removesuffix(".0")
    assert str(refused.value) == f"websockets.deploy needs ansible-core {version} or newer; this is {__version__}."
