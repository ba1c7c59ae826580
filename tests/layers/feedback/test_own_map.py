"""A linear map and a layer of a user's own: a dense layer whose kernel is circulant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops as kops

from keras_local import layers, ops
from tests.support import BACKEND, array, cases, largest_difference, probe, value_and_gradients

SIZE = 5
PLACES = (np.arange(SIZE)[None, :] - np.arange(SIZE)[:, None]) % SIZE
"""The weight with which each input (rows) reaches each output (columns)."""


@dataclass(frozen=True)
class Circulant(ops.LinearMap):
    """`y_j = sum_i x_i kernel_((j - i) mod n)`."""

    def apply(self, inputs: Any, kernel: Any) -> Any:
        return kops.matmul(inputs, kops.take(kernel, PLACES, axis=0))

    def input_gradient(self, upstream: Any, kernel: Any, inputs: Any) -> Any:
        return kops.matmul(upstream, kops.take(kernel, PLACES.T, axis=0))

    def kernel_gradient(self, inputs: Any, upstream: Any, kernel: Any) -> Any:
        products = kops.matmul(kops.transpose(inputs), upstream)
        shifts = [kops.sum(products * (PLACES == shift)) for shift in range(SIZE)]
        return kops.stack(shifts)

    def fans(self, kernel_shape: tuple[int, ...]) -> tuple[int, int]:
        return kernel_shape[0], kernel_shape[0]


class CirculantLayer(layers.FeedbackLayer):
    plain = keras.layers.Dense

    @property
    def linear_map(self) -> ops.LinearMap:
        return Circulant()

    def kernel_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int, ...]:
        return (int(input_shape[-1] or 0),)

    def bias_shape(self) -> tuple[int, ...]:
        return (SIZE,)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        return input_shape


RULES = [
    "symmetric",
    "detached",
    "feedback_alignment",
    "kolen_pollack",
    "sign_symmetry",
    "weight_mirror",
    "symmetric_alignment",
    "activation_alignment",
    "information_alignment",
]


def built(rule: str) -> CirculantLayer:
    layer = CirculantLayer(
        feedback=rule, kernel_initializer="normal", feedback_initializer="normal"
    )
    layer.build((None, SIZE))
    return layer


@pytest.mark.parametrize("rule", cases(RULES, daily=["symmetric", "kolen_pollack"]))
def test_gradients_are_those_of_the_dense_layer_with_these_weights(rule: str) -> None:
    layer = built(rule)
    error, x = probe((3, SIZE), 1), probe((3, SIZE))
    _, (below,) = value_and_gradients(lambda x: kops.sum(kops.multiply(layer(x), error)), x)
    if rule == "detached":
        assert not below.any()
        return
    carried = layer.kernel if layer.feedback_kernel is None else layer.feedback_kernel
    np.testing.assert_allclose(below, error @ array(carried)[PLACES].T, atol=1e-5)
    np.testing.assert_allclose(
        array(layer(x)), x @ array(layer.kernel)[PLACES] + array(layer.bias), atol=1e-5
    )


@pytest.mark.parametrize("rule", cases([*RULES[:1], *RULES[2:]], daily=["symmetric_alignment"]))
def test_trains(rule: str) -> None:
    """Two such layers learn from a teacher, the lower one by what the upper one sends down."""
    x = probe((64, SIZE))
    targets = np.tanh(x) @ probe((SIZE,), 3)[PLACES]
    model = keras.Sequential([keras.Input((SIZE,)), built("symmetric"), built(rule)])
    model.compile(keras.optimizers.SGD(0.05), "mse")
    before = model.get_weights()
    losses = model.fit(x, targets, epochs=15, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    assert np.isfinite(losses).all()
    assert largest_difference(before[:1], model.get_weights()[:1]) > 0


@pytest.mark.skipif(BACKEND == "torch", reason="Keras has no sparse tensors there")
def test_refuses_sparse_inputs() -> None:
    with pytest.raises(ValueError, match="`inputs` must be dense"):
        built("kolen_pollack")(keras.Input((SIZE,), sparse=True))
