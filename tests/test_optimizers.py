"""Batch-Manhattan: SGD on signs."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_local import feedback, layers, optimizers
from tests.support import array, probe, tensorflow_only, train, two_replicas


def test_momentum_and_decay_come_after_the_sign() -> None:
    """Against NumPy, step by step."""
    optimizer = optimizers.BatchManhattan(0.1, momentum=0.9, weight_decay=0.01)
    weight = keras.Variable(probe((4, 3)))
    expected, velocity = probe((4, 3)).astype("float64"), np.zeros((4, 3))
    for step in range(5):
        gradient = probe((4, 3), seed=step + 1)
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [weight])
        expected -= 0.1 * 0.01 * expected
        velocity = 0.9 * velocity - 0.1 * np.sign(gradient)
        expected += velocity
    np.testing.assert_allclose(array(weight), expected, atol=1e-5)


def net() -> keras.Model:
    rule = feedback.KolenPollack(separate=True)
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.FeedbackDense(5, "tanh", feedback=rule),
            layers.FeedbackDense(3, feedback=rule),
        ]
    )


def test_equal_gradients_stay_equal() -> None:
    model = net()
    before = [array(w.kernel) - array(w.feedback_kernel) for w in model.layers]
    kernels = [array(w.kernel) for w in model.layers]
    train(model, optimizers.BatchManhattan(0.01), probe((16, 6)), probe((16, 3), 1), "mse")
    for layer, difference, kernel in zip(model.layers, before, kernels, strict=True):
        now = array(layer.kernel) - array(layer.feedback_kernel)
        np.testing.assert_allclose(now, difference, atol=1e-6)
        # Two steps of 0.01, each up or down.
        moved = np.abs(array(layer.kernel) - kernel)
        assert np.isclose(moved[..., None], [0.0, 0.02], atol=1e-5).any(-1).all()
        assert moved.max() > 0.01


@tensorflow_only
def test_sign_is_taken_after_the_replicas_are_added() -> None:
    ends = []
    start = net().get_weights()
    for scope in (None, two_replicas().scope()):
        if scope is None:
            model = net()
        else:
            with scope:
                model = net()
        model.set_weights(start)
        if scope is None:
            model.compile(optimizers.BatchManhattan(0.01), "mse", jit_compile=False)
        else:
            with two_replicas().scope():
                model.compile(optimizers.BatchManhattan(0.01), "mse", jit_compile=False)
        model.fit(probe((32, 6)), probe((32, 3), 1), batch_size=8, shuffle=False, verbose=0)
        ends.append(model.get_weights())
    for one, other in zip(*ends, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert max(np.abs(a - b).max() for a, b in zip(ends[0], start, strict=True)) > 0.01


def test_config() -> None:
    optimizer = optimizers.BatchManhattan(0.1, momentum=0.9)
    restored = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(restored) is optimizers.BatchManhattan
    assert restored.get_config() == optimizer.get_config()


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="momentum"):
        optimizers.BatchManhattan(0.1, momentum=2.0)
