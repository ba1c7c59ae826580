"""Models called with any data: no silent NaN, no hang, nothing changed by a refused call."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.data import DataCall, benches, draw_call, numbers, perform
from tests.support import tensorflow_only

pytestmark = tensorflow_only

LIMIT = 120
"""Seconds after which a call is taken to hang."""

LEAKS = ("Matrix size-incompatible", "StopIteration", "Incompatible shapes", "Dimensions must be")
"""What the backend says where nobody has looked before."""


class Hangs(BaseException):
    """A call took too long."""


@contextmanager
def limited() -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fault_of(call: DataCall, make: Callable[[], dict[str, Any]]) -> str | None:
    """Make the call; what is wrong with it, if anything."""
    ours, stock = benches(call)
    try:
        with limited():
            result = perform(ours, call.method, make())
    except Hangs:
        return "hangs"
    except Exception as error:
        if stock is not None and _fails(stock, call, make):
            return None
        return _fault_of_refusal(error) or _changed(ours.changes(), str(error))
    finally:
        wrong = [path for path, bad in _not_finite(ours) if bad]
        ours.restore()
    if stock is not None:
        return _other_than(stock, call, make, result)
    if wrong:
        return f"accepted, and {wrong[:2]} are not finite"
    if not np.all(np.isfinite(numbers(result))):
        return "accepted, and the result is not finite"
    return None


def _fault_of_refusal(error: Exception) -> str | None:
    message, name = str(error), type(error).__name__
    # A check in a graph stops it with the backend's own error.
    in_graph = name == "InvalidArgumentError" and any(
        word in message for word in ("label", "finite", "class")
    )
    if any(leak in message for leak in LEAKS) or not (
        isinstance(error, (ValueError, TypeError)) or in_graph
    ):
        return f"{name}: {message:.120}"
    return None


def _changed(paths: list[str], message: str) -> str | None:
    # Whoever learns until it diverges keeps the last finite weights.
    if not paths or "Learning diverged" in message:
        return None
    return f"refused, and changed {paths[:3]}: {message:.300}"


def _not_finite(bench: Any) -> list[tuple[str, bool]]:
    return [
        (variable.path, value.dtype.kind == "f" and not np.isfinite(value).all())
        for variable, (value, _) in zip(bench.variables(), bench.state(), strict=True)
    ]


def _fails(stock: Any, call: DataCall, make: Callable[[], dict[str, Any]]) -> bool:
    try:
        with limited():
            perform(stock, call.method, make())
    except Hangs:
        return True
    except Exception:
        return True
    finally:
        stock.restore()
    return False


def _other_than(
    stock: Any, call: DataCall, make: Callable[[], dict[str, Any]], result: Any
) -> str | None:
    try:
        expected = numbers(perform(stock, call.method, make()))
    except Exception as error:
        return f"accepted, and refused by stock layers: {error!s:.100}"
    finally:
        stock.restore()
    found = numbers(result)
    same = found.shape == expected.shape and np.allclose(
        found, expected, rtol=1e-4, atol=1e-6, equal_nan=True
    )
    return None if same else f"another result than that of stock layers: {found} {expected}"


def search(cases: int, anew: bool = False, subject: str | None = None) -> list[str]:
    """Make so many calls; return what is wrong with them, once a kind."""
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
        call, make = draw_call(seed, subject)
        fault = fault_of(call, make)
        if fault is not None:
            faults[f"{call}: {fault}"] += 1

    each()
    return [f"{number} x {fault}" for fault, number in sorted(faults.items())]


@pytest.mark.daily
@pytest.mark.timeout(900)
def test_300_calls() -> None:
    faults = search(300)
    assert not faults, "\n".join(faults)


@pytest.mark.thorough
@pytest.mark.timeout(3600)
def test_3000_calls() -> None:
    faults = search(3000, anew=True)
    assert not faults, "\n".join(faults)
