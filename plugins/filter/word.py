"""Jinja filters for templates/run.j2: they quote values as words of a shell script."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping

from ..module_utils.release import shell_word


def words(command: str, placeholders: Mapping[str, object]) -> str:
    """Return a command with each word quoted. The command is split as a shell does; nothing else in it has a meaning."""
    return " ".join(shell_word(word, placeholders) for word in shlex.split(command))


class FilterModule:
    """The filters ``word`` (one value) and ``words`` (a command)."""

    def filters(self) -> dict[str, Callable[..., str]]:
        return {"word": shell_word, "words": words}
