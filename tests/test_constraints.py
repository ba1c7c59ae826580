"""What weights must obey after a step, whatever the optimizer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers
from keras_local.constraints import MeanRate, NonNegative, Orthogonal, UnitLength
from keras_local.plasticity import Hebb, NonlinearHebbian
from tests.support import array, compile_options, probe

tensor = keras.ops.convert_to_tensor


@pytest.mark.parametrize("p", [1.0, 2.0, 3.5])
@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_unit_length(p: float, size: float) -> None:
    w = probe((6, 4)) * np.float32(size)
    w[:, 2] = 0.0
    result = array(UnitLength(p)(tensor(w)))
    norms = np.sum(np.abs(result.astype("float64")) ** p, axis=0)
    np.testing.assert_allclose(norms, [1.0, 1.0, 0.0, 1.0], rtol=1e-5)
    ratio = result[:, 0] / w[:, 0]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)


def test_units_of_every_position() -> None:
    w = probe((2, 3, 6, 4))
    result = array(UnitLength()(tensor(w), (0, 1, 3)))
    np.testing.assert_allclose(np.linalg.norm(result, axis=2), 1.0, rtol=1e-6)
    whole = array(UnitLength()(tensor(w)))
    np.testing.assert_allclose(np.linalg.norm(whole.reshape(-1, 4), axis=0), 1.0, rtol=1e-6)


def test_orthogonal_is_the_nearest() -> None:
    """The polar factor, by another way: `W (W^T W)^(-1/2)`."""
    w = probe((7, 4)).astype("float64")
    values, vectors = np.linalg.eigh(w.T @ w)
    expected = w @ vectors @ np.diag(values**-0.5) @ vectors.T
    np.testing.assert_allclose(
        array(Orthogonal()(tensor(w.astype("float32")))), expected, atol=2e-6
    )


def test_orthogonal_in_a_convolution_and_at_each_position() -> None:
    w = probe((2, 3, 4, 5))
    whole = array(Orthogonal()(tensor(w))).reshape(24, 5)
    np.testing.assert_allclose(whole.T @ whole, np.eye(5), atol=2e-6)
    each = array(Orthogonal()(tensor(probe((2, 3, 6, 4))), (0, 1, 3)))
    for place in np.ndindex(2, 3):
        np.testing.assert_allclose(each[place].T @ each[place], np.eye(4), atol=2e-6)


def test_non_negative() -> None:
    w = probe((5, 3))
    np.testing.assert_array_equal(array(NonNegative()(tensor(w))), np.maximum(w, 0.0))
    bounded = array(NonNegative(0.5)(tensor(w)))
    np.testing.assert_allclose(bounded, np.clip(w, 0.0, 0.5))


def test_mean_rate_is_the_shortest_way() -> None:
    w, mean = probe((5, 3)), np.abs(probe((5, 1), 1))
    result = array(MeanRate(0.7)(tensor(w), mean=tensor(mean)))
    np.testing.assert_allclose((result * mean).sum(axis=0), 0.7, rtol=1e-5)
    # Along the mean, and along nothing else.
    moved = (result - w) / mean
    np.testing.assert_allclose(moved, np.broadcast_to(moved[:1], moved.shape), rtol=2e-4)
    nothing = array(MeanRate(0.7, 2.0)(tensor(w), mean=tensor(0.0 * mean)))
    np.testing.assert_allclose(nothing, np.clip(w, 0.0, 2.0))
    with pytest.raises(ValueError, match="`mean` must be"):
        MeanRate(1.0)(tensor(w))


@pytest.mark.parametrize(
    "constraint", [NonNegative(0.5), UnitLength(3.0), Orthogonal(), MeanRate(0.5, 1.0)]
)
def test_round_trip(constraint: Any) -> None:
    config = keras.constraints.serialize(constraint)
    restored = keras.constraints.get(config)
    assert type(restored) is type(constraint)
    assert restored.get_config() == constraint.get_config()


@pytest.mark.parametrize("optimizer", [keras.optimizers.SGD, keras.optimizers.Adam])
def test_a_layer_obeys_its_rule(optimizer: Any) -> None:
    x = probe((32, 6))
    layer = layers.HebbianDense(3, NonlinearHebbian("cubic"))
    model = keras.Sequential([keras.Input((6,)), layer])
    before = array(layer.kernel)
    model.compile(optimizer(0.05), **compile_options())
    model.fit(x, batch_size=16, epochs=2, verbose=0)
    np.testing.assert_allclose(np.linalg.norm(array(layer.kernel), axis=0), 1.0, rtol=1e-5)
    turned = np.sum(array(layer.kernel) * before, axis=0) / np.linalg.norm(before, axis=0)
    assert np.all(turned < 0.999)


def test_the_constraint_of_the_layer_comes_first() -> None:
    x = probe((32, 6))
    rule = Hebb(constraint=UnitLength())
    layer = layers.HebbianDense(3, rule, kernel_constraint=Orthogonal())
    model = keras.Sequential([keras.Input((6,)), layer])
    model.compile("sgd", **compile_options())
    model.fit(x, batch_size=16, verbose=0)
    kernel = array(layer.kernel)
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(3), atol=1e-5)
    restored = layers.HebbianDense.from_config(layer.get_config())
    assert isinstance(restored.kernel_constraint, Orthogonal)
    assert isinstance(restored.plasticity.constraint, UnitLength)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: UnitLength(0.5), "p"),
        (lambda: NonNegative(0.0), "maximum"),
        (lambda: MeanRate(float("nan")), "rate"),
        (lambda: MeanRate(1.0, -1.0), "maximum"),
        (lambda: Hebb(constraint="unit"), "constraint"),
    ],
)
def test_bad_input(make: Any, argument: str) -> None:
    with pytest.raises(ValueError, match=f"`{argument}` must be.*Received"):
        make()
