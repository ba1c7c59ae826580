"""Amit's analysis of linear networks: what is conserved, and what learning feedback buys."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_local import feedback, layers
from tests.support import array, tensorflow_only

SIZES = (40, 30, 20, 10)
EXAMPLES, STEPS, RATE = 2000, 400, 0.05
RATES = (0.0, 0.25, 0.5, 1.0)


def run(rate: float, seed: int) -> tuple[float, float]:
    """Full-batch descent to a random linear teacher: the error, and how far off the invariant is.

    Every quotient of feedback and forward steps starts from the same weights.
    """
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((SIZES[0], EXAMPLES)).T
    targets = inputs @ rng.standard_normal((SIZES[-1], SIZES[0])).T / np.sqrt(SIZES[0])
    model = keras.Sequential(
        [
            keras.Input((SIZES[0],), dtype="float64"),
            *(
                layers.FeedbackDense(
                    units,
                    use_bias=False,
                    feedback=feedback.KolenPollack(rate=rate, separate=True),
                    dtype="float64",
                )
                for units in SIZES[1:]
            ),
        ]
    )
    bounds = [np.sqrt(6 / sum(layer.kernel.shape)) for layer in model.layers]
    for layer, bound in zip(model.layers, bounds, strict=True):
        layer.kernel.assign(rng.uniform(-bound, bound, layer.kernel.shape[::-1]).T)
    for layer, bound in zip(model.layers, bounds, strict=True):
        layer.assign_feedback_kernel(rng.uniform(-bound, bound, layer.kernel.shape))
    start = [array(w.feedback_kernel) - rate * array(w.kernel) for w in model.layers]

    def half_squared_error(target, output):
        return 0.5 * keras.ops.sum(keras.ops.square(target - output), axis=-1)

    data = np.concatenate([inputs] * 50), np.concatenate([targets] * 50)
    model.compile(
        keras.optimizers.SGD(RATE), half_squared_error, jit_compile=False, steps_per_execution=50
    )
    for _ in range(STEPS // 50):
        model.fit(*data, batch_size=EXAMPLES, shuffle=False, verbose=0)
    outputs = array(model(inputs))
    drift = max(
        np.abs(array(w.feedback_kernel) - rate * array(w.kernel) - before).max()
        for w, before in zip(model.layers, start, strict=True)
    )
    return float(0.5 * np.mean(np.sum((targets - outputs) ** 2, axis=1))), float(drift)


@pytest.mark.daily
@tensorflow_only
@pytest.mark.slow
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.thorough) for seed in range(1, 5))]
)
def test_error_falls_faster_the_faster_feedback_learns(seed: int) -> None:
    policy = keras.config.floatx()
    keras.config.set_floatx("float64")
    try:
        errors, drifts = zip(*(run(rate, seed) for rate in RATES), strict=True)
    finally:
        keras.config.set_floatx(policy)
    assert max(drifts) < 1e-13
    assert errors[0] > errors[1] > errors[2] > errors[3]
    assert errors[3] < 0.1 * errors[0]
