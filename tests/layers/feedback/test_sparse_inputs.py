"""Sparse inputs: a dense layer learns from them as from dense ones, other layers refuse them."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers
from tests.support import BACKEND, array, cases, value_and_gradients

pytestmark = pytest.mark.skipif(BACKEND == "torch", reason="Keras has no sparse tensors there")

RULES = cases(
    [
        "symmetric",
        "feedback_alignment",
        "kolen_pollack",
        "sign_symmetry",
        "weight_mirror",
        "symmetric_alignment",
        "activation_alignment",
        "information_alignment",
        "detached",
    ],
    daily=["kolen_pollack", "activation_alignment"],
)
DENSE = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
DENSE[np.random.default_rng(1).random(DENSE.shape) < 0.6] = 0.0
TARGETS = np.random.default_rng(2).normal(size=(8, 3)).astype("float32")


def trained(rule: str, sparse: bool, **options: Any) -> list[np.ndarray]:
    scipy = pytest.importorskip("scipy.sparse")
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((5,), sparse=sparse),
            layers.FeedbackDense(4, "tanh", feedback=rule, **options),
            layers.FeedbackDense(3, feedback=rule),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse")
    inputs = scipy.csr_matrix(DENSE) if sparse else DENSE
    with warnings.catch_warnings():
        # TensorFlow warns of the dense gradient of a sparse product.
        warnings.simplefilter("ignore")
        model.fit(inputs, TARGETS, batch_size=4, epochs=2, shuffle=False, verbose=0)
    return model.get_weights()


@pytest.mark.parametrize("options", [{}, {"connectivity": 0.6}], ids=["full", "connectivity"])
@pytest.mark.parametrize("rule", RULES)
def test_learns_as_from_dense_inputs(rule: str, options: dict[str, Any]) -> None:
    for ours, expected in zip(
        trained(rule, True, **options), trained(rule, False, **options), strict=True
    ):
        np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the entries of a tensor of TensorFlow")
def test_stored_entries_get_their_error() -> None:
    import tensorflow as tf

    layer = layers.FeedbackDense(3, "tanh", feedback="feedback_alignment")
    layer.build((None, 5))
    sparse = tf.sparse.from_dense(DENSE)
    with tf.GradientTape() as tape:
        tape.watch(sparse.values)
        outputs = tf.reduce_sum(layer(sparse) ** 2)
    found = tape.gradient(outputs, sparse.values)
    _, (expected,) = value_and_gradients(lambda x: keras.ops.sum(layer(x) ** 2), DENSE)
    np.testing.assert_allclose(array(found), expected[DENSE != 0], atol=1e-6)
    assert np.abs(array(found)).max() > 0.1


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: layers.FeedbackConv1D(2, 2), (6, 4)),
        (lambda: layers.FeedbackEinsumDense("ab,bc->ac", 3), (4,)),
        (lambda: layers.LocallyConnected1D(2, 2), (6, 4)),
    ],
    ids=["convolution", "einsum", "locally-connected"],
)
def test_other_maps_refuse(layer: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"`inputs` must be dense.*takes no sparse"):
        layer()(keras.Input(shape, sparse=True))
