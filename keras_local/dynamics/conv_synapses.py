"""A convolution with max pooling between two populations of a network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
from keras import initializers, ops

from keras_local import _validation as check
from keras_local._keras_objects import regularizer
from keras_local._serialization import serializable
from keras_local._types import DType, InitializerLike, Padding, RegularizerLike
from keras_local.dynamics._arguments import initializer, layer_arguments
from keras_local.ops import Convolution, read
from keras_local.ops.backend import Tensor
from keras_local.ops.precision import precise

Shape = tuple[int | None, ...]
_SIDE = 2


@dataclass(frozen=True)
class ConvWeights:
    """The weights of `ConvSynapses` at one moment: tensors without gradients."""

    linear_map: Convolution
    kernel: Tensor
    bias: Tensor

    def convolve(self, below: Tensor) -> Tensor:
        """Return the convolution and the bias, before pooling."""
        return self.linear_map.apply(below, self.kernel) + self.bias

    def backward(self, above: Tensor, winners: Tensor, below: Tensor) -> Tensor:
        """Send pooled activity to the positions of the maxima, and down through the kernel."""
        spread = unpool(above, winners, self._sides(below))
        return self.linear_map.input_gradient(spread, self.kernel, below)

    def correlate(self, below: Tensor, above: Tensor, winners: Tensor) -> Tensor:
        """Return the correlation of activities below and, at their maxima, above."""
        spread = unpool(above, winners, self._sides(below))
        return self.linear_map.kernel_gradient(below, spread, self.kernel)

    def _sides(self, below: Tensor) -> tuple[int, int]:
        cut = 0 if self.linear_map.padding == "same" else self.kernel.shape[0] - 1
        return below.shape[1] - cut, below.shape[2] - cut


@serializable
class ConvSynapses(keras.layers.Layer):
    """Kernel and bias of a convolution with 2 x 2 max pooling between two populations.

    Called as a layer, it returns `maxpool(conv(inputs, kernel) + bias)`.

    Args:
        filters: Number of channels above.
        kernel_size: Height and width of the kernel.
        padding: `"same"` or `"valid"`.
        kernel_initializer: Initializer of the kernel. By default uniform up to
            `1 / sqrt(inputs of a unit)`, like the bias.
        name: Name of the layer.
        dtype: Precision of the weights, `"float32"` or `"float64"`.
        trainable: Whether the weights learn.
        activity_regularizer: Regularizer of the outputs of a call.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 3,
        padding: Padding = "same",
        kernel_initializer: InitializerLike | None = None,
        *,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        activity_regularizer: RegularizerLike = None,
    ) -> None:
        filters = check.positive_integer("filters", filters)
        kernel_size = check.positive_integer("kernel_size", kernel_size)
        check.one_of("padding", padding, ("same", "valid"))
        uniform = initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
        activity_regularizer = regularizer("activity_regularizer", activity_regularizer)
        super().__init__(
            **layer_arguments(name, dtype, trainable), activity_regularizer=activity_regularizer
        )
        self.filters = filters
        self.kernel_size = kernel_size
        self.padding = padding
        self.kernel_initializer = initializer("kernel_initializer", kernel_initializer, uniform)
        self.linear_map = Convolution(strides=(1, 1), padding=padding, dilation_rate=(1, 1))
        self.kernel: keras.Variable | None = None
        self.bias: keras.Variable | None = None

    def build(self, input_shape: Shape) -> None:
        """Create the weights for inputs of `input_shape[-1]` channels."""
        options: dict[str, Any] = {
            "dtype": precise(self.variable_dtype),
            "autocast": False,
        }
        shape = (self.kernel_size, self.kernel_size, input_shape[-1], self.filters)
        self.kernel = self.add_weight(
            name="kernel", shape=shape, initializer=self.kernel_initializer, **options
        )
        limit = 1.0 / math.sqrt(math.prod(shape[:-1]))  # type: ignore[arg-type]
        self.bias = self.add_weight(
            name="bias",
            shape=(self.filters,),
            initializer=initializers.RandomUniform(-limit, limit),
            **options,
        )
        self.built = True

    def read(self) -> ConvWeights:
        """Return the weights as tensors without gradients."""
        kernel = ops.stop_gradient(read(self.kernel))
        return ConvWeights(self.linear_map, kernel, ops.stop_gradient(read(self.bias)))

    def call(self, inputs: Tensor) -> Tensor:
        """Return `maxpool(conv(inputs, kernel) + bias)` in the dtype of the policy."""
        inputs = ops.cast(inputs, precise(self.variable_dtype))
        return ops.cast(pool(self.read().convolve(inputs))[0], self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return `(batch, height / 2, width / 2, filters)`."""
        cut = 0 if self.padding == "same" else self.kernel_size - 1
        sides = [None if n is None else max(n - cut, 0) // _SIDE for n in input_shape[1:3]]
        return (input_shape[0], *sides, self.filters)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "padding": self.padding,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
        }


def pool(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maxima of the 2 x 2 windows, and a mask of their positions.

    The mask has the shape `(batch, h, 2, w, 2, channels)` with a single 1 in each window, at the
    first of equal maxima. The last row or column belongs to no window if their number is odd.
    """
    _, height, width, channels = inputs.shape
    h, w = height // _SIDE, width // _SIDE
    windows = inputs[:, : h * _SIDE, : w * _SIDE]
    windows = ops.reshape(windows, (-1, h, _SIDE, w, _SIDE, channels))
    maxima = ops.max(windows, axis=(2, 4), keepdims=True)
    equal = ops.cast(ops.equal(windows, maxima), inputs.dtype)
    # The first of equal maxima is taken: the count at the others is more than 1.
    upper, lower = equal[:, :, :1], equal[:, :, 1:]
    lower = lower * (1.0 - ops.max(upper, axis=4, keepdims=True))
    rows = ops.concatenate([upper, lower], axis=2)
    left, right = rows[:, :, :, :, :1], rows[:, :, :, :, 1:]
    mask = ops.concatenate([left, right * (1.0 - left)], axis=4)
    return ops.reshape(maxima, (-1, h, w, channels)), mask


def unpool(pooled: Tensor, mask: Tensor, sides: tuple[int, int]) -> Tensor:
    """Return pooled activities at the positions of their maxima, in an image of `sides`."""
    h, w, channels = pooled.shape[1:]
    spread = ops.reshape(pooled, (-1, h, 1, w, 1, channels)) * mask
    spread = ops.reshape(spread, (-1, h * _SIDE, w * _SIDE, channels))
    rest = (sides[0] - h * _SIDE, sides[1] - w * _SIDE)
    return ops.pad(spread, ((0, 0), (0, rest[0]), (0, rest[1]), (0, 0))) if any(rest) else spread
