"""The phase in which feedback weights learn from activity: what moves, and what comes back."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers
from keras_local.feedback import MatchedNorm, SymmetricAlignment
from keras_local.metrics import alignment_angle
from keras_local.models import align
from tests.support import BACKEND, array, probe, weights_of

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="on one backend")

RULE = SymmetricAlignment(0.5, 0.5)


def net(rule: Any = RULE) -> keras.Model:
    inner = keras.Sequential([keras.Input((6,)), layers.FeedbackDense(4, feedback=rule)])
    parts = [keras.layers.Dense(6), keras.layers.BatchNormalization(), inner]
    return keras.Sequential([keras.Input((5,)), *parts, keras.layers.Dense(3)])


def flags(model: keras.Model) -> list[bool]:
    parts = model._flatten_layers()
    return [part.trainable for part in parts] + [weight.trainable for weight in model.weights]


@pytest.mark.parametrize("rule", [RULE, MatchedNorm(RULE)])
def test_feedback_alone_learns_inside_of_a_nested_model(rule: Any) -> None:
    model = net(rule)
    layer = model.layers[2].layers[0]
    before, angle = weights_of(model), alignment_angle(layer.kernel, layer.feedback_kernel)
    align(model, probe((64, 5)), epochs=5, batch_size=8, verbose=0)
    assert alignment_angle(layer.kernel, layer.feedback_kernel) < 0.5 * angle
    moved = {
        weight.name
        for weight, old in zip(model.weights, before, strict=True)
        if np.any(array(weight) != old)
    }
    assert moved == {"feedback_kernel"}


def test_each_weight_has_its_flag_back() -> None:
    model = net()
    model.layers[0].bias.trainable = False
    model.layers[2].layers[0].kernel.trainable = False
    before = flags(model)
    align(model, probe((16, 5)), verbose=0)
    assert flags(model) == before


class Stop(keras.callbacks.Callback):
    """Ends a phase as Ctrl-C does."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        raise KeyboardInterrupt


REFUSED: dict[str, tuple[dict[str, Any], type[BaseException]]] = {
    "nan": ({"inputs": np.full((8, 5), np.nan)}, ValueError),
    "shape": ({"inputs": np.ones((8, 4))}, ValueError),
    "labels": ({"inputs": {"x": np.ones((8, 5))}}, ValueError),
    "optimizer": ({"inputs": np.ones((8, 5)), "optimizer": "nobody"}, ValueError),
    "unknown argument": ({"inputs": np.ones((8, 5)), "epoch": 3}, TypeError),
    "interrupt": ({"inputs": np.ones((8, 5)), "callbacks": [Stop()]}, KeyboardInterrupt),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_call_changes_nothing(case: str) -> None:
    arguments, error = REFUSED[case]
    model = net()
    before, then = weights_of(model), flags(model)
    with pytest.raises(error):
        align(model, **arguments, verbose=0)
    assert flags(model) == then
    for one, other in zip(weights_of(model), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_message_names_inputs() -> None:
    with pytest.raises(ValueError, match=r"`inputs` must be finite.*Received"):
        align(net(), np.full((8, 5), np.inf), verbose=0)


def test_a_dataset_with_nan_leaves_the_weights() -> None:
    import tensorflow as tf

    model, x = net(), probe((16, 5))
    x[12] = np.nan
    before = weights_of(model)
    with pytest.raises(ValueError, match="finite"):
        align(model, tf.data.Dataset.from_tensor_slices(x).batch(4), verbose=0)
    for one, other in zip(weights_of(model), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_several_inputs() -> None:
    one, other = keras.Input((4,)), keras.Input((4,))
    layer = layers.FeedbackDense(3, feedback=RULE)
    model = keras.Model([one, other], layer(keras.layers.Add()([one, other])))
    x = [probe((64, 4)), probe((64, 4), 1)]
    angle = alignment_angle(layer.kernel, layer.feedback_kernel)
    align(model, x, batch_size=8, epochs=3, verbose=0)
    assert alignment_angle(layer.kernel, layer.feedback_kernel) < angle
    x[1][3] = np.nan
    with pytest.raises(ValueError, match="`inputs` must be finite"):
        align(model, x, verbose=0)


@pytest.mark.parametrize("model", [None, "model", keras.Sequential([keras.layers.Dense(2)])])
def test_no_built_model(model: Any) -> None:
    with pytest.raises(ValueError, match="`model` must be a built"):
        align(model, probe((4, 5)))


def test_no_rule_that_learns_from_activity() -> None:
    with pytest.raises(ValueError, match=r"`model` must be .*learns from activity"):
        align(net("kolen_pollack"), probe((4, 5)))
