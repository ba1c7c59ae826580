"""Any model with direct errors: what is hooked, what it computes, and the way back."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers, models
from tests import oracles_direct
from tests.support import (
    array,
    cases,
    largest_difference,
    model_gradients,
    probe,
    tensorflow_only,
    train,
)

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=False)
pytestmark = tensorflow_only


def mlp(activation: str | None = "softmax") -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(5, "tanh", name="first"),
            keras.layers.Dense(4, "tanh", name="second"),
            keras.layers.Dense(3, activation, name="classes"),
        ],
        name="mlp",
    )


def residual() -> keras.Model:
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.ReLU(name="relu_1")(x)
    y = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="relu_2")(x)
    y = keras.layers.Conv2D(4, 3, padding="same", name="upper")(y)
    x = keras.layers.Activation("relu", name="relu_3")(keras.layers.Add()([x, y]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.2, seed=1)(x)
    x = keras.layers.Dense(3, name="logits")(x)
    return keras.Model(inputs, keras.layers.Softmax(name="softmax")(x), name="residual")


def nested() -> keras.Model:
    inner = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(3, 3, name="lower", activation="relu")(inner)
    body = keras.Model(inner, keras.layers.BatchNormalization(name="inside")(x), name="body")
    head = keras.Sequential(
        [keras.layers.Dense(5, "tanh", name="hidden"), keras.layers.Dense(3, "softmax")]
    )
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Flatten()(body(inputs, training=False))
    return keras.Model(inputs, head(x), name="nested")


MODELS: dict[str, tuple[Callable[[], keras.Model], list[tuple[int, ...]]]] = {
    "mlp": (mlp, [(3, 5), (3, 4)]),
    "residual": (residual, [(3, 6, 6, 4)] * 3),
    "nested": (nested, [(3, 4, 4, 3), (3, 5)]),
}


def data(model: keras.Model) -> tuple[np.ndarray, np.ndarray]:
    """Each class has a mean of its own in every channel."""
    labels = np.arange(16) % 3
    noise = probe((16, *model.input_shape[1:]), 1)
    means = probe((3, noise.shape[-1]), 2)[labels]
    return 0.3 * noise + means.reshape(16, *[1] * (noise.ndim - 2), -1), labels


def predictions(model: keras.Model) -> np.ndarray:
    return array(model(data(model)[0], training=False))


def direct_layer(model: keras.Model) -> Any:
    return next(layer for layer in model.layers if hasattr(layer, "feedback_kernels"))


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("name", "feedback"),
    cases(
        itertools.product(MODELS, ["direct_feedback", "direct_random_target"]),
        daily=[("mlp", "direct_random_target"), ("residual", "direct_feedback")],
    ),
)
def test_the_model_predicts_the_same_and_learns(name: str, feedback: str) -> None:
    make, shapes = MODELS[name]
    model = make()
    directed = models.direct(model, feedback)
    assert directed.name == model.name
    np.testing.assert_array_equal(predictions(directed), predictions(model))
    assert [tuple(kernel.shape) for kernel in direct_layer(directed).feedback_kernels] == shapes
    inputs, labels = data(model)
    before = predictions(model)
    start = [array(weight) for weight in directed.trainable_weights]
    losses = train(directed, keras.optimizers.Adam(0.02), inputs, labels, LOSS, epochs=20)
    for one, other in zip(start, directed.trainable_weights, strict=True):
        assert np.abs(one - array(other)).max() > 1e-2
    # Behind a mean over positions, weights that differ from position to position teach little.
    assert name == "residual" or losses[-1] < 0.8 * losses[0]
    np.testing.assert_array_equal(predictions(model), before)


@pytest.mark.parametrize("name", cases(MODELS, daily=["mlp"]))
def test_way_back(name: str) -> None:
    model = MODELS[name][0]()
    directed = models.direct(model)
    plain = models.to_plain(directed)
    kinds = {type(layer).__module__.split(".")[0] for layer in plain.operations}
    assert kinds == {"keras"}
    np.testing.assert_array_equal(predictions(plain), predictions(model))
    # The cuts are gone as well: it learns as the first model does.
    inputs, labels = data(model)
    for net in (model, plain):
        train(net, keras.optimizers.SGD(0.1), inputs, labels, LOSS)
    trained = [[array(weight) for weight in net.trainable_weights] for net in (model, plain)]
    assert largest_difference(*trained) < 1e-6


def test_gradients_equal_the_oracle() -> None:
    model = models.direct(mlp())
    inputs, labels = data(model)
    gradients, _ = model_gradients(model, inputs, lambda outputs: LOSS(labels, outputs))
    dense = [model.get_layer(name) for name in ("first", "second", "classes")]
    expected, _ = oracles_direct.step(
        "error",
        inputs,
        labels,
        [array(layer.kernel) for layer in dense],
        [array(layer.bias) for layer in dense],
        [array(kernel) for kernel in direct_layer(model).feedback_kernels],
    )
    for place, gradient in enumerate(expected):
        found = gradients[f"{2 * place}:kernel"]
        np.testing.assert_allclose(found, gradient, rtol=1e-4, atol=1e-6)


def test_both_ways_up_from_a_sum_are_cut() -> None:
    """The kernels above have no part in the gradients below, with the logits' error held fixed."""
    model = models.direct(residual())
    inputs, _ = data(model)
    head = keras.Model(model.inputs, model.get_layer("direct_feedback").output)
    error = probe((16, 3), 5)

    def lowest() -> np.ndarray:
        loss = model_gradients(head, inputs, lambda outputs: keras.ops.sum(outputs * error))
        return loss[0]["0:kernel"]

    before = lowest()
    for name in ("relu_2", "upper", "logits"):
        kernel = model.get_layer(name).kernel
        kernel.assign(3.0 * array(kernel))
    np.testing.assert_array_equal(lowest(), before)
    assert np.abs(before).max() > 1e-2


def test_named_hooks_and_a_layer_with_arguments() -> None:
    layer = layers.DirectFeedback(sign=True, name="signs")
    directed = models.direct(residual(), layer, hooks=["relu_3", "relu_1"])
    assert directed.get_layer("signs") is layer
    assert [tuple(kernel.shape) for kernel in layer.feedback_kernels] == [(3, 6, 6, 4)] * 2
    inputs, labels = data(directed)
    gradients, _ = model_gradients(directed, inputs, lambda outputs: LOSS(labels, outputs))
    # Between two hooks errors go by the chain rule.
    assert all(np.abs(gradient).max() > 0 for gradient in gradients.values())


def test_new_weights_states_and_frozen_layers() -> None:
    model = residual()
    model.get_layer("upper").trainable = False
    fresh = models.direct(model, keep_weights=False)
    first, second = (net.get_layer("stem").kernel for net in (model, fresh))
    assert np.abs(array(first) - array(second)).max() > 1e-2
    assert not fresh.get_layer("upper").trainable
    norm = model.get_layer("norm").moving_mean
    norm.assign(probe(norm.shape))
    kept = models.direct(model).get_layer("norm").moving_mean
    np.testing.assert_array_equal(array(kept), array(norm))


def test_save_and_load(tmp_path: Any) -> None:
    directed = models.direct(nested())
    directed.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(predictions(loaded), predictions(directed))


def test_refusals() -> None:
    model = mlp()
    with pytest.raises(ValueError, match=r"`model` must be a keras\.Model"):
        models.direct("mlp")
    with pytest.raises(ValueError, match="`model` must be a model with one output"):
        models.direct(keras.Model(model.inputs, [model.layers[0].output, model.outputs[0]]))
    with pytest.raises(ValueError, match="`feedback` must be one of 'direct_feedback'"):
        models.direct(model, "frfb")
    with pytest.raises(ValueError, match="not built"):
        models.direct(model, direct_layer(models.direct(model)))
    for hooks in ([], "first", 3):
        with pytest.raises(ValueError, match="`hooks` must be a list"):
            models.direct(model, hooks=hooks)
    for hooks in (["third"], ["classes"]):
        with pytest.raises(ValueError, match="among the hidden layers"):
            models.direct(model, hooks=hooks)
    linear = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="without hidden activations"):
        models.direct(linear)
