"""Attention: stock Keras with a symmetric rule, errors by the feedback kernels otherwise."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import feedback, layers
from tests.support import array, model_gradients, probe, weights_of

OPTIONS: list[dict[str, Any]] = [{}, {"output_shape": 7}, {"use_bias": False}]


def net(kind: type, **options: Any) -> keras.Model:
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6, 4))
    attended = kind(2, 3, name="attention", **options)(inputs, inputs)
    return keras.Model(inputs, keras.layers.Dense(2)(attended))


def loss(outputs: Any) -> Any:
    return keras.ops.sum(outputs * keras.ops.convert_to_tensor(probe(outputs.shape, 50)))


@pytest.mark.parametrize("options", OPTIONS)
def test_symmetric_is_the_stock_layer(options: dict[str, Any]) -> None:
    stock = net(keras.layers.MultiHeadAttention, **options)
    ours = net(layers.FeedbackMultiHeadAttention, feedback="symmetric", **options)
    for one, other in zip(weights_of(stock), weights_of(ours), strict=True):
        np.testing.assert_array_equal(one, other)
    x = probe((2, 6, 4))
    np.testing.assert_array_equal(array(ours(x)), array(stock(x)))
    expected, below = model_gradients(stock, x, loss)
    actual, ours_below = model_gradients(ours, x, loss)
    assert list(actual) == list(expected)
    for name, gradient in expected.items():
        np.testing.assert_allclose(actual[name], gradient, atol=1e-5 * np.abs(below).max() + 1e-6)
    np.testing.assert_allclose(ours_below, below, rtol=1e-4, atol=1e-6)


def test_errors_return_through_feedback_kernels() -> None:
    """The field below the output projection is linear in its feedback kernel, and so on down."""
    model = net(layers.FeedbackMultiHeadAttention, feedback="feedback_alignment")
    layer, x = model.get_layer("attention"), probe((2, 6, 4))
    names = ("query", "key", "value")
    before, below = model_gradients(model, x, loss)
    output = layer.output_dense
    output.assign_feedback_kernel(2.0 * array(output.feedback_kernel))
    doubled, doubled_below = model_gradients(model, x, loss)
    kernels = [n for n in before if n.endswith("kernel")]
    # In order of creation: query, key, value, output and the dense layer above.
    assert len(kernels) == 5
    for name in kernels[:3]:
        np.testing.assert_allclose(doubled[name], 2.0 * before[name], rtol=1e-4, atol=1e-5)
    for name in kernels[3:]:
        np.testing.assert_allclose(doubled[name], before[name], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(doubled_below, 2.0 * below, rtol=1e-4, atol=1e-5)
    for name in names:
        projection = getattr(layer, f"{name}_dense")
        projection.assign_feedback_kernel(np.zeros(projection.kernel.shape, "float32"))
    _, nothing = model_gradients(model, x, loss)
    assert not nothing.any()


def test_keras_forgets_the_projections_that_were_replaced() -> None:
    """It knows layers by their `id`: a stale one would hide a new layer at the same address."""
    layer = net(layers.FeedbackMultiHeadAttention).get_layer("attention")
    kept = {id(part) for part in layer._layers}
    assert layer._tracker.stored_ids["layers"] == kept
    for part in (layer.query_dense, layer.key_dense, layer.value_dense, layer.output_dense):
        assert id(part) in kept
        assert type(part) is layers.FeedbackEinsumDense


def test_each_projection_has_its_own_feedback() -> None:
    model = net(layers.FeedbackMultiHeadAttention, feedback=feedback.KolenPollack(rate=0.5))
    layer = model.get_layer("attention")
    parts = [layer.query_dense, layer.key_dense, layer.value_dense, layer.output_dense]
    assert [type(part) for part in parts] == [layers.FeedbackEinsumDense] * 4
    assert len({id(part.feedback) for part in parts}) == 4
    kernels = [array(part.feedback_kernel).ravel() for part in parts]
    assert np.abs(np.corrcoef(kernels) - np.eye(4)).max() < 0.9
    held = [part for part in layer._flatten_layers() if "Dense" in type(part).__name__]
    assert held == parts


def test_saved_and_loaded(tmp_path: Any) -> None:
    model = net(layers.FeedbackMultiHeadAttention, use_bias=False)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for one, other in zip(weights_of(model), weights_of(loaded), strict=True):
        np.testing.assert_array_equal(one, other)
    x = probe((2, 6, 4))
    np.testing.assert_array_equal(array(loaded(x)), array(model(x)))


def test_refused() -> None:
    with pytest.raises(ValueError, match="`feedback` must be a FeedbackRule"):
        layers.FeedbackMultiHeadAttention(2, 3, feedback="backprop")


def test_no_initializer_is_that_of_keras() -> None:
    """Keras' own layer fails when it is built: it copies the initializer's class."""
    none = layers.FeedbackMultiHeadAttention(2, 2, kernel_initializer=None, bias_initializer=None)
    none(np.ones((1, 3, 4), "float32"), np.ones((1, 3, 4), "float32"))
    query = none._query_dense
    assert isinstance(query.kernel_initializer, keras.initializers.GlorotUniform)
    assert isinstance(query.bias_initializer, keras.initializers.Zeros)
