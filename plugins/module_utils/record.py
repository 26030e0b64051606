"""Frozen dataclasses to plain dictionaries, which Ansible can pass from task to task, and back."""

from __future__ import annotations

import dataclasses
import functools
import json
import time
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

    :raises TypeError: if a value without a default is missing, or a value has another type
    """
    if not isinstance(values, Mapping):
        raise TypeError(f"{values!r} is no {kind.__name__}")
    fields = _fields(kind)  # type: ignore[arg-type]  # a class is hashable
    return kind(**{name: _convert(hint, values[name]) for name, hint in fields.items() if name in values})


def load(path: str) -> Any:
    """Return what a file of JSON has. A person or a full disk may have left anything in it.

    :raises ValueError: if it is not JSON, or has a text that is not UTF-8, which Ansible refuses to pass on
    :raises OSError: if it cannot be read
    """
    with open(path, "rb") as file:
        text = file.read()
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False).encode()  # a lone surrogate stands for a byte that is not UTF-8
    except RecursionError:
        raise ValueError(f"{path} is nested too deep") from None
    return found


def readable(value: Any) -> Any:
    r"""Return a value made of JSON's types with each byte that is not UTF-8 as an escape, such as ``caf\xe9.txt``.

    A file's name may have such bytes. Ansible fails at the first one, with a message that does not name it.
    """
    if isinstance(value, str):
        return (
            value if value.isascii() else value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        )
    if isinstance(value, Mapping):
        return {readable(key): readable(item) for key, item in value.items()}
    return [readable(item) for item in value] if isinstance(value, (list, tuple)) else value


@functools.cache
def _fields(kind: Any) -> dict[str, Any]:
    """Return {field: its type}. A host has hundreds of records of a few kinds."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _convert(hint: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        if len(arguments) > 2 or type(None) not in arguments:
            return _check(arguments, value)
        return _convert(arguments[0], value)
    if origin is list:
        return [_convert(arguments[0], item) for item in _check(list, value)]
    if origin is dict:
        return {_check(str, key): _convert(arguments[1], item) for key, item in _check(dict, value).items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_dict(hint, value)
    return value if hint is Any else _check((int, float) if hint is float else hint, value)


def _check(kind: Any, value: Any) -> Any:
    """Return a value of this type. For Python, but not for JSON, true is a number too."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{value!r} is no {kind}")
    return value


def stamp(seconds: float) -> str:
    """Return seconds since the epoch as local time, for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
