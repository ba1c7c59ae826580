"""Whole networks converted: those of Keras, and one that learns digits."""

from __future__ import annotations

import functools
import warnings

import keras
import numpy as np
import pytest

from keras_local import datasets, feedback
from keras_local.models import conversion_report, to_plain
from tests.models.conversion.support import (
    FA,
    feedback_layers,
    gradients_of,
    outputs_of,
    quietly,
)
from tests.support import BACKEND, array, cases, probe, weights_of

pytestmark = [
    pytest.mark.skipif(BACKEND != "tensorflow", reason="conversion: on one backend"),
    # Kolen-Pollack says so of the layer with a regulariser.
    pytest.mark.filterwarnings("ignore:.*`kernel_regularizer` acts on the kernel alone"),
]

APPLICATIONS = ("ResNet50", "MobileNetV2", "EfficientNetB0")


@functools.cache
def application(name: str) -> keras.Model:
    """With statistics that are not those of a new model."""
    keras.utils.set_random_seed(2)
    build = getattr(keras.applications, name)
    model = build(weights=None, input_shape=(32, 32, 3), classes=3, classifier_activation=None)
    for weight in model.weights:
        if weight.name == "moving_mean":
            weight.assign(probe(weight.shape, 1) * 0.1)
        if weight.name == "moving_variance":
            weight.assign(1.0 + 0.5 * np.abs(probe(weight.shape, 2)))
    return model


class TestApplications:
    @pytest.mark.daily
    @pytest.mark.slow
    @pytest.mark.parametrize("name", cases(APPLICATIONS, daily=["MobileNetV2"]))
    def test_symmetric(self, name: str) -> None:
        model = application(name)
        twin = quietly(model, "symmetric")
        assert not conversion_report(twin).left
        x = probe((2, 32, 32, 3))
        np.testing.assert_array_equal(outputs_of(model, x)[0], outputs_of(twin, x)[0])
        before = weights_of(model)
        pairs = zip(gradients_of(model, x), gradients_of(twin, x), strict=True)
        for one, other in pairs:
            assert np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(one)
        for weight, value in zip(model.weights, before, strict=True):
            weight.assign(value)

    @pytest.mark.thorough
    @pytest.mark.parametrize("name", APPLICATIONS)
    def test_feedback_and_back(self, name: str) -> None:
        model = application(name)
        twin = quietly(model, FA)
        x = probe((2, 32, 32, 3))
        np.testing.assert_array_equal(outputs_of(model, x)[0], outputs_of(twin, x)[0])
        for one, other in zip(weights_of(to_plain(twin)), weights_of(model), strict=True):
            np.testing.assert_array_equal(one, other)


RULES = sorted(
    {
        str(feedback.get(alias).get_config()) + type(feedback.get(alias)).__name__: alias
        for alias in feedback._ALIASES
    }.values()
)
"""One alias for each rule."""


@pytest.mark.thorough
@pytest.mark.parametrize("rule", RULES)
def test_a_converted_resnet_trains(rule: str) -> None:
    """One step: the loss is finite and every kernel that an error reaches moves."""
    model = application("ResNet50")
    twin = quietly(model, rule)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    twin.compile(keras.optimizers.SGD(0.01), loss, run_eagerly=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Gradients do not exist")
        logs = twin.train_on_batch(probe((2, 32, 32, 3)), np.array([0, 2]), return_dict=True)
    assert np.isfinite(logs["loss"])
    moved = set()
    for name, part in feedback_layers(twin).items():
        assert np.all(np.isfinite(array(part.kernel))), name
        if np.any(array(part.kernel) != array(model.get_layer(name).kernel)):
            moved.add(name)
    # A detached layer sends no error down: the last one alone learns.
    expected = {"predictions"} if rule == "detached" else set(feedback_layers(twin))
    assert moved == expected


@pytest.mark.daily
@pytest.mark.parametrize("rule", cases([FA, "kolen_pollack"], daily=["kolen_pollack"]))
def test_a_converted_net_learns_digits(rule: str) -> None:
    keras.utils.set_random_seed(0)
    (x, y), (xe, ye) = datasets.load("digits")
    net = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    twin = quietly(net, rule)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    twin.compile(keras.optimizers.Adam(3e-3), loss, jit_compile=False)
    twin.fit(x, y, batch_size=50, epochs=15, verbose=0)
    accuracy = np.mean(np.argmax(twin.predict(xe, verbose=0), axis=1) == ye)
    by_net = np.mean(np.argmax(net.predict(xe, verbose=0), axis=1) == ye)
    assert by_net < 0.3
    assert accuracy > 0.9
    assert np.abs(array(twin.layers[-1].feedback_kernel) - array(net.layers[-1].kernel)).max() > 0.1
