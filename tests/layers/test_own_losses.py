"""Losses of layers in one pass: each layer keeps its own, and takes none of another layer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import keras_local as kl

SHAPE = (6, 4)
START = (np.arange(24.0).reshape(SHAPE) / 30 - 0.4).astype("float32")

LAYERS = {
    "feedback": lambda: kl.layers.FeedbackDense(4, feedback=kl.feedback.SymmetricAlignment()),
    "hebbian": lambda: kl.layers.HebbianDense(4, "oja"),
}


def inputs() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(8, SHAPE[0])).astype("float32") for _ in range(2)]


def change(layer: keras.layers.Layer, used: list[bool]) -> np.ndarray:
    """How one step moves what learns by the layer's own loss, if it is called on these inputs."""
    parts = [keras.Input((SHAPE[0],)) for _ in used]
    called = [layer(part) for part, use in zip(parts, used, strict=True) if use]
    # The outputs do not depend on the layer: only its own losses act.
    still = keras.layers.Lambda(lambda values: keras.ops.stop_gradient(sum(values)))
    outputs = keras.layers.Dense(2)(still([*called, *called]))
    model = keras.Model(parts, outputs)
    weight = layer.weights[-1] if "feedback" in layer.weights[-1].name else layer.weights[0]
    layer.weights[0].assign(START)
    weight.assign(START if weight is layer.weights[0] else START[::-1])
    before = keras.ops.convert_to_numpy(weight)
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    model.train_on_batch(inputs(), np.zeros((8, 2), "float32"))
    return np.asarray(keras.ops.convert_to_numpy(weight) - before)


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_a_layer_that_is_called_twice_learns_from_both_calls(make: Any) -> None:
    first, second = change(make(), [True, False]), change(make(), [False, True])
    both = change(make(), [True, True])
    assert min(np.abs(first).max(), np.abs(second).max()) > 1e-4
    np.testing.assert_allclose(both, first + second, atol=1e-6)


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_a_loss_with_the_id_of_a_former_loss_stays(make: Any) -> None:
    """Python gives the `id` of a loss of the pass before to a loss of another layer."""
    layer = make()
    x = keras.ops.convert_to_tensor(inputs()[0])
    layer(x)
    with keras.StatelessScope(collect_losses=True) as scope:
        loss = keras.ops.sum(x)
        scope.add_loss(loss)
        layer._loss_ids.add(id(loss))
        layer(x, training=True)
        assert any(loss is each for each in scope.losses)
        assert all(loss is not each for each in layer.losses)


def test_a_call_outside_of_keras_ends() -> None:
    """Keras keeps the call that is under way in the process: while it lasts, losses pile up."""
    layer = LAYERS["feedback"]()
    x = keras.ops.convert_to_tensor(inputs()[0])
    layer(x)
    layer.call(x, training=True)
    other = LAYERS["hebbian"]()
    for _ in range(2):
        other(x, training=True)
    once = len(other.losses)
    other(x, training=True)
    assert len(other.losses) == once
