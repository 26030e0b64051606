"""Jinja filters for templates/run.j2: values as words of a shell script that mean just themselves."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping

from ..module_utils.release import shell_word


def words(command: str, placeholders: Mapping[str, object]) -> str:
    """Return a command, split as a shell would split it but with nothing else of a shell."""
    return " ".join(shell_word(word, placeholders) for word in shlex.split(command))


class FilterModule:
    """The filters ``word`` (one value) and ``words`` (a command)."""

    def filters(self) -> dict[str, Callable[..., str]]:
        return {"word": shell_word, "words": words}
