"""Checks of arguments, with one form of message: the argument, what is allowed and received."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import numpy as np

_SHOWN = 300
LARGEST = 2**31 - 1
"""The largest size or count: indices and sizes of tensors have 32 bits."""


def require(condition: bool, argument: str, allowed: str, received: Any) -> None:
    """Raise a `ValueError` naming `argument` unless `condition` holds."""
    if not condition:
        raise ValueError(refusal(argument, allowed, received))


def refusal(argument: str, allowed: str, received: Any) -> str:
    """Return the message of a refusal, for errors of another type than `ValueError`."""
    return f"`{argument}` must be {allowed}. Received: {argument}={shown(received)}"


def shown(value: Any) -> str:
    """Return a `repr` of bounded length for any object."""
    try:
        text = repr(value)
    except Exception:  # A `repr` may raise any error; Python refuses integers of 4301 digits.
        return f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def flag(argument: str, value: Any) -> bool:
    """Return `value`, True or False (of Python or NumPy), as a bool."""
    require(isinstance(value, (bool, np.bool_)), argument, "True or False", value)
    return bool(value)


def positive_integer(argument: str, value: Any, minimum: int = 1, maximum: int = LARGEST) -> int:
    """Return `value` as an int of at least `minimum` and at most `maximum`."""
    allowed = f"an integer of at least {minimum}"
    valid = _is_integer(value)
    if valid and int(value) > maximum:
        allowed += f" and at most {maximum}"
    require(valid and minimum <= int(value) <= maximum, argument, allowed, value)
    return int(value)


def seed(argument: str, value: Any) -> int | None:
    """Return `value`, None or an integer from 0 to 2^32 - 1, as an int or None."""
    return None if value is None else positive_integer(argument, value, 0, 2**32 - 1)


def real(
    argument: str,
    value: Any,
    minimum: float = float("-inf"),
    maximum: float = float("inf"),
    exclusive: bool = False,
) -> float:
    """Return `value` as a finite float in `[minimum, maximum]` (open below if `exclusive`)."""
    number = _as_float(value)
    inside = number > minimum if exclusive else number >= minimum
    bounds = []
    if minimum != float("-inf"):
        bounds.append(f"{'greater than' if exclusive else 'at least'} {minimum:g}")
    if maximum != float("inf"):
        bounds.append(f"at most {maximum:g}")
    allowed = "a finite number" + (" " + " and ".join(bounds) if bounds else "")
    finite = abs(number) != float("inf")
    require(finite and inside and number <= maximum, argument, allowed, value)
    return number


def one_of(argument: str, value: Any, options: Sequence[Any]) -> Any:
    """Return `value` if it is among `options`."""
    allowed = "one of " + ", ".join(repr(option) for option in options)
    # An array compares entry by entry, and True equals 1.
    found = any(_same_kind(value, option) and bool(value == option) for option in options)
    require(found, argument, allowed, value)
    return value


def is_sequence(value: Any) -> TypeGuard[Sequence[Any]]:
    """Return whether `value` is a list, a tuple or similar; text and bytes are single values."""
    return isinstance(value, Sequence) and not isinstance(
        value, str | bytes | bytearray | memoryview
    )


def sizes(argument: str, value: Any, rank: int, minimum: int = 1) -> tuple[int, ...]:
    """Return `value`, one integer or `rank` of them, as a tuple of `rank` integers."""
    items = [value] * rank if _is_integer(value) else value
    valid = (
        is_sequence(items)
        and len(items) == rank
        and all(_is_integer(item) and minimum <= int(item) <= LARGEST for item in items)
    )
    require(valid, argument, f"an integer of at least {minimum}, or {rank} of them", value)
    return tuple(int(item) for item in items)


def factors(argument: str, value: Any, layers: int) -> tuple[float, ...]:
    """Return `value`, a factor of at least 0 for each of `layers` layers; None means 1 for all."""
    if value is None:
        return (1.0,) * layers
    valid = is_sequence(value) and len(value) == layers
    require(valid, argument, f"{layers} factors, one for each weight layer", value)
    return tuple(real(argument, factor, minimum=0.0) for factor in value)


def instance(argument: str, value: Any, kind: type | tuple[type, ...], allowed: str = "") -> Any:
    """Return `value` if it is an object of `kind`, or of one of several kinds.

    Args:
        argument: Name of the argument.
        value: The argument.
        kind: The class or interface, or several.
        allowed: The allowed values, in words; by default derived from `kind`.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    allowed = allowed or " or ".join(f"{_article(each)} {each.__name__}" for each in kinds)
    if isinstance(value, type) and issubclass(value, kinds):
        allowed += f" and not its class (write `{value.__name__}(...)`)"
    require(isinstance(value, kinds), argument, allowed, value)
    return value


def text(argument: str, value: Any) -> str:
    """Return `value` if it is a string that is not empty."""
    require(isinstance(value, str) and bool(value), argument, "a string that is not empty", value)
    return str(value)


def function(argument: str, value: Any, allowed: str = "a function") -> Any:
    """Return `value` if it can be called and is not a class."""
    require(callable(value) and not isinstance(value, type), argument, allowed, value)
    return value


def resolved(argument: str, value: Any, get: Callable[[Any], Any], allowed: str) -> Any:
    """Return the result of one of Keras' `get` functions, or name the argument in an error.

    For example `resolved("optimizer", optimizer, keras.optimizers.get, "a Keras optimizer")`.
    """
    try:
        found = get(value)
    except Exception as error:  # Keras' own messages do not contain the argument's name.
        raise ValueError(refusal(argument, allowed, value)) from error
    require(found is not None or value is None, argument, allowed, value)
    return found


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _as_float(value: Any) -> float:
    """Return a number as a float, or NaN for anything else and for numbers beyond floats."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return float("nan")
    try:
        return float(value)
    except OverflowError:
        return float("nan")


def _same_kind(value: Any, option: Any) -> bool:
    if _is_integer(option):
        return _is_integer(value)
    return isinstance(value, type(option))


def _article(kind: type) -> str:
    return "an" if kind.__name__[0] in "AEIOU" else "a"
