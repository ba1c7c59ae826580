"""Measures of experiments on tasks whose answer is known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from keras_local.reproduce.measures import feedback_rules


def angle(rule: str, condition: float = 30.0, steps: int = 2000, **arguments: Any) -> float:
    run: Any = SimpleNamespace(seed=0)
    table = {"name": rule, **arguments}
    outcome = feedback_rules.fixed_point(run, table, [6, 5], 2.0, steps, condition=condition)
    return outcome.final["angle"]


def test_feedback_kernels_end_where_the_formulas_say() -> None:
    """Activity matters to AA only for the time that it needs; in WM its covariance stays."""
    assert angle("SymmetricAlignment", steps=0) > 60.0
    assert angle("SymmetricAlignment") < 0.1
    assert angle("ActivationAlignment") < 3.5
    of_inputs = {"noise": {"name": "none"}, "centre": False}
    assert angle("WeightMirror", condition=1.0, **of_inputs) < 1.0
    assert angle("WeightMirror", **of_inputs) > 20.0


def test_a_condition_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="condition"):
        angle("SymmetricAlignment", condition=0.5)
