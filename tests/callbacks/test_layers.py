"""Which layers of a model use their feedback kernel, and under which names."""

from __future__ import annotations

import keras
import pytest
from keras import ops

from keras_local.callbacks import AlignmentMonitor
from keras_local.layers import (
    FeedbackConv2D,
    FeedbackDense,
)
from tests.callbacks.support import (
    Subclassed,
    reported,
    stack,
    train,
)


def test_convolutions_and_layers_without_weights_below():
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Rescaling(2.0),
            FeedbackConv2D(3, 3, activation="relu", name="first"),
            keras.layers.MaxPooling2D(),
            FeedbackConv2D(4, 2, name="second"),
            keras.layers.Flatten(),
            FeedbackDense(3, feedback="symmetric", name="symmetric"),
        ]
    )
    assert reported(train(model, AlignmentMonitor(), shape=(6, 6, 1))) == ["second"]


def test_built_by_the_first_batch():
    model = keras.Sequential([FeedbackDense(6, name="first"), FeedbackDense(3, name="second")])
    monitor = AlignmentMonitor(every=2)
    assert reported(train(model, monitor, epochs=2)) == ["second"]
    if keras.backend.backend() == "tensorflow":
        assert monitor.initial == {}
    else:
        assert monitor.initial


def test_unknown_layers_of_a_model_built_by_the_first_batch():
    model = keras.Sequential([FeedbackDense(6, name="first"), FeedbackDense(3, name="second")])
    with pytest.raises(ValueError, match="'first', 'second'"):
        train(model, AlignmentMonitor(layers=["third"]))


def test_any_trained_layer_below_counts():
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(5), FeedbackDense(3, name="only")]
    )
    assert reported(train(model, AlignmentMonitor())) == ["only"]


def test_frozen_layers_below_do_not_count():
    model = stack()
    model.layers[0].trainable = False
    assert reported(train(model, AlignmentMonitor())) == ["third"]


def test_functional_branches():
    inputs = keras.Input((4,))
    left = FeedbackDense(5, name="left")(inputs)
    right = FeedbackDense(5, name="right")(ops.tanh(inputs) * 2)
    merged = keras.layers.Concatenate()([left, right, inputs])
    outputs = FeedbackDense(3, name="top")(merged)
    assert reported(train(keras.Model(inputs, outputs), AlignmentMonitor())) == ["top"]


def test_residual_and_shared_layers():
    inputs = keras.Input((4,))
    shared = FeedbackDense(4, activation="tanh", name="shared")
    once = shared(inputs)
    twice = keras.layers.Add()([shared(once), inputs])
    outputs = FeedbackDense(3, name="top")(twice)
    # The second use of the shared layer sends the error down to the first.
    assert reported(train(keras.Model(inputs, outputs), AlignmentMonitor())) == ["shared", "top"]


def test_nested_models():
    bottom = keras.Sequential(
        [keras.Input((4,)), FeedbackDense(6, name="a"), FeedbackDense(5, name="b")],
        name="bottom",
    )
    inner = keras.Input((5,))
    top = keras.Model(inner, FeedbackDense(3, name="c")(inner), name="top")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, top(bottom(inputs)))
    assert reported(train(model, AlignmentMonitor())) == ["b", "c"]
    sequential = keras.Sequential([keras.Input((4,)), bottom, top])
    assert reported(train(sequential, AlignmentMonitor())) == ["b", "c"]


def test_nested_model_with_several_inputs():
    one, two = keras.Input((4,)), keras.Input((5,))
    joined = keras.layers.Concatenate()(
        [FeedbackDense(3, name="one")(one), FeedbackDense(3, name="two")(two)]
    )
    join = keras.Model([one, two], joined)
    inputs = keras.Input((4,))
    hidden = FeedbackDense(5, name="hidden")(inputs)
    model = keras.Model(inputs, FeedbackDense(3, name="top")(join([inputs, hidden])))
    # Only the second input of the nested model comes from trained weights.
    assert reported(train(model, AlignmentMonitor())) == ["top", "two"]


def test_wrapped_layer():
    model = keras.Sequential(
        [
            keras.Input((2, 4)),
            keras.layers.TimeDistributed(FeedbackDense(5, name="first")),
            keras.layers.TimeDistributed(FeedbackDense(4, name="second")),
            keras.layers.Flatten(),
            FeedbackDense(3, name="third"),
        ]
    )
    assert reported(train(model, AlignmentMonitor(), shape=(2, 4))) == ["second", "third"]


@keras.saving.register_keras_serializable(package="tests")
def test_subclassed_models_report_all_or_the_named():
    assert reported(train(Subclassed(), AlignmentMonitor())) == ["high", "low", "middle"]
    named = AlignmentMonitor(layers=["high", "middle"])
    assert reported(train(Subclassed(), named)) == ["high", "middle"]


def test_subclassed_model_inside_a_functional_one():
    inputs = keras.Input((4,))
    outputs = FeedbackDense(3, name="top")(Subclassed()(inputs))
    model = keras.Model(inputs, outputs)
    assert reported(train(model, AlignmentMonitor())) == ["high", "low", "middle", "top"]


def test_names_that_occur_twice():
    def part(name):
        return keras.Sequential(
            [keras.Input((4,)), FeedbackDense(4, name="same"), FeedbackDense(4, name=name)],
            name=f"part_{name}",
        )

    model = keras.Sequential(
        [keras.Input((4,)), part("a"), part("b"), FeedbackDense(3, name="top")]
    )
    names = ["a", "b", "part_b/same", "top"]
    assert reported(train(model, AlignmentMonitor())) == names
    assert reported(train(model, AlignmentMonitor(layers=["part_a/same"]))) == ["part_a/same"]


def test_many_residual_blocks():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(4, trainable=False)(inputs)
    for index in range(40):
        x = keras.layers.Add()([x, FeedbackDense(4, name=f"block{index}")(x)])
    model = keras.Model(inputs, x)
    monitor = AlignmentMonitor(measures=["norm_ratio"])
    monitor.set_model(model)
    monitor.on_train_begin()
    assert list(monitor.initial) == [f"norm_ratio/block{index}" for index in range(1, 40)]
