"""Models of every kind, and what the tests of their conversion ask of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_local import layers
from keras_local.activations import Ramp
from keras_local.models import convert
from tests.support import array, probe

FA = "feedback_alignment"


def sequential() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(5, activation="tanh", name="first"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(4, use_bias=False),
            keras.layers.Dense(3, activation=Ramp()),
        ]
    )


def convolutions() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
            keras.layers.Conv2D(4, 2, groups=2, kernel_regularizer=keras.regularizers.L2(0.1)),
            keras.layers.Reshape((9, 4)),
            keras.layers.Conv1D(5, 2, dilation_rate=2, padding="causal"),
            keras.layers.Reshape((3, 3, 5, 1)),
            keras.layers.Conv3D(2, 2, activity_regularizer=keras.regularizers.L2(0.1)),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )


def multi_input() -> keras.Model:
    """A dict of inputs, two outputs, operations, a layer used twice, a lambda."""
    one, other = keras.Input((6,), name="one"), keras.Input((6,), name="other")
    shared = keras.layers.Dense(5, name="shared")
    a, b = shared(one), shared(other)
    merged = keras.ops.multiply(a, 2.0) + keras.layers.Concatenate()([b, b])[:, :5]
    doubled = keras.layers.Lambda(lambda x: keras.ops.add(x, x))(b)
    return keras.Model(
        {"one": one, "other": other}, [keras.layers.Dense(3)(merged), keras.ops.tanh(doubled)]
    )


def residual() -> keras.Model:
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    y = keras.layers.BatchNormalization()(x)
    y = keras.layers.Conv2D(4, 3, padding="same")(keras.layers.ReLU()(y))
    x = keras.layers.Add()([x, y])
    return keras.Model(
        inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)), name="residual"
    )


def nested() -> keras.Model:
    """Models in models, one of them used twice, and one layer in two of them."""
    common = keras.layers.Dense(4, name="common")
    inner_input = keras.Input((6,))
    hidden = keras.layers.Dense(6, name="hidden")(inner_input)
    inner = keras.Model(inner_input, common(hidden), name="inner")
    stack = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(6, name="hidden")], name="stack"
    )
    inputs = keras.Input((6,))
    outputs = inner(stack(inner(inputs)))
    return keras.Model(inputs, outputs + common(inputs), name="outer")


def ours() -> keras.Model:
    """Feedback and Hebbian layers that are there already."""
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.FeedbackDense(5, activation="tanh", feedback=FA),
            layers.HebbianDense(4, activation="relu"),
            keras.layers.Dense(3),
        ]
    )


def others() -> keras.Model:
    """Every other linear layer that has a feedback form."""
    inputs = keras.Input((8, 8, 4))
    x = keras.layers.SeparableConv2D(6, 3, activation="relu")(inputs)
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2)(x)
    x = keras.layers.Conv2DTranspose(5, 3, strides=2, activation=Ramp())(x)
    x = keras.layers.Reshape((-1, 5))(x)
    x = keras.layers.EinsumDense("abc,cd->abd", output_shape=(None, 6), bias_axes="d")(x)
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling1D()(x)))


def attention() -> keras.Model:
    query, value = keras.Input((6, 4)), keras.Input((5, 8))
    x = keras.layers.MultiHeadAttention(2, 3, value_dim=5, dropout=0.3)(query, value)
    x = keras.layers.LayerNormalization()(x + query)
    return keras.Model([query, value], keras.layers.Dense(3)(x))


MODELS: dict[str, Callable[[], keras.Model]] = {
    "sequential": sequential,
    "convolutions": convolutions,
    "multi_input": multi_input,
    "residual": residual,
    "nested": nested,
    "ours": ours,
    "others": others,
    "attention": attention,
}


def inputs_of(model: keras.Model, seed: int = 0, count: int = 8) -> Any:
    """Arrays in the structure of the model's inputs."""
    seeds = iter(range(seed, seed + 9))
    structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return keras.tree.map_structure(lambda t: probe((count, *t.shape[1:]), next(seeds)), structure)


def outputs_of(model: keras.Model, inputs: Any, training: bool = False) -> list[np.ndarray]:
    return [array(t) for t in keras.tree.flatten(model(inputs, training=training))]


def gradients_of(model: keras.Model, inputs: Any) -> list[np.ndarray]:
    """Of a fixed function of the outputs in training, at the trainable weights."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        outputs = keras.tree.flatten(model(inputs, training=True))
        loss = sum(tf.reduce_sum(o * probe(o.shape, 50)) for o in outputs) + sum(model.losses)
    variables = [weight.value for weight in model.trainable_weights]
    return [array(g) for g in tape.gradient(loss, variables, unconnected_gradients="zero")]


def trained(name: str) -> keras.Model:
    """A model in which no two weights, and no statistic, are what they were at first."""
    keras.utils.set_random_seed(1)
    model = MODELS[name]()
    x = inputs_of(model)
    targets = [np.ones(o.shape, "float32") for o in outputs_of(model, x)]
    loss = ["mse"] * len(targets) if len(targets) > 1 else "mse"
    model.compile(keras.optimizers.SGD(0.05), loss, jit_compile=False)
    model.fit(x, targets if len(targets) > 1 else targets[0], epochs=2, verbose=0)
    return model


def quietly(model: keras.Model, *arguments: Any, **options: Any) -> keras.Model:
    return convert(model, *arguments, verbose=False, **options)


def feedback_layers(model: keras.Model) -> dict[str, layers.FeedbackLayer]:
    """By name; those of nested models as well."""
    parts = model._flatten_layers(include_self=False)
    return {part.name: part for part in parts if isinstance(part, layers.FeedbackLayer)}
