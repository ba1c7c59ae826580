"""Functions that find what is below a layer in the graphs of a model."""

from __future__ import annotations

from typing import Any

import keras
import pytest

from keras_local.layers.graph_walks import with_weights_below


def dense(name: str) -> Any:
    return keras.layers.Dense(3, name=name)


def names(model: keras.Model, layer: Any) -> list[str] | None:
    below = with_weights_below(model, layer)
    return None if below is None else [each.name for each in below]


def test_in_the_order_of_the_graph_through_branches() -> None:
    left, right, top, apart = (dense(name) for name in ("left", "right", "top", "apart"))
    inputs = keras.Input((3,))
    joined = keras.layers.Add()([left(inputs), keras.ops.tanh(right(inputs))])
    model = keras.Model(inputs, [top(joined), apart(inputs)])
    assert names(model, top) == ["left", "right"]
    assert names(model, left) == names(model, apart) == []


def test_models_inside() -> None:
    first, second = dense("first"), dense("second")
    inner = keras.Sequential([keras.Input((3,)), first, second], name="inner")
    model = keras.Sequential([keras.Input((3,)), dense("below"), inner, dense("above")])
    assert names(model, first) == ["below"]
    assert names(model, second) == ["below", "first"]
    assert names(model, model.layers[-1]) == ["below", "inner"]


def test_all_calls_of_a_layer() -> None:
    shared = dense("shared")
    inputs = keras.Input((3,))
    model = keras.Model(inputs, [shared(inputs), shared(dense("below")(inputs))])
    assert names(model, shared) == ["below"]


class Holder(keras.layers.Layer):
    """A layer around another."""

    def __init__(self, held: Any) -> None:
        super().__init__()
        self.held = held

    def build(self, input_shape: Any) -> None:
        self.held.build(input_shape)

    def call(self, inputs: Any) -> Any:
        return self.held(inputs)


@pytest.mark.parametrize("around", [Holder, keras.layers.TimeDistributed])
def test_a_layer_that_others_call_is_not_in_the_graph(around: Any) -> None:
    layer = dense("inside")
    model = keras.Sequential([keras.Input((2, 3)), around(layer)])
    assert names(model, layer) is None
    assert names(model, dense("elsewhere")) is None
    assert names(Holder(layer), layer) is None  # type: ignore[arg-type]
