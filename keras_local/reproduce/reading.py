"""Tables of a TOML file, read into frozen dataclasses that check values."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from keras_local import _validation as check

T = TypeVar("T")


def parsed(text: str, source: str) -> dict[str, Any]:
    """Return the table that a TOML text contains.

    Raises:
        ValueError: If the text is not TOML; the message begins with `source`.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{source}: not TOML: {error}") from error


def read_table(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """Return a dataclass from a table whose entries are exactly its fields.

    Fields are numbers, strings, flags, lists of them, other dataclasses (a table, or a table of
    tables by name), or `Any`, which is handed on as it is.

    Raises:
        ValueError: If an entry is unknown, missing or of the wrong type, or its value is refused;
            the message begins with `where`.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(table) - set(fields))
    if unknown:
        raise ValueError(
            f"{where}: unknown entry {unknown[0]!r}. Allowed: {', '.join(fields)}. "
            f"Received: {', '.join(table)}"
        )
    values = {}
    for name, field in fields.items():
        if name in table:
            values[name] = _convert(hints[name], table[name], f"{where}: {name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(
                f"{where}: entry {name!r} is missing. Received: {', '.join(table) or 'no entries'}"
            )
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def counts(settings: Any, *names: str, minimum: int = 1) -> None:
    """Refuse fields that are not None and not an integer of at least `minimum`."""
    for name in names:
        value = getattr(settings, name)
        if value is not None:
            check.positive_integer(name, value, minimum)


def choices(settings: Any) -> None:
    """Refuse fields whose type is a `Literal`, or a tuple of it, with a value that is not in it."""
    for name, hint in typing.get_type_hints(type(settings)).items():
        several = typing.get_origin(hint) is tuple
        kind = typing.get_args(hint)[0] if several else hint
        if typing.get_origin(kind) is typing.Literal:
            value = getattr(settings, name)
            for each in value if several else (value,):
                check.one_of(name, each, typing.get_args(kind))


def _convert(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if isinstance(hint, types.UnionType):  # only `kind | None`: TOML has no None
        return _convert(typing.get_args(hint)[0], value, where)
    if dataclasses.is_dataclass(hint):
        return read_table(typing.cast(type, hint), _table(value, where), where)
    origin, kinds = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value  # The dataclass refuses others, see `choices`.
    if origin is dict:
        table = _table(value, where)
        return {name: _convert(kinds[1], each, f"{where}: {name}") for name, each in table.items()}
    if origin is tuple:
        return _several(kinds[0], value, where)
    kind = hint
    if not _is(kind, value):
        raise ValueError(f"{where}: must be of type {kind.__name__}. Received: {value!r}")
    return kind(value)


def _several(kind: Any, value: Any, where: str) -> tuple[Any, ...]:
    simple = kind is not Any and isinstance(kind, type)
    simple = simple and typing.get_origin(kind) is None
    if not isinstance(value, list) or (simple and not all(_is(kind, item) for item in value)):
        name = kind.__name__ if simple else "entries"
        raise ValueError(f"{where}: must be a list of {name}. Received: {value!r}")
    if simple:
        return tuple(value)
    return tuple(_convert(kind, item, f"{where}: {place}") for place, item in enumerate(value))


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: must be a table. Received: {value!r}")
    return value


def _is(kind: type, value: Any) -> bool:
    # TOML distinguishes 1 from 1.0 and from true, but a whole number is also a number.
    if isinstance(value, bool) or kind is bool:
        return kind is bool and isinstance(value, bool)
    return isinstance(value, (int, float) if kind is float else kind)
