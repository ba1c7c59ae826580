"""How a feedback layer comes by its weights: in every entry point, compiled, on replicas."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import feedback, layers
from tests.support import BACKEND, array, cases, compile_options, probe, two_replicas

INPUTS, TARGETS = probe((8, 4)), probe((8, 3), 1)
ENTRIES: dict[str, Any] = {
    "fit": lambda model: model.fit(INPUTS, TARGETS, verbose=0),
    "evaluate": lambda model: model.evaluate(INPUTS, TARGETS, verbose=0),
    "predict": lambda model: model.predict(INPUTS, verbose=0),
    "train_on_batch": lambda model: model.train_on_batch(INPUTS, TARGETS),
}
LAYERS: dict[str, dict[str, Any]] = {
    "kolen_pollack": {},
    "connectivity": {"feedback": "feedback_alignment", "connectivity": 0.5},
    "kolen_pollack_connectivity": {"connectivity": 0.5},
    "mask_without_seed": {"connectivity": 0.5, "kernel_initializer": "zeros"},
    "rule_without_seed": {
        "feedback": feedback.RandomConnectivity(feedback.FeedbackAlignment(), 0.5)
    },
    "fixed_magnitudes": {"feedback": "frsf"},
    "count": {"feedback": feedback.WeightMirror(every=2)},
}
DAILY = [("connectivity", entry) for entry in ENTRIES] + [
    ("kolen_pollack", "fit"),
    ("rule_without_seed", "fit"),
]
PAIRS = [(name, entry) for name in LAYERS for entry in ENTRIES]


@pytest.mark.few(5)
@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow makes weights within its graphs")
@pytest.mark.parametrize(("name", "entry"), cases(PAIRS, DAILY))
def test_an_unbuilt_model_is_built_within_a_compiled_step(name: str, entry: str) -> None:
    model = keras.Sequential([layers.FeedbackDense(3, **LAYERS[name])])
    model.compile("sgd", "mse", jit_compile=True)
    ENTRIES[entry](model)
    weights = model.get_weights()
    assert weights
    assert all(weight.size and np.isfinite(weight).all() for weight in weights)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow makes weights within its graphs")
def test_an_unbuilt_model_called_within_a_compiled_function() -> None:
    import tensorflow as tf

    model = keras.Sequential([layers.FeedbackDense(3)])
    outputs = tf.function(lambda x: model(x, training=True), jit_compile=True)(INPUTS)
    layer = model.layers[0]
    np.testing.assert_allclose(array(outputs), INPUTS @ array(layer.kernel), rtol=1e-4, atol=1e-5)


@pytest.mark.few(2)
@pytest.mark.parametrize("name", ["kolen_pollack", "kolen_pollack_connectivity"])
def test_first_values_do_not_depend_on_where_the_layer_is_built(name: str) -> None:
    """Nor on whether the difference that Kolen-Pollack holds read the kernel or its initializer."""
    found = []
    for build_first in (True, False):
        keras.utils.set_random_seed(5)
        model = keras.Sequential([layers.FeedbackDense(3, **LAYERS[name])])
        if build_first:
            model.build((None, 4))
        model.compile(keras.optimizers.SGD(0.0), "mse", **compile_options())
        model.fit(INPUTS, TARGETS, verbose=0)
        found.append([array(weight) for weight in model.weights])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_feedback_kernel_starts_where_its_initializer_says() -> None:
    """The weight of the default form is the difference from the kernel as it was drawn."""

    class Counter:
        calls = 0

        def __call__(self, shape: Any, dtype: Any = None) -> Any:
            self.calls += 1
            return keras.ops.full(shape, float(self.calls), dtype=dtype)

    counter = Counter()
    layer = layers.FeedbackDense(3, kernel_initializer=counter, feedback_initializer="ones")
    layer.build((None, 4))
    np.testing.assert_array_equal(array(layer.kernel), 1.0)
    np.testing.assert_array_equal(array(layer.feedback_kernel), 1.0)
    assert counter.calls == 1


def test_weights_restart_for_another_kernel() -> None:
    layer = layers.FeedbackDense(3)
    layer.build((None, 4))
    start = array(layer.feedback_kernel)
    layer.kernel.assign(probe((4, 3)))
    layer.restart()
    np.testing.assert_allclose(array(layer.feedback_kernel), start, atol=1e-6)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="replicas are TensorFlow's")
def test_an_unbuilt_model_is_built_on_replicas() -> None:
    with two_replicas().scope():
        model = keras.Sequential([layers.FeedbackDense(3, connectivity=0.5)])
        model.compile("sgd", "mse")
    model.fit(INPUTS, TARGETS, verbose=0)
    assert all(weight.size for weight in model.get_weights())


@pytest.mark.parametrize("rule", ["symmetric", "feedback_alignment", feedback.KolenPollack()])
def test_a_rule_is_not_exchanged_under_a_built_layer(rule: Any) -> None:
    layer = layers.FeedbackDense(3, feedback="feedback_alignment")
    layer.build((None, 4))
    before = [array(weight) for weight in layer.weights]
    with pytest.raises(ValueError, match=r"`feedback` must be left as it is.*kl\.models\.convert"):
        layer.feedback = rule
    assert layer.feedback == feedback.FeedbackAlignment()
    for old, weight in zip(before, layer.weights, strict=True):
        np.testing.assert_array_equal(old, array(weight))


@pytest.mark.parametrize("connectivity", [None, 0.5])
def test_a_rule_set_before_building_is_the_layers_rule(connectivity: float | None) -> None:
    made = layers.FeedbackDense(3, feedback="feedback_alignment", connectivity=connectivity)
    layer = layers.FeedbackDense(3, feedback="symmetric", connectivity=connectivity)
    layer.feedback = "feedback_alignment"
    for each in (made, layer):
        each.build((None, 4))
    assert [weight.name for weight in layer.weights] == [weight.name for weight in made.weights]
    assert layer.get_config()["feedback"] == made.get_config()["feedback"]
    assert layer.feedback_kernel is not None
    with pytest.raises(ValueError, match="`feedback` must be a FeedbackRule"):
        layers.FeedbackDense(3).feedback = "no_such"


def test_a_regularizer_set_before_building_is_seen_by_the_rule() -> None:
    layer = layers.FeedbackDense(3)
    layer.kernel_regularizer = keras.regularizers.L2(0.1)
    layer.build((None, 4))
    assert [weight.name for weight in layer.weights] == ["kernel", "bias", "feedback_kernel"]


@pytest.mark.parametrize("activation", [None, "relu", keras.activations.tanh])
def test_an_activation_set_on_the_layer(activation: Any) -> None:
    layer, stock = layers.FeedbackDense(3, activation="sigmoid"), keras.layers.Dense(3)
    for each in (layer, stock):
        each.build((None, 4))
        each.activation = activation if callable(activation) else None
    layer.activation = activation
    stock.kernel.assign(layer.kernel)
    expected = array(stock(INPUTS))
    expected = np.maximum(expected, 0.0) if activation == "relu" else expected
    np.testing.assert_array_equal(array(layer(INPUTS)), expected)
    assert type(layer).from_config(layer.get_config())
