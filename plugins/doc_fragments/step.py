"""What the documentation of all modules has in common: each is one step of the role."""

from __future__ import annotations


class ModuleDocFragment:
    """The fragments ``websockets.deploy.step`` and ``websockets.deploy.step.run``."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    support: full
  platform:
    support: full
    platforms: debian
"""

    # For a module that works under the host's lock.
    RUN = r"""
options:
  run:
    description:
      - This run of C(ansible-playbook), as the action M(websockets.deploy.plan) returns it.
      - The host's lock belongs to it.
    type: dict
    required: true
"""
