"""A locally connected layer that learns without labels, by a plasticity rule."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import keras
from keras import ops as kops

from keras_local import _validation as check
from keras_local import ops
from keras_local._serialization import serializable
from keras_local.layers.feedback.convolution_scaling import at_each_position
from keras_local.layers.feedback.layer import Shape
from keras_local.layers.feedback.locally_connected import patches
from keras_local.layers.hebbian.layer import HebbianLayer
from keras_local.layers.plain_form import PlainForm, plain_activation


@serializable
class HebbianLocallyConnected2D(HebbianLayer):
    """Convolution without shared weights whose kernels change by a local rule.

    Forward, with the patch `x_p` that position `p` sees:

        y_p = f(W_p^T x_p)

    Each position has units of its own, which compete with each other and learn from their own
    patches alone: in contrast to a convolution no sum over positions is needed.

    Args:
        filters: Number of output channels.
        kernel_size: One integer, or one for each dimension.
        strides: Likewise.
        padding: `"valid"` or `"same"`.
        plasticity: A `keras_local.plasticity` rule or its alias.
        activation: Activation function; none by default.
        kernel_initializer: Law of the initial weights; normal with deviation 1 by default.
        kernel_constraint: A Keras constraint on the kernel; that of the rule by default.
        local_rate: Factor on the change of the rule, at least 0.
        global_rate: Factor on the gradient that all other losses have at the kernel, at least 0.
        **kwargs: `name`, `dtype`. Weights and learning stay in float32 under mixed precision.

    Input shape: `(batch, height, width, channels)`. All sizes but the batch must be known.
    Output shape: `(batch, height', width', filters)`.
    Kernel: `(height', width', taps * channels, filters)`.

    Raises:
        ValueError: For a wrong argument or input shape; the message names it.

    >>> import numpy as np, keras_local as kl
    >>> layer = kl.layers.HebbianLocallyConnected2D(4, 3)
    >>> tuple(layer(np.ones((2, 8, 8, 1), "float32")).shape)
    (2, 6, 6, 4)
    >>> tuple(layer.kernel.shape)
    (6, 6, 9, 4)
    """

    rank = 2

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] = 1,
        padding: str = "valid",
        plasticity: Any = "krotov_hopfield",
        activation: Any = None,
        kernel_initializer: Any = None,
        kernel_constraint: Any = None,
        local_rate: float = 1.0,
        global_rate: float = 0.0,
        **kwargs: Any,
    ) -> None:
        filters = check.positive_integer("filters", filters)
        kernel_size = check.sizes("kernel_size", kernel_size, self.rank)
        strides = check.sizes("strides", strides, self.rank)
        padding = check.one_of("padding", str(padding).lower(), ("valid", "same"))
        super().__init__(
            filters,
            plasticity,
            activation,
            kernel_initializer,
            kernel_constraint,
            local_rate,
            global_rate,
            **kwargs,
        )
        taps = math.prod(kernel_size)
        initializer = at_each_position("kernel_initializer", self.kernel_initializer, taps)
        self.kernel_initializer = initializer
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.padding = padding
        self.data_format = "channels_last"
        self.input_spec = keras.layers.InputSpec(ndim=4)

    @property
    def linear_map(self) -> ops.LocallyConnected:
        """The convolution with another kernel at each position."""
        return ops.LocallyConnected(self.kernel_size, self.strides, self.padding)

    def kernel_shape(self, input_shape: Shape) -> tuple[int, ...]:
        """`(*positions, taps * channels, filters)`."""
        positions = self._positions(input_shape)
        axes = dict(enumerate(input_shape[1:], start=1))
        self.input_spec = keras.layers.InputSpec(ndim=4, axes=axes)
        return (*positions, math.prod(self.kernel_size) * int(input_shape[-1] or 0), self.filters)

    def input_length(self, inputs: Any) -> float:
        """Return the mean length of patches."""
        squares = kops.square(kops.convert_to_tensor(inputs, dtype=self.compute_dtype))
        ones = kops.ones((*self.kernel.shape[:-1], 1), dtype=self.compute_dtype)
        return float(kops.mean(kops.sqrt(self.linear_map.apply(squares, ones))))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """`(batch, *positions, filters)`."""
        return (input_shape[0], *self._positions(input_shape), self.filters)

    def _positions(self, input_shape: Shape) -> tuple[int, ...]:
        name, sizes = type(self).__name__, tuple(input_shape)
        check.require(len(sizes) == 4, "input_shape", f"of rank 4 for {name}", sizes)
        if None in sizes[1:]:
            raise ValueError(
                f"All sizes of the inputs to `{name}` but the batch must be defined. "
                f"Received: input_shape={sizes}"
            )
        positions = self.linear_map.positions(tuple(int(size or 0) for size in sizes[1:-1]))
        allowed = f"at least as large as kernel_size={self.kernel_size}"
        check.require(min(positions) > 0, "input_shape", allowed, sizes)
        return positions

    def plain_form(self) -> PlainForm:
        """Return slices of the inputs and a `keras.layers.EinsumDense` of the same weights."""
        config, behind = plain_activation(self, self._plain_config(keras.layers.EinsumDense))
        before = partial(patches, self.linear_map)
        weights = self._plain_weights()
        return PlainForm(keras.layers.EinsumDense, config, weights, before, behind)

    def _plain_config(self, plain: type[keras.layers.Layer]) -> dict[str, Any]:
        config = super()._plain_config(plain)
        del config["use_bias"]
        shape = (None, *self.input_spec.axes.values())
        output_shape = self.compute_output_shape(shape)[1:]
        return {**config, "equation": "bxyi,xyio->bxyo", "output_shape": output_shape}

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
        }
