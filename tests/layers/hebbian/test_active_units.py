"""The form of the layer that touches only the units that learn equals the layer itself."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import plasticity
from keras_local.layers.hebbian.active_units import ActiveUnitsDense
from keras_local.plasticity import KrotovHopfield
from tests.oracles_plasticity import Krotov
from tests.plasticity.encoders import assert_close, fit_steps, hebbian, krotov, problem
from tests.support import array, probe, tensorflow_only

pytestmark = tensorflow_only


def active_units(
    kernel: np.ndarray, rule: Any, batch_size: int, dtype: str = "float32"
) -> keras.Model:
    layer = ActiveUnitsDense(kernel.astype(dtype), rule, batch_size, dtype=dtype)
    return keras.Sequential([keras.Input((len(kernel),)), layer])


def trained(
    kernel: np.ndarray, rule: Any, x: np.ndarray, batch_size: int, step_size: float, dtype: str
) -> tuple[np.ndarray, np.ndarray]:
    """The kernels after one epoch of the fast form and of `HebbianDense`."""
    fast = active_units(kernel, rule, batch_size, dtype)
    whole = hebbian(kernel, rule, dtype=dtype)
    for model in (fast, whole):
        fit_steps(model, x, step_size, batch_size)
    return array(fast.layers[0].kernel), array(whole.layers[0].kernel)


@pytest.mark.few(3)
@pytest.mark.parametrize("p", [1.5, 2.0, 3.0, 4.5])
@pytest.mark.parametrize("rank", [2, 3])
def test_fifty_steps(p: float, rank: int) -> None:
    """Few units and many samples: most units are touched by several samples of a batch."""
    x, kernel = problem(units=6, inputs=10, batch=50 * 8)
    x[1::8] = x[::8]  # The same sample twice in each batch.
    oracle = Krotov(p, rank)
    gains = oracle.gains(oracle.currents(x[:8], kernel))
    assert np.any(np.any(gains > 0.0, axis=0) & np.any(gains < 0.0, axis=0)), "both kinds at once"
    assert np.max(np.sum(gains != 0.0, axis=0)) > 2

    fast, whole = trained(kernel, krotov(oracle), x, 8, 0.1, "float64")
    assert np.max(np.abs(fast - kernel)) > 0.5
    assert_close(fast, whole, 1e-9)


@pytest.mark.parametrize("p", [2.0, 3.0])
def test_ten_steps_in_single_precision(p: float) -> None:
    x, kernel = problem(units=40, batch=120)
    fast, whole = trained(kernel, KrotovHopfield(p, rank=7), x, 12, 0.1, "float32")
    assert np.max(np.abs(fast - kernel)) > 0.09
    assert_close(fast, whole.astype("float64"), 5e-6)


PARTS: dict[str, dict[str, Any]] = {
    "mean": {"reduction": plasticity.Mean(), "normaliser": plasticity.NoNormaliser()},
    "unit-max": {"normaliser": plasticity.UnitMaxAbs()},
    "norm-distance": {"rate": plasticity.NormDistance(0.5)},
}


@pytest.mark.few(4)
@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_parts_of_the_rule(parts: dict[str, Any]) -> None:
    x, kernel = problem(units=6, inputs=10, batch=40)
    rule = KrotovHopfield(3.0, rank=3, **parts)
    fast, whole = trained(kernel, rule, x, 8, 0.02, "float64")
    plain, _ = trained(kernel, KrotovHopfield(3.0, rank=3), x, 8, 0.02, "float64")
    assert np.max(np.abs(plain - fast)) > 1e-3, "the part makes a difference"
    assert_close(fast, whole, 1e-11)


@pytest.mark.parametrize("p", [2.0, 3.0])
def test_other_units_are_not_written(p: float) -> None:
    x, kernel = problem(units=300, batch=4)
    gains = Krotov(p).gains(Krotov(p).currents(x, kernel))
    model = active_units(kernel, KrotovHopfield(p), 4)
    fit_steps(model, x, 0.5, 4)
    moved = np.any(array(model.layers[0].kernel) != kernel, axis=0)
    np.testing.assert_array_equal(moved, np.any(gains != 0.0, axis=0))


def test_shadow_of_the_metric() -> None:
    """`metric(W)` is right in every row but those of the last step, and those are remembered."""
    x, kernel = problem(units=20, batch=40)
    model = active_units(kernel, KrotovHopfield(3.0), 4)
    fit_steps(model, x, 0.5, 4)
    layer = model.layers[0]
    rows, shadow = array(layer.rows), array(layer.metric)
    right = np.all(np.isclose(shadow, rows * np.abs(rows), rtol=1e-6, atol=0.0), axis=1)
    last = np.zeros(20, bool)
    last[array(layer.touched)] = True
    assert last.sum() <= 8
    assert np.all(right | last)
    assert not np.all(right)
    moved = np.any(rows != kernel.T, axis=1)
    assert moved.sum() > last.sum()


def test_inference_uses_the_weights_as_they_are() -> None:
    """Not the shadow, which is a step behind."""
    x, kernel = problem(units=20, batch=40)
    model = active_units(kernel, KrotovHopfield(3.0), 4)
    fit_steps(model, x, 0.5, 4)
    rows = array(model.layers[0].rows)
    expected = Krotov(3.0).currents(x, rows.T)
    assert_close(model.predict(x, verbose=0), expected, 1e-6)


def test_orientation() -> None:
    kernel = probe((5, 3))
    model = active_units(kernel, KrotovHopfield(), 4)
    layer = model.layers[0]
    assert tuple(layer.rows.shape) == (3, 5)
    np.testing.assert_array_equal(array(layer.kernel), kernel)
    assert model.output_shape == layer.compute_output_shape((None, 5)) == (None, 3)


def test_a_rule_of_all_units_is_refused() -> None:
    class Everyone(plasticity.PlasticityRule):
        def gains(self, post: Any) -> Any:
            return post

    with pytest.raises(ValueError, match=r"`plasticity`.*Received"):
        ActiveUnitsDense(probe((5, 3)), Everyone(), 4)
