"""Batch normalisation with a gradient of its own, against Keras' layer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from keras_local.ops.normalised import with_lean_gradient
from tests.support import array, model_gradients, probe

CASES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "rows": ((16, 5), {}),
    "images": ((4, 6, 6, 3), {"momentum": 0.9, "epsilon": 0.1}),
    "channels first": ((4, 3, 5, 5), {"axis": 1}),
    "no scale": ((16, 5), {"scale": False}),
    "no centre": ((16, 5), {"center": False}),
    "half precision": ((16, 5), {"dtype": "mixed_bfloat16"}),
}


class Lean(keras.layers.Layer):
    def __init__(self, stock: keras.layers.BatchNormalization) -> None:
        super().__init__(dtype=stock.dtype_policy)
        self.stock = stock
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return with_lean_gradient(self.stock, inputs)


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_layer_and_its_gradients(name: str) -> None:
    shape, arguments = CASES[name]
    inputs, upstream = probe(shape) * 2.0 + 3.0, ops.convert_to_tensor(probe(shape, seed=2))
    found = []
    for lean in (False, True):
        stock = keras.layers.BatchNormalization(**arguments)
        stock.build(shape)
        for place, weight in enumerate(stock.trainable_variables):
            weight.assign(probe(weight.shape, seed=3 + place))
        layer = Lean(stock) if lean else stock
        gradients = model_gradients(
            layer, inputs, lambda outputs: ops.sum(ops.cast(outputs, "float32") * upstream)
        )
        outputs = ops.cast(layer(ops.convert_to_tensor(inputs), training=True), "float32")
        found.append(
            (
                array(ops.stop_gradient(outputs)),
                [array(each.value) for each in stock.weights],
                *gradients,
            )
        )
    (y, weights, slopes, error), (lean_y, lean_weights, lean_slopes, lean_error) = found
    np.testing.assert_array_equal(lean_y, y)
    for one, other in zip(weights, lean_weights, strict=True):
        np.testing.assert_array_equal(other, one)
    assert len(slopes) == len(stock.trainable_variables) > 0
    close = (
        {"rtol": 0.02, "atol": 0.05} if name == "half precision" else {"rtol": 2e-5, "atol": 2e-6}
    )
    for key, slope in slopes.items():
        np.testing.assert_allclose(lean_slopes[key], slope, **close)
    np.testing.assert_allclose(lean_error, error, **close)
