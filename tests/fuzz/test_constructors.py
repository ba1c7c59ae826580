"""Constructors called with anything: each call is refused by name, or makes what can be used."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import keras
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.arguments import BY_MODULE
from tests.fuzz.check import Call, Fault, check_call
from tests.fuzz.constructors import CONSTRUCTORS, RECORDS, UNKNOWN, public
from tests.fuzz.kinds import bad_values
from tests.support import tensorflow_only

pytestmark = tensorflow_only

BAD = bad_values()
LIGHT = [entry for entry in CONSTRUCTORS if not issubclass(entry[1], keras.Model)]
KERAS_OWN = ("name", "dtype", "trainable")
HEAVY = [entry for entry in CONSTRUCTORS if issubclass(entry[1], keras.Model)]


def call(seed: int, module: str | None = None) -> Call:
    """A constructor, valid arguments with up to two bad values among them, whether to build.

    All of it follows from one number: hypothesis repeats parts of what it has drawn before, which
    serves to make a failure small and wastes calls that are small anyway.
    """
    draw = random.Random(seed)
    # A network makes its weights when it is made, which takes longer.
    constructors = HEAVY if draw.randrange(8) == 0 else LIGHT
    if module is not None:
        constructors = [entry for entry in CONSTRUCTORS if entry[0] == module]
    _, cls, kinds = draw.choice(constructors)
    made: dict[str, Any] = {}
    for name, (kind, required) in kinds.items():
        if required or draw.randrange(4) == 0:
            made[name] = draw.choice(kind.valid)()
    planted: dict[str, str] = {}
    valid = dict(made)
    for _ in range(draw.choice((0, 1, 1, 1, 2)) if kinds else 0):
        name = draw.choice(sorted(kinds))
        # In its own refusals Keras prints what it received, and Python refuses to print this.
        among = [each for each in BAD if each[0] != "10**5000" or name not in KERAS_OWN]
        planted[name], make = draw.choice(among)
        made[name] = make()
    wrong = [name for name in planted if kinds[name][0].wrong(made[name])]
    return Call(cls, made, valid, planted, wrong, draw.randrange(4) == 0)


def search(cases: int, anew: bool = False, module: str | None = None) -> list[str]:
    """Make so many calls, of one module or all; return what is wrong with them, once a kind."""
    faults: Counter[str] = Counter()

    @settings(
        max_examples=cases,
        derandomize=not anew,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**62))
    def each(seed: int) -> None:
        try:
            check_call(call(seed, module))
        except Fault as fault:
            faults[str(fault)] += 1

    each()
    keras.backend.clear_session()
    return [f"{number} x {fault}" for fault, number in sorted(faults.items())]


def test_every_public_constructor_is_called() -> None:
    assert UNKNOWN == []
    called = {cls for _, cls, _ in CONSTRUCTORS}
    for module in BY_MODULE:
        classes = set(public(module).values())
        assert classes <= called, module
    assert len(called) > 110 - len(RECORDS)


@pytest.mark.daily
def test_2000_calls() -> None:
    faults = search(2000)
    assert not faults, "\n".join(faults)


@pytest.mark.thorough
@pytest.mark.timeout(3600)
def test_40000_calls() -> None:
    faults = search(40000, anew=True)
    assert not faults, "\n".join(faults)
