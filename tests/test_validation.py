"""Refusals name the argument, what is allowed and what was received, whatever was given."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from keras_local import _validation as check

HUGE = 10**5000


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


ANYTHING = (None, "three", [], {}, float("nan"), HUGE, -HUGE, int, Unprintable(), np.ones(3))
CHECKS: dict[str, Callable[[Any], Any]] = {
    "flag": lambda value: check.flag("some", value),
    "integer": lambda value: check.positive_integer("some", value),
    "real": lambda value: check.real("some", value, minimum=0.0),
    "one of": lambda value: check.one_of("some", value, ("same", "valid", 1)),
    "sizes": lambda value: check.sizes("some", value, 2),
    "instance": lambda value: check.instance("some", value, Fraction),
    "function": lambda value: check.function("some", value),
    "resolved": lambda value: check.resolved("some", value, {"a": 1}.__getitem__, "a name"),
}


@pytest.mark.parametrize("checked", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("value", ANYTHING, ids=lambda value: type(value).__name__)
def test_anything_else_is_refused_by_name(checked: Callable[[Any], Any], value: Any) -> None:
    with pytest.raises(ValueError, match=r"`some` must be .*Received: some=") as error:
        checked(value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("value", [True, False, np.True_, np.False_])
def test_flags(value: Any) -> None:
    assert check.flag("some", value) is bool(value)


@pytest.mark.parametrize("value", [0, 1, "True", None, [], np.ones(1), np.array(True)])
def test_no_flags(value: Any) -> None:
    with pytest.raises(ValueError, match="`some` must be True or False"):
        check.flag("some", value)


def test_numbers_of_other_libraries() -> None:
    assert check.positive_integer("some", np.int64(3)) == 3
    assert check.real("some", np.float32(0.5)) == 0.5
    assert check.real("some", Fraction(1, 4)) == 0.25
    assert check.sizes("some", (np.int32(2), 3), 2) == (2, 3)


def test_bools_are_no_numbers() -> None:
    for name in ("integer", "real", "sizes", "one of"):
        for value in (True, np.True_):
            with pytest.raises(ValueError, match="`some`"):
                CHECKS[name](value)


def test_bytes_are_no_sizes() -> None:
    """Python takes bytes for a sequence of integers."""
    for value in (b"12", bytearray(b"12")):
        with pytest.raises(ValueError, match="`some`"):
            CHECKS["sizes"](value)


def test_bounds() -> None:
    assert check.positive_integer("some", 2**31 - 1) == 2**31 - 1
    with pytest.raises(ValueError, match="at least 1 and at most 2147483647"):
        check.positive_integer("some", 2**31)
    assert check.seed("seed", None) is None
    assert check.seed("seed", 2**32 - 1) == 2**32 - 1
    with pytest.raises(ValueError, match="`seed`"):
        check.seed("seed", -1)
    with pytest.raises(ValueError, match="`some`"):
        check.real("some", math.inf)


def test_a_class_in_place_of_an_object() -> None:
    with pytest.raises(ValueError, match=r"not its class \(write `Fraction\(\.\.\.\)`\)"):
        check.instance("some", Fraction, Fraction)


def test_the_cause_is_kept() -> None:
    with pytest.raises(ValueError, match=r"`some` must be a name\. Received: some='b'") as error:
        CHECKS["resolved"]("b")
    assert isinstance(error.value.__cause__, KeyError)
