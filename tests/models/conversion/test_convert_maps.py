"""Depthwise, separable and transposed convolutions and Einstein sums: converted, and back."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_local.models import convert, to_plain
from tests.support import BACKEND, array, model_gradients, probe, weights_of

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="conversion: on one backend")

CLASSES = {
    "depthwise": "DepthwiseConv2D",
    "separable": "SeparableConv2D",
    "transposed": "Conv2DTranspose",
    "line": "DepthwiseConv1D",
    "separable_line": "SeparableConv1D",
    "transposed_line": "Conv1DTranspose",
    "volume": "Conv3DTranspose",
    "einsum": "EinsumDense",
}


def stock() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.DepthwiseConv2D(
                3, depth_multiplier=2, activation="tanh", name="depthwise"
            ),
            keras.layers.SeparableConv2D(4, 3, padding="same", activation="tanh", name="separable"),
            keras.layers.Conv2DTranspose(3, 3, 2, "same", activation="tanh", name="transposed"),
            keras.layers.Reshape((16, 12)),
            keras.layers.DepthwiseConv1D(3, 2, name="line"),
            keras.layers.SeparableConv1D(4, 3, padding="same", name="separable_line"),
            keras.layers.Conv1DTranspose(8, 2, name="transposed_line"),
            keras.layers.Reshape((2, 2, 2, 8)),
            keras.layers.Conv3DTranspose(3, 2, activation="tanh", name="volume"),
            keras.layers.Reshape((9, 9)),
            keras.layers.EinsumDense("abc,cd->abd", (9, 5), "tanh", "d", name="einsum"),
        ]
    )


@pytest.mark.parametrize("rule", ["symmetric", "feedback_alignment", "kolen_pollack"])
def test_there_and_back(rule: str) -> None:
    model, x = stock(), probe((3, 6, 6, 2))
    for weight in model.weights:
        weight.assign(probe(weight.shape) * 0.3)
    converted = convert(model, rule, verbose=False)
    back = to_plain(converted)
    for name, kind in CLASSES.items():
        assert type(converted.get_layer(name)).__name__ == f"Feedback{kind}"
        assert type(back.get_layer(name)) is type(model.get_layer(name))
        assert back.get_layer(name).get_config() == model.get_layer(name).get_config()
    for twin in (converted, back):
        np.testing.assert_array_equal(array(twin(x)), array(model(x)))
    for one, other in zip(weights_of(back), weights_of(model), strict=True):
        np.testing.assert_array_equal(one, other)
    _, below = model_gradients(converted, x, keras.ops.sum)
    _, straight = model_gradients(model, x, keras.ops.sum)
    assert bool(np.abs(below - straight).max() > 0.01) is (rule != "symmetric")
    if rule == "symmetric":
        np.testing.assert_array_equal(below, straight)
