"""One form for every refusal: the argument, what is allowed, what was received."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any


def require(condition: bool, argument: str, allowed: str, received: Any) -> None:
    """Raise a `ValueError` naming `argument` unless `condition` holds."""
    if not condition:
        raise ValueError(f"`{argument}` must be {allowed}. Received: {argument}={received!r}")


def positive_integer(argument: str, value: Any, minimum: int = 1) -> int:
    """Return `value` as an int of at least `minimum`."""
    valid = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    allowed = f"an integer of at least {minimum}"
    require(valid and int(value) >= minimum, argument, allowed, value)
    return int(value)


def real(
    argument: str,
    value: Any,
    minimum: float = float("-inf"),
    maximum: float = float("inf"),
    exclusive: bool = False,
) -> float:
    """Return `value` as a finite float in `[minimum, maximum]` (open below if `exclusive`)."""
    valid = isinstance(value, numbers.Real) and not isinstance(value, bool)
    number = float(value) if valid else float("nan")
    inside = number > minimum if exclusive else number >= minimum
    bounds = []
    if minimum != float("-inf"):
        bounds.append(f"{'greater than' if exclusive else 'at least'} {minimum:g}")
    if maximum != float("inf"):
        bounds.append(f"at most {maximum:g}")
    allowed = "a finite number" + (" " + " and ".join(bounds) if bounds else "")
    finite = abs(number) != float("inf")
    require(valid and finite and inside and number <= maximum, argument, allowed, value)
    return number


def one_of(argument: str, value: Any, options: Sequence[Any]) -> Any:
    """Return `value` if it is among `options`."""
    allowed = "one of " + ", ".join(repr(option) for option in options)
    require(value in options, argument, allowed, value)
    return value


def sizes(argument: str, value: Any, rank: int, minimum: int = 1) -> tuple[int, ...]:
    """Return `value`, one integer or `rank` of them, as a tuple of `rank` integers."""
    items = [value] * rank if isinstance(value, numbers.Integral) else value
    valid = (
        isinstance(items, Sequence)
        and len(items) == rank
        and all(isinstance(item, numbers.Integral) and int(item) >= minimum for item in items)
    )
    require(valid, argument, f"an integer of at least {minimum}, or {rank} of them", value)
    return tuple(int(item) for item in items)


def factors(argument: str, value: Any, layers: int) -> tuple[float, ...]:
    """Return `value`, a factor of at least 0 for each of `layers` layers; 1 for None."""
    if value is None:
        return (1.0,) * layers
    valid = isinstance(value, Sequence) and len(value) == layers
    require(valid, argument, f"{layers} factors, one for each weight layer", value)
    return tuple(real(argument, factor, minimum=0.0) for factor in value)


def instance(argument: str, value: Any, kind: type) -> Any:
    """Return `value` if it is an object of `kind`."""
    require(isinstance(value, kind), argument, f"a {kind.__name__}", value)
    return value
