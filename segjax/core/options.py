"""Groups of settings as frozen dataclasses: how a key is declared, and how texts and nested dicts are read by that.

A group is a dataclass whose fields are made by `option`; what is impossible in it alone is refused by its
`__post_init__`.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from segjax.core.errors import ConfigError, suggest

Groups = Mapping[str, type]


def option(default: Any, doc: str, *, choices: Sequence[Any] = (), minimum: float | None = None) -> Any:
    """A schema field: its default, what it means, the values it may take."""
    metadata = {"doc": doc, "choices": tuple(choices), "minimum": minimum}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def plain(value: Any) -> Any:
    """Nested dicts and lists of JSON values."""
    if hasattr(value, "to_dict"):  # ConfigDict, without importing ml_collections here
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}  # as JSON will have them
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def flatten(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of nested dicts; an empty one is a value."""
    for key, value in record.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


@functools.cache
def hints(cls: type) -> dict[str, Any]:
    """The types of a group's fields."""
    return typing.get_type_hints(cls)


def parse(text: str, kind: Any) -> Any:
    """What the command line's `text` says of a key of that type; what no literal is stays a text."""
    if kind is str or (_is_union(kind) and str in typing.get_args(kind) and not text.startswith(("(", "["))):
        return None if text == "None" and type(None) in typing.get_args(kind) else text
    try:
        return ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(text, text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # a list as a key; too deep for a parser
        return text


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def build(cls: type, record: Any, prefix: str = "", groups: Groups | None = None) -> Any:
    """A checked `cls` from a nested dict; keys left out take their defaults.

    Args:
      cls: the group.
      record: the dict.
      prefix: of its keys in messages, such as `eval.`.
      groups: the classes of fields that are declared without one.

    Raises:
      ConfigError: a misspelt key, a wrong type, a value out of range.
    """
    if not isinstance(record, Mapping):
        raise ConfigError(f"config.{prefix[:-1]}: {record!r} is not a group of keys.")
    kinds = {**hints(cls), **(groups or {})}
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in record:
        if key not in fields:
            raise ConfigError(f"config.{prefix}{key}: no such key.{suggest(str(key), fields)}")
    values = {}
    for key, value in record.items():
        path, kind = f"{prefix}{key}", kinds[key]
        if dataclasses.is_dataclass(kind):
            values[key] = build(kind, value, path + ".")
        else:
            values[key] = _coerce(value, kind, path)
            _check_range(values[key], fields[key].metadata, path)
    return cls(**values)


def _coerce(value: Any, kind: Any, key: str) -> Any:
    """`value` as `kind`, where no information is lost by it."""
    if kind is Any:
        return value
    if _is_union(kind):
        arms = typing.get_args(kind)
        if value is None and type(None) in arms:
            return None
        for arm in arms:
            if arm is not type(None) and _fits(value, arm):
                return _coerce(value, arm, key)
    elif _fits(value, kind):
        if typing.get_origin(kind) is tuple:
            arms = typing.get_args(kind)
            item = [arms[0]] * len(value) if arms[-1] is Ellipsis else arms
            return tuple(_coerce(v, t, key) for v, t in zip(value, item))
        return dict(value) if kind is dict else kind(value)
    raise ConfigError(f"config.{key}: {value!r} is not {type_name(kind)}.")


def _fits(value: Any, kind: Any) -> bool:
    if typing.get_origin(kind) is tuple:
        arms = typing.get_args(kind)
        if not isinstance(value, list | tuple) or (arms[-1] is not Ellipsis and len(value) != len(arms)):
            return False
        return all(_fits(v, arms[0]) for v in value)
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float)
    if kind is int:
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return isinstance(value, Mapping if kind is dict else kind)


def type_name(kind: Any) -> str:
    """A type for people: `a whole number`, `None or a tuple of 2 ints, such as (128, 128)`."""
    if _is_union(kind):
        return " or ".join(type_name(arm) for arm in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        arms = typing.get_args(kind)
        if arms[-1] is Ellipsis:
            return f"a tuple of {arms[0].__name__}s"
        return f"a tuple of {len(arms)} {arms[0].__name__}s, such as ({', '.join(['128'] * len(arms))})"
    plain = {int: "a whole number", float: "a number", str: "a text", bool: "True or False", dict: "a dict"}
    return "None" if kind is type(None) else plain.get(kind, str(kind))


def _check_range(value: Any, metadata: Mapping[str, Any], key: str) -> None:
    if metadata["choices"] and value not in metadata["choices"]:
        near = suggest(str(value), map(str, metadata["choices"]))
        raise ConfigError(f"config.{key}: {value!r} is not one of {', '.join(map(str, metadata['choices']))}.{near}")
    if metadata["minimum"] is not None:
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not number >= metadata["minimum"]:
                raise ConfigError(f"config.{key}: {number!r} is below {metadata['minimum']}.")
