"""Layers that learn together hold the activity of one layer at a time."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from benchmarks._memory import peak
from keras_local import layers, plasticity
from keras_local.layers.hebbian import layer as hebbian_layer
from tests.support import array, probe, tensorflow_only

pytestmark = tensorflow_only

SIDE, CHANNELS = 16, 16


def stack(depth: int, batch: int = 256) -> tuple[keras.Model, Any, Any]:
    """Convolutions that learn without labels, in a graph that XLA does not compile."""
    start = keras.initializers.RandomNormal(stddev=0.3, seed=3)
    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, CHANNELS)),
            *(
                layers.HebbianConv2D(
                    CHANNELS,
                    3,
                    padding="same",
                    plasticity=plasticity.HardWTA(),
                    kernel_initializer=start,
                )
                for _ in range(depth)
            ),
        ]
    )
    model.compile(keras.optimizers.SGD(0.01), loss=None, jit_compile=False)
    return model, probe((batch, SIDE, SIDE, CHANNELS)), np.zeros((batch, 1), "float32")


@pytest.mark.thorough
def test_memory_does_not_grow_with_depth() -> None:
    few, many = (peak("tests.layers.hebbian.test_memory:stack", depth) for depth in (4, 16))
    assert many < 1.3 * few


def test_the_order_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for ordered in (True, False):
        if not ordered:
            monkeypatch.setattr(hebbian_layer, "after", lambda tensor, others: tensor)
        model, x, y = stack(3, batch=8)
        before = [array(weight) for weight in model.weights]
        for _ in range(3):
            model.train_on_batch(x, y)
        found.append([array(weight) for weight in model.weights])
    for one, other, start in zip(*found, before, strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.any(one != start)
