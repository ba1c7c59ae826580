"""Monitors of layers that are none of the package's, and of layers inside of others."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers
from keras_local.callbacks import AlignmentMonitor
from keras_local.metrics import alignment_angle
from tests.support import probe
from tests.support_layers import Halved

FA = "feedback_alignment"


def attention() -> keras.Model:
    """Two names twice: a layer of several kernels, one inside of a wrapper."""
    inputs = keras.Input((5, 4))
    x = keras.layers.Dense(4)(inputs)
    x = layers.FeedbackMultiHeadAttention(2, 3, name="attention", feedback=FA)(x, x)
    timed = keras.layers.TimeDistributed(layers.FeedbackDense(3, name="inner", feedback=FA))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(timed(x)))
    model.compile("sgd", "mse")
    return model


def own() -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), Halved(3, name="own")])
    model.compile("sgd", "mse")
    return model


def started(model: keras.Model, **options: Any) -> AlignmentMonitor:
    monitor = AlignmentMonitor(**options)
    monitor.set_model(model)
    monitor.on_train_begin()
    return monitor


def test_parts_of_a_layer_and_layers_in_wrappers() -> None:
    found = started(attention(), measures=["alignment_angle"]).initial
    names = ["query", "key", "value", "attention_output", "inner"]
    assert list(found) == [f"alignment_angle/{name}" for name in names]


def test_the_name_of_a_layer_stands_for_its_parts() -> None:
    found = started(attention(), layers=["attention"], measures=["norm_ratio"]).initial
    names = ["query", "key", "value", "attention_output"]
    assert list(found) == [f"norm_ratio/{name}" for name in names]


def test_gradients_of_parts() -> None:
    data = (probe((6, 5, 4)), np.ones((6, 3), "float32"))
    found = started(attention(), data=data, measures=["norm_ratio"]).initial
    assert found["gradient_angle/inner"] == pytest.approx(0.0, abs=0.1)
    assert found["gradient_angle/query"] > 20.0
    assert found["local_gradient_angle/key"] > 20.0


def test_a_layer_of_a_user() -> None:
    model = own()
    found = started(model, measures=["alignment_angle"]).initial
    layer = model.layers[1]
    assert found == {"alignment_angle/own": alignment_angle(layer.kernel, layer.back)}


def test_a_layer_of_a_user_that_cannot_do_without_its_rule() -> None:
    """Its gradient by backpropagation is not known: refused by name, before training."""
    data = (probe((6, 4)), np.ones((6, 3), "float32"))
    with pytest.raises(ValueError, match=r"`model` must be .*`exact_errors`.*Halved 'own'"):
        started(own(), data=data)


class Exact(Halved):
    """Its errors can be made those of the chain rule."""

    def exact_errors(self) -> Any:
        from contextlib import contextmanager

        @contextmanager
        def exact() -> Any:
            self.error_kernel = lambda kernel, *feedback: kernel
            try:
                yield
            finally:
                del self.error_kernel

        return exact()


def test_gradients_above_which_a_layer_of_a_user_stands() -> None:
    below = layers.FeedbackDense(4, name="below")
    model = keras.Sequential([keras.Input((4,)), below, Exact(3, name="own")])
    model.compile("sgd", "mse")
    data = (probe((6, 4)), np.ones((6, 3), "float32"))
    found = started(model, data=data, layers=["below"], measures=["norm_ratio"]).initial
    assert found["gradient_angle/below"] > 5.0


def test_wrong_typed_arguments() -> None:
    for options in ({"every": 0}, {"every": True}, {"measures": "nobody"}, {"measures": None}):
        with pytest.raises((TypeError, ValueError), match=f"`{next(iter(options))}` must be"):
            AlignmentMonitor(**options)
