"""Frozen dataclasses to plain dictionaries, which Ansible can pass from task to task, and back."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def to_dict(record: Any) -> dict[str, Any]:
    """Return a dataclass, and all dataclasses in it, as dictionaries and lists."""
    return dataclasses.asdict(record)


def from_dict(kind: type[T], values: Mapping[str, Any]) -> T:
    """Return the dataclass from which :func:`to_dict` has made these values.

    Other keys are ignored: another version of this collection may have written them.

    :raises TypeError: if a value without a default is missing
    """
    fields = _fields(kind)  # type: ignore[arg-type]  # a class is hashable
    return kind(**{name: _convert(hint, values[name]) for name, hint in fields.items() if name in values})


@functools.cache
def _fields(kind: Any) -> dict[str, Any]:
    """Return {field: its type}. A host has hundreds of records of a few kinds."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _convert(hint: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if value is None:
        return None
    if origin in (typing.Union, types.UnionType):
        return _convert(arguments[0], value)
    if origin is list:
        return [_convert(arguments[0], item) for item in value]
    if origin is dict:
        return {key: _convert(arguments[1], item) for key, item in value.items()}
    return from_dict(hint, value) if isinstance(hint, type) and dataclasses.is_dataclass(hint) else value
