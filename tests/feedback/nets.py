"""Two small nets with smooth units, so that rounding is not amplified by kinks."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_local import layers
from tests.support import array, compile_options, probe

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def dense_net(feedback: Any, **options: Any) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.FeedbackDense(5, "tanh", feedback=feedback, **options),
            layers.FeedbackDense(4, "tanh", feedback=feedback, **options),
            layers.FeedbackDense(3, feedback=feedback, **options),
        ]
    )


def conv_net(feedback: Any, **options: Any) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.FeedbackConv2D(3, 3, padding="same", activation="tanh", feedback=feedback),
            layers.FeedbackConv2D(2, 3, strides=2, activation="tanh", feedback=feedback, **options),
            keras.layers.Flatten(),
            layers.FeedbackDense(3, feedback=feedback, **options),
        ]
    )


NETS = {"dense": dense_net, "conv": conv_net}


def data(model: keras.Model, samples: int = 16) -> tuple[np.ndarray, np.ndarray]:
    inputs = probe((samples, *model.input_shape[1:]), 1)
    return inputs, np.random.default_rng(2).integers(0, 3, samples)


def fit(model: keras.Model, optimizer: Any, steps: int = 40, **options: Any) -> list[float]:
    """`steps` steps on two batches of eight in turn; the loss of each step.

    One epoch, because every epoch costs the time of many steps of so small a net.
    """
    inputs, labels = data(model)
    means: list[float] = []
    record = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: means.append(float(logs["loss"]))
    )
    model.compile(optimizer, LOSS, **{**compile_options(), **options})
    model.fit(
        np.tile(inputs, (steps // 2, *[1] * (inputs.ndim - 1))),
        np.tile(labels, steps // 2),
        batch_size=8,
        shuffle=False,
        verbose=0,
        callbacks=[record],
    )
    # Keras reports the mean over the steps so far.
    return list(np.diff(np.arange(1, steps + 1) * means, prepend=0.0))


def kernels(model: keras.Model) -> list[np.ndarray]:
    return [array(layer.kernel) for layer in parts(model)]


def feedback_kernels(model: keras.Model) -> list[np.ndarray]:
    return [array(layer.feedback_kernel) for layer in parts(model)]


def biases(model: keras.Model) -> list[np.ndarray]:
    return [array(layer.bias) for layer in parts(model)]


def parts(model: keras.Model) -> list[Any]:
    """The layers that have a kernel."""
    return [layer for layer in model.layers if hasattr(layer, "kernel")]
