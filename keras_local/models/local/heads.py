"""The layers by which a block is judged in training, and which no trained network keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import keras
import numpy as np
from keras import ops

from keras_local import _validation as check
from keras_local.layers import FeedbackDense
from keras_local.models.local.similarity import sizes_and_channels
from keras_local.ops.backend import Tensor
from keras_local.ops.precision import precise

HeadName = Literal["cnn", "mlp", "mlp-sr"]
HEADS: tuple[str, ...] = get_args(HeadName)
BITS = 128
"""Length of the random code of a class in the biological forms."""


def pooled(shape: Any, limit: int) -> list[keras.layers.Layer]:
    """Return layers that average maps until a row has at most `limit` entries, and flatten them.

    Windows double in height and width in turn; zeros at the borders count in the mean. Maps of
    unknown size are averaged over all positions.
    """
    sizes, channels = sizes_and_channels(shape)
    dtype = working_dtype()
    flatten = keras.layers.Flatten(dtype=dtype)
    if not sizes:
        return [flatten]
    rank = len(sizes)
    if any(size is None for size in sizes):
        return [_layer("GlobalAveragePooling", rank, dtype=dtype)]
    window, padding = windows([int(size or 1) for size in sizes], int(channels or 1), limit)
    if max(window) == 1:
        return [flatten]
    around = [_layer("ZeroPadding", rank, _unpacked(padding), dtype=dtype)] if any(padding) else []
    average = _layer("AveragePooling", rank, _unpacked(window), _unpacked(window), dtype=dtype)
    return [*around, average, flatten]


def windows(sizes: Sequence[int], channels: int, limit: int) -> tuple[list[int], list[int]]:
    """Return the windows of the average of a prediction's head, and the zeros on each side."""
    window, out = [1] * len(sizes), list(sizes)

    def large() -> bool:
        return channels * math.prod(out) > limit

    while large() and window[0] < sizes[0]:
        for axis, size in enumerate(sizes):
            if axis == 0 or large():
                window[axis] *= 2
                out[axis] = -(-size // window[axis])
    triples = zip(window, out, sizes, strict=True)
    return window, [(width * (left - size // width)) // 2 for width, left, size in triples]


def linear(shape: Any, limit: int, classes: int) -> keras.Sequential:
    """Return a linear map of the pooled outputs to logits, with kernel zero at the start."""
    dtype = working_dtype()
    dense = keras.layers.Dense(classes, kernel_initializer="zeros", dtype=dtype)
    return keras.Sequential([*pooled(shape, limit), dense], name="prediction")


def projection(shape: Any) -> keras.layers.Layer:
    """Return a square matrix, or for maps a convolution of width 3, without bias."""
    sizes, channels = sizes_and_channels(shape)
    allowed = "a model whose blocks have a known number of channels"
    check.require(channels is not None, "model", allowed, tuple(shape))
    if not sizes:
        return keras.layers.Dense(channels, use_bias=False, dtype=working_dtype())
    return _layer(
        "Conv", len(sizes), channels, 3, padding="same", use_bias=False, dtype=working_dtype()
    )


def of_greedy_learning(name: str, shape: Any, classes: int) -> keras.Sequential:
    """Return a head of Belilovsky et al.: `"mlp-sr"`, `"mlp"` or `"cnn"`."""
    sizes, channels = sizes_and_channels(shape)
    known = channels is not None and len(sizes) in (0, 2) and None not in sizes
    allowed = f"None for blocks that are not rows or images of known size; {name!r} is for these"
    check.require(known, "head", allowed, f"{name!r} for a block of shape {tuple(shape)}")
    dtype = working_dtype()

    def normed(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
        return [layer, _normalisation(), keras.layers.ReLU(dtype=dtype)]

    found: list[keras.layers.Layer] = []
    sides = [int(size or 1) for size in sizes]
    if sides and name != "cnn":
        sides = [-(-side // 4) for side in sides]
        found.append(AdaptiveAveragePooling(sides, dtype=dtype))
    convolutions = {"cnn": (2, 3), "mlp-sr": (3, 1), "mlp": (0, 1)}[name]
    for _ in range(convolutions[0] if sides else 0):
        convolution = keras.layers.Conv2D(
            channels, convolutions[1], padding="same", use_bias=name == "cnn", dtype=dtype
        )
        found += normed(convolution)
    if sides:
        sides = [min(2, side) for side in sides]
        found.append(AdaptiveAveragePooling(sides, dtype=dtype))
    if name == "cnn":
        found.append(_normalisation())
    found.append(keras.layers.Flatten(dtype=dtype))
    width = int(channels or 1) * math.prod(sides)
    for _ in range(0 if name == "cnn" else 3):
        found += normed(keras.layers.Dense(width, dtype=dtype))
    return keras.Sequential([*found, keras.layers.Dense(classes, dtype=dtype)], name="prediction")


class AdaptiveAveragePooling(keras.layers.Layer):
    """Layer that averages images to a given size, by windows of almost equal size.

    Args:
        sizes: Height and width of the outputs.
        dtype: Precision.
    """

    def __init__(self, sizes: Sequence[int], *, dtype: Any = None) -> None:
        super().__init__(dtype=dtype)
        self.sizes = tuple(sizes)

    def build(self, input_shape: Any) -> None:
        """Take note of the windows."""
        inputs, _ = sizes_and_channels(input_shape)
        self.windows = [_means(int(i or 1), o) for i, o in zip(inputs, self.sizes, strict=True)]
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """Return the means, first over the rows and then over the columns."""
        last = keras.config.image_data_format() == "channels_last"
        rows = "bhwc,oh->bowc" if last else "bchw,oh->bcow"
        columns = "bhwc,ow->bhoc" if last else "bchw,ow->bcho"
        height, width = (ops.cast(window, inputs.dtype) for window in self.windows)
        return ops.einsum(columns, ops.einsum(rows, inputs, height), width)


class BitsHead(keras.layers.Layer):
    """Layer of a biological form: pooled outputs, a readout of bits, and the codes of the classes.

    The code of a class is a row of a random matrix that is never trained. The readout starts at
    zero and sends errors through fixed random weights of their own.

    Args:
        shape: Shape of the block's outputs.
        limit: Largest number of entries of a pooled row.
        classes: Number of classes.
        readout: Whether there is a readout.
        flat: Whether the pooled outputs are flattened.
    """

    def __init__(
        self, shape: Any, limit: int, classes: int, *, readout: bool, flat: bool = True
    ) -> None:
        dtype = working_dtype()
        super().__init__(dtype=dtype)
        *around, last = pooled(shape, limit)
        # Of maps that are not flattened, `last` would only flatten.
        kept = flat or len(shape) == 2 or None in shape[1:]
        layers = [*around, last if kept else keras.layers.Identity(dtype=dtype)]
        self.pooling = keras.Sequential(layers, name="pooling")
        self.pooling.build(shape)
        self.readout = None
        if readout:
            self.readout = FeedbackDense(
                BITS,
                kernel_initializer="zeros",
                feedback="feedback_alignment",
                feedback_initializer=keras.initializers.VarianceScaling(
                    1.0 / 3.0, "fan_in", "uniform"
                ),
                dtype=dtype,
            )
            self.readout.build(self.pooling.compute_output_shape(shape))
        bound = 1.0 / math.sqrt(classes)
        self.codes = self.add_weight(
            name="codes",
            shape=(classes, BITS),
            initializer=keras.initializers.RandomUniform(-bound, bound),
            trainable=False,
        )
        self.built = True

    def build(self, input_shape: Any) -> None:
        """Do nothing: the head is made for the shape of a block."""

    def code(self, targets: Tensor) -> Tensor:
        """Return the random code of each sample's class."""
        return ops.matmul(targets, ops.convert_to_tensor(self.codes))

    def call(self, inputs: Tensor) -> Tensor:
        """Return logits of the bits, or without a readout the pooled outputs."""
        outputs = self.pooling(inputs)
        return outputs if self.readout is None else self.readout(outputs)


class SeveralHeads(keras.layers.Layer):
    """Layer that holds the heads of a mixed loss.

    Args:
        parts: A head, or None, for each loss.
    """

    def __init__(self, parts: Sequence[Any]) -> None:
        super().__init__(dtype=working_dtype())
        self.parts = list(parts)

    def build(self, input_shape: Any) -> None:
        """Build all heads."""
        for part in self.parts:
            if part is not None and not part.built:
                part.build(input_shape)
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """Return the inputs: the losses call the heads."""
        return inputs


def working_dtype() -> str:
    """Return the precision of heads and losses: half precision squares norms to infinity or 0."""
    return precise(keras.config.floatx())


def _normalisation() -> keras.layers.BatchNormalization:
    axis = -1 if keras.config.image_data_format() == "channels_last" else 1
    return keras.layers.BatchNormalization(
        axis=axis, momentum=0.9, epsilon=1e-5, dtype=working_dtype()
    )


def _layer(kind: str, rank: int, *arguments: Any, **keywords: Any) -> keras.layers.Layer:
    """Return the Keras layer of a kind for images, sequences or volumes."""
    return getattr(keras.layers, f"{kind}{rank}D")(*arguments, **keywords)


def _unpacked(sizes: Sequence[int]) -> Any:
    return sizes[0] if len(sizes) == 1 else tuple(sizes)


def _means(inputs: int, outputs: int) -> np.ndarray:
    """Return the matrix of means along one axis, `(outputs, inputs)`."""
    matrix = np.zeros((outputs, inputs), "float32")
    for place in range(outputs):
        start, end = place * inputs // outputs, -(-(place + 1) * inputs // outputs)
        matrix[place, start:end] = 1.0 / (end - start)
    return matrix
