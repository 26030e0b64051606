"""The hosts of a play: those of the group, if there are any."""

from __future__ import annotations

DOCUMENTATION = r"""
---
name: hosts
short_description: The hosts of a play, which are at least one
version_added: 1.1.0
description:
  - This lookup returns the name of a group for the keyword C(hosts) of a play. It fails if the inventory has no host in
    this group, or if C(--limit) leaves none, where Ansible itself would skip the play and report success.
author: The authors of this repository (!UNKNOWN)
options:
  _terms:
    description: Name of the group.
    required: true
"""

EXAMPLES = r"""
---
- name: Deploy
  hosts: "{{ lookup('websockets.deploy.hosts', 'websockets') }}"
  roles:
    - role: websockets.deploy.websockets
"""

RETURN = r"""
---
_raw:
  description: The name of the group.
  type: list
  elements: str
"""

import os
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.inventory.manager import InventoryManager
from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):
    """The lookup ``hosts``."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        (name,), known = terms, variables or {}
        groups: dict[str, list[str]] = known.get("groups", {})
        sources = [str(source) for source in known.get("ansible_inventory_sources") or []]
        inventory = f"The inventory {' and '.join(map(repr, sources))}"
        for source in sources:
            if "," not in source and not os.path.exists(source):
                raise AnsibleLookupError(f"There is no inventory {source!r}.")
        if name not in groups:
            there = ", ".join(sorted(set(groups) - {"all", "ungrouped"})) or "none"
            raise AnsibleLookupError(f"{inventory} has no group {name!r}; its groups: {there}.")
        if not groups[name]:
            raise AnsibleLookupError(f"{inventory} has no host in its group {name!r}.")
        limit = known.get("ansible_limit")
        if limit and not self._left(groups, name, limit):
            there = ", ".join(groups[name][:5])
            raise AnsibleLookupError(f"--limit {limit!r} leaves no host of the group {name!r}; it has {there}.")
        return [name]

    def _left(self, groups: dict[str, list[str]], name: str, limit: str) -> list[Any]:
        """Return the hosts of a group that are within a limit."""
        manager = InventoryManager(self._loader, parse=False)
        for group, hosts in groups.items():
            manager.add_group(group)
            for host in hosts:
                manager.add_host(host, group=group)
        manager.subset(limit)
        return list(manager.list_hosts(name))
