"""Batch normalisation with a gradient of its own, against Keras' layer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from keras_local.ops import gradients
from keras_local.ops.normalised import with_lean_gradient
from tests.support import array, probe

CASES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "rows": ((16, 5), {}),
    "images": ((4, 6, 6, 3), {"momentum": 0.9, "epsilon": 0.1}),
    "channels first": ((4, 3, 5, 5), {"axis": 1}),
    "no scale": ((16, 5), {"scale": False}),
    "no centre": ((16, 5), {"center": False}),
    "half precision": ((16, 5), {"dtype": "mixed_bfloat16"}),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_layer_and_its_gradients(name: str) -> None:
    shape, arguments = CASES[name]
    inputs = ops.convert_to_tensor(probe(shape) * 2.0 + 3.0)
    upstream = ops.convert_to_tensor(probe(shape, seed=2))
    found = []
    for lean in (False, True):
        layer = keras.layers.BatchNormalization(**arguments)
        layer.build(shape)
        for place, weight in enumerate(layer.trainable_variables):
            weight.assign(probe(weight.shape, seed=3 + place))

        def total(inputs: Any, layer: Any = layer, lean: bool = lean) -> Any:
            outputs = with_lean_gradient(layer, inputs) if lean else layer(inputs, training=True)
            return ops.sum(ops.cast(outputs, "float32") * upstream)

        if lean:
            outputs = with_lean_gradient(layer, inputs)
        else:
            outputs = layer(inputs, training=True)
        statistics = [array(each) for each in layer.non_trainable_variables]
        found.append((array(outputs), statistics, array(gradients(total, [inputs])[0])))
    (y, statistics, error), (lean_y, lean_statistics, lean_error) = found
    np.testing.assert_array_equal(lean_y, y)
    for one, other in zip(statistics, lean_statistics, strict=True):
        np.testing.assert_array_equal(other, one)
    half = name == "half precision"
    np.testing.assert_allclose(
        lean_error, error, rtol=0.02 if half else 1e-5, atol=0.02 if half else 1e-6
    )
