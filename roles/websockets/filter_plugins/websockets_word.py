"""Jinja filters for templates/run.j2: values as words of a shell script that mean just themselves."""

from __future__ import annotations

import os
import shlex

import ansible.module_utils

ansible.module_utils.__path__.append(os.path.join(os.path.dirname(os.path.dirname(__file__)), "module_utils"))
from ansible.module_utils.websockets.release import shell_word  # noqa: E402


def words(command, placeholders):
    """Return a command, split as a shell would split it but with nothing else of a shell."""
    return " ".join(shell_word(word, placeholders) for word in shlex.split(command))


class FilterModule:
    """The filters ``websockets_word`` (one value) and ``websockets_words`` (a command)."""

    def filters(self):
        return {"websockets_word": shell_word, "websockets_words": words}
