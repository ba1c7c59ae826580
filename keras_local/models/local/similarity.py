"""Similarities of the samples of a batch, as correlations over features."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keras_local.ops.backend import Tensor


def similarity(rows: Tensor) -> Tensor:
    """Return the correlation of each sample with each other, shape `(batch, batch)`.

    A sample without variance has the correlation 0 with all samples, also with itself, and no
    gradient.
    """
    centred = rows - ops.mean(rows, axis=1, keepdims=True)
    lengths = _root(ops.sum(ops.square(centred), axis=1, keepdims=True))
    # Otherwise a sample of length 0 would have a gradient of 1e8.
    normed = centred * ops.where(lengths > 0, 1.0 / (1e-8 + lengths), 0.0)
    return ops.clip(ops.matmul(normed, ops.transpose(normed)), -1.0, 1.0)


def features(outputs: Tensor) -> Tensor:
    """Return one row for each sample: of maps, the standard deviation of each channel.

    Maps of at most 3 channels, or of height 1, are flattened.
    """
    sizes, channels = sizes_and_channels(outputs.shape)
    if not sizes or sizes[0] == 1 or (channels is not None and channels <= 3):
        return ops.reshape(outputs, (-1, math.prod(outputs.shape[1:])))
    axes = tuple(range(2, len(outputs.shape)))
    if keras.config.image_data_format() == "channels_last":
        axes = tuple(axis - 1 for axis in axes)
    count = math.prod(ops.shape(outputs)[axis] for axis in axes)
    centred = outputs - ops.mean(outputs, axis=axes, keepdims=True)
    squares = ops.sum(ops.square(centred), axis=axes)
    return _root(squares / ops.maximum(ops.cast(count, outputs.dtype) - 1.0, 1.0))


def sizes_and_channels(shape: Any) -> tuple[list[int | None], int | None]:
    """Return the sizes of space or time, and the number of channels, of a tensor's shape."""
    _, *sizes = shape
    last = keras.config.image_data_format() == "channels_last"
    # Sequences have their channels last in Keras.
    channels = sizes.pop(-1 if last or len(sizes) < 2 else 0)
    return sizes, channels


def _root(squares: Tensor) -> Tensor:
    """Return the square root, with the gradient 0 at 0."""
    positive = squares > 0
    return ops.where(positive, ops.sqrt(ops.where(positive, squares, 1.0)), 0.0)
