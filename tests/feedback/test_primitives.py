"""Kunin's primitives: the worked table, autodiff of their values, and sums."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import feedback, ops
from tests.support import array, probe, value_and_gradients

X = np.array([[1.0, 2.0], [3.0, -1.0]], "float32")
W = np.array([[1.0, 0.0, 2.0], [-1.0, 1.0, 0.5]], "float32")
B = np.array([[0.5, -1.0], [1.0, 1.0], [0.0, 2.0]], "float32").T

# Values and gradients as worked out by hand for the form without halves; with them, the first
# three are half of that. Gradients are of the transposed kernel.
TABLE = {
    feedback.Decay: (7.25 / 2, np.array([[1, -2], [2, 2], [0, 4]]) / 2),
    feedback.Sparsify: (20.75 / 2, np.array([[6, -5.5], [9, 4], [-2, 10]]) / 2),
    feedback.Nullify: (60.125 / 2, np.array([[2.5, 15], [2, 12], [10, 60]]) / 2),
    feedback.SelfAlign: (-3.5, np.array([[-1, 1], [0, -1], [-2, -0.5]])),
    feedback.Amplify: (-8.25, np.array([[-5.5, 3], [0.5, -2.5], [-9.75, -0.25]])),
}
PRIMITIVES = list(TABLE)


def activity(linear_map: Any, x: Any, w: Any, b: Any) -> feedback.Activity:
    x, w, b = (keras.ops.convert_to_tensor(t) for t in (x, w, b))
    return feedback.Activity(linear_map, x, linear_map.apply(x, w), w, b)


@pytest.mark.parametrize("kind", PRIMITIVES)
def test_worked_table(kind: Any) -> None:
    value, gradient = TABLE[kind]
    seen = activity(ops.Dense(), X, W, B)
    assert float(array(kind(1.0).value(seen))) == value
    np.testing.assert_array_equal(array(kind(1.0).gradient(seen)), gradient.T)


CONV = ops.Convolution(strides=(1, 1), padding="valid", dilation_rate=(1, 1))
MAPS = {
    "dense": (ops.Dense(), (5, 4), (4, 3), 1),
    # Five examples; without padding each has 3 x 2 positions.
    "conv": (CONV, (5, 4, 4, 2), (2, 3, 2, 3), 6),
}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("kind", PRIMITIVES)
def test_gradients_are_those_of_the_value(kind: Any, name: str) -> None:
    """At both kernels; terms that read activity are averaged over positions."""
    linear_map, input_shape, kernel_shape, positions = MAPS[name]
    x, w, b = probe(input_shape, 1), probe(kernel_shape, 2), probe(kernel_shape, 3)
    if kind in (feedback.Decay, feedback.SelfAlign):
        positions = 1

    def at(w: Any, b: Any) -> Any:
        return kind(1.0).value(activity(linear_map, x, w, b))

    value, (at_w, at_b) = value_and_gradients(at, w, b)
    assert value != 0
    seen = activity(linear_map, x, w, b)
    np.testing.assert_allclose(
        array(kind(1.0).gradient(seen)), at_b / positions, rtol=2e-5, atol=1e-5
    )
    # What the kernel receives by the same formula: the primitive with both kernels exchanged.
    if kind is feedback.Decay:
        at_w = w
    if kind is feedback.Sparsify:
        _, (at_w,) = value_and_gradients(
            lambda w: 0.5 * keras.ops.sum(linear_map.apply(x, w) ** 2) / len(x), w
        )
    np.testing.assert_allclose(
        array(kind(1.0).forward_gradient(seen)), at_w / positions, rtol=2e-5, atol=1e-5
    )


def test_sums_add_values_and_gradients_times_rates() -> None:
    total = feedback.Decay(0.5) + feedback.Amplify(2.0) + feedback.SelfAlign(0.0)
    seen = activity(ops.Dense(), X, W, B)
    assert float(array(total.value(seen))) == 0.5 * 7.25 / 2 + 2.0 * -8.25
    wanted = 0.5 * TABLE[feedback.Decay][1] + 2.0 * TABLE[feedback.Amplify][1]
    np.testing.assert_allclose(array(total.gradient(seen)), wanted.T, rtol=1e-6)
    assert [type(term) for term in total.active] == [feedback.Decay, feedback.Amplify]
    total += feedback.Sparsify(0.5)  # one rate for two
    wanted = wanted + 0.5 * TABLE[feedback.Sparsify][1]
    np.testing.assert_allclose(array(total.gradient(seen)), wanted.T, rtol=1e-6)


def test_config_round_trip() -> None:
    rule = feedback.LocalAlignment(
        feedback.Decay(0.5) + feedback.Nullify(2.0), noise=feedback.Noise(0.3), every=3
    )
    restored = feedback.get(feedback.serialize(rule))
    assert restored.get_config() == rule.get_config()
    assert [term.rate for term in restored.regulariser.terms] == [0.5, 2.0]
    assert restored.noise.stddev == 0.3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: feedback.Decay(-1.0), "`rate` must be a finite number at least 0"),
        (lambda: feedback.Regulariser([3]), "`terms` must be a Primitive"),
        (lambda: feedback.Regulariser(3), "`terms` must be one or more primitives"),
        (lambda: feedback.Regulariser([]), "`terms` must be one or more primitives"),
        (lambda: feedback.LocalAlignment("decay"), "`regulariser` must be a Primitive or a Reg"),
        (lambda: feedback.SymmetricAlignment(decay=-0.1), "-0.1"),
        (lambda: feedback.SymmetricAlignment(every=0), "`every`"),
        (lambda: feedback.WeightMirror(noise=1.0), "`noise` must be a Noise"),
        (lambda: feedback.Noise(0.0), "`stddev` must be a finite number greater than 0"),
        (lambda: feedback.Noise(1.0, "cauchy"), "`law` must be one of 'normal', 'uniform'"),
    ],
)
def test_bad_input(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_a_sum_with_something_else_is_a_type_error() -> None:
    for other in (3, None, "decay", feedback.KolenPollack()):
        with pytest.raises(TypeError, match="unsupported operand"):
            feedback.Decay(1.0) + other  # type: ignore[operator]
        with pytest.raises(TypeError, match="unsupported operand"):
            feedback.Decay(1.0) + feedback.Amplify(1.0) + other  # type: ignore[operator]


@pytest.mark.parametrize("law", ["normal", "uniform"])
def test_noise_has_its_deviation_and_uniform_noise_its_bound(law: Any) -> None:
    noise = feedback.Noise(0.5, law)
    like = keras.ops.zeros((400, 50))
    drawn = array(noise.draw(like, keras.random.SeedGenerator(2)))
    assert drawn.std() == pytest.approx(0.5, rel=0.03)
    assert abs(drawn.mean()) < 0.02
    bound = np.sqrt(3.0) * 0.5
    if law == "uniform":
        assert np.abs(drawn).max() <= bound
        assert np.abs(drawn).max() > 0.98 * bound
    else:
        assert np.abs(drawn).max() > 1.2 * bound
