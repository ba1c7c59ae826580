"""Aliases, serialisation, and a rule that a user writes."""

from __future__ import annotations

from typing import Any, get_args

import keras
import numpy as np
import pytest

from keras_local import feedback, layers
from tests import oracles
from tests.feedback.nets import LOSS, data, dense_net, kernels
from tests.support import array, model_gradients, probe


@pytest.mark.parametrize(
    ("alias", "rule"),
    [
        ("symmetric", feedback.Symmetric),
        ("feedback_alignment", feedback.FeedbackAlignment),
        ("frfb", feedback.FeedbackAlignment),
        ("kolen_pollack", feedback.KolenPollack),
        ("urfb", feedback.KolenPollack),
    ],
)
def test_aliases(alias: str, rule: type[feedback.FeedbackRule]) -> None:
    found = feedback.get(alias)
    assert type(found) is rule
    assert found.get_config() == rule().get_config()
    assert type(layers.FeedbackDense(2, feedback=alias).feedback) is rule


def test_the_default_is_updated_feedback_without_decay() -> None:
    config = layers.FeedbackDense(2).feedback.get_config()
    assert config == {"rate": 1.0, "decay": 0.0, "separate": None}


def test_objects_pass_through() -> None:
    rule = feedback.KolenPollack(0.5)
    assert feedback.get(rule) is rule


@pytest.mark.parametrize(
    "unknown",
    [
        "backprop",
        "KolenPollack",
        "",
        None,
        3,
        feedback.KolenPollack,
        ["urfb"],
        {"class_name": "Dense", "config": {"units": 2}, "module": "keras.layers"},
    ],
)
def test_unknown_rules_name_the_known_ones(unknown: Any) -> None:
    with pytest.raises(ValueError, match="`feedback` must be") as refusal:
        feedback.get(unknown)
    message = str(refusal.value)
    for alias in ("symmetric", "feedback_alignment", "frfb", "kolen_pollack", "urfb"):
        assert repr(alias) in message
    assert f"Received: feedback={unknown!r}" in message


@pytest.mark.parametrize("rule", [feedback.Symmetric(), feedback.FeedbackAlignment()])
def test_round_trip_of_rules_without_arguments(rule: feedback.FeedbackRule) -> None:
    config = feedback.serialize(rule)
    assert config["registered_name"] == f"keras_local>{type(rule).__name__}"
    assert type(feedback.get(config)) is type(rule)


@keras.saving.register_keras_serializable(package="keras_local_tests")
class Halved(feedback.FeedbackRule):
    """A user's rule: the error returns through half the kernel and a learned mean of errors."""

    def __init__(self, factor: float = 0.5) -> None:
        self.factor = factor

    def weights(self, kernel: Any, initializer: Any) -> list[feedback.FeedbackWeight]:
        return [feedback.FeedbackWeight("seen", (kernel.shape[-1],), "zeros", True)]

    def error_kernel(self, kernel: Any, *feedback: Any) -> Any:
        return self.factor * kernel

    def assignment(self, kernel: Any, feedback_kernel: Any) -> list[Any]:
        raise ValueError("fixed")

    def feedback_gradients(self, signals: Any) -> tuple[Any, ...]:
        return (keras.ops.sum(signals.upstream, axis=0),)

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor}


def test_a_rule_of_the_user() -> None:
    model = dense_net(Halved(0.25))
    inputs, labels = data(model)
    gradients, _ = model_gradients(model, inputs, lambda outputs: LOSS(labels, outputs))
    halved = [0.25 * kernel for kernel in kernels(model)]
    step = oracles.feedback_step(inputs, labels, kernels(model), halved)
    for i, layer in enumerate(model.layers):
        _, bias, seen = list(gradients.values())[3 * i : 3 * i + 3]
        np.testing.assert_allclose(
            list(gradients.values())[3 * i], step.kernel_gradients[i], atol=1e-6
        )
        np.testing.assert_allclose(seen, step.deltas[i].sum(axis=0), atol=1e-6)
        np.testing.assert_allclose(seen, bias, atol=1e-6)
        np.testing.assert_array_equal(array(layer.feedback_kernel), 0.25 * array(layer.kernel))


def test_a_rule_of_the_user_is_saved_with_its_layer() -> None:
    layer = layers.FeedbackDense(3, feedback=Halved(0.125))
    restored = layers.FeedbackDense.from_config(layer.get_config())
    assert isinstance(restored.feedback, Halved)
    assert restored.feedback.factor == 0.125


@keras.saving.register_keras_serializable(package="keras_local_tests")
class Signs(feedback.FeedbackRule):
    """A user's rule without weights: the error returns through the signs of the kernel."""

    def weights(self, kernel: Any, initializer: Any) -> list[feedback.FeedbackWeight]:
        return []

    def error_kernel(self, kernel: Any, *feedback: Any) -> Any:
        return keras.ops.sign(kernel)

    def assignment(self, kernel: Any, feedback_kernel: Any) -> list[Any]:
        raise ValueError("fixed")

    def get_config(self) -> dict[str, Any]:
        return {}


def test_a_rule_without_weights() -> None:
    layer = layers.FeedbackDense(3, feedback=Signs())
    inputs = probe((2, 4))
    layer.build(inputs.shape)
    _, below = model_gradients(Called(layer), inputs, keras.ops.sum)
    expected = np.ones((2, 3)) @ np.sign(array(layer.kernel)).T
    np.testing.assert_allclose(below, expected, atol=1e-6)


def test_the_error_kernel_of_a_rule_without_weights_is_shown() -> None:
    layer = layers.FeedbackDense(3, feedback=Signs())
    layer.build((None, 4))
    np.testing.assert_array_equal(array(layer.feedback_kernel), np.sign(array(layer.kernel)))


class Called(keras.layers.Layer):
    """A layer called without a `training` argument."""

    def __init__(self, layer: keras.layers.Layer) -> None:
        super().__init__()
        self.layer = layer
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.layer(inputs)


def test_every_alias_is_among_those_that_a_type_checker_knows() -> None:
    assert set(get_args(feedback.FeedbackAlias)) == set(feedback._ALIASES)
