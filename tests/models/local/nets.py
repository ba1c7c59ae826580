"""Nets whose peak memory is measured in a process of their own."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_local import models


def stack(blocks: int, loss: str, compiled: bool = False) -> tuple[Any, np.ndarray, np.ndarray]:
    """Equal blocks of convolution, normalisation and ReLU; activations of 4 MB each."""
    layers: list[Any] = [keras.Input((16, 16, 16))]
    for _ in range(blocks):
        layers += [keras.layers.Conv2D(16, 3, padding="same")]
        layers += [keras.layers.BatchNormalization(), keras.layers.ReLU()]
    layers += [keras.layers.Flatten(), keras.layers.Dense(10)]
    model = keras.Sequential(layers)
    if loss != "backprop":
        model = models.local_losses(model, loss)  # type: ignore[arg-type]
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=compiled or keras.backend.backend() == "jax",
    )
    return model, np.ones((256, 16, 16, 16), "float32"), np.zeros(256, "int32")
