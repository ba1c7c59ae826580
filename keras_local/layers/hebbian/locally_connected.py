"""A locally connected layer that learns without labels, by a plasticity rule."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any, Unpack

import keras
from keras import ops as kops

from keras_local import _validation as check
from keras_local import ops
from keras_local._serialization import serializable
from keras_local._types import (
    Activation,
    ConstraintLike,
    DType,
    InitializerLike,
    LayerArguments,
    Padding,
    RegularizerLike,
    Sizes,
)
from keras_local.layers import masks
from keras_local.layers.feedback.convolution_scaling import at_each_position
from keras_local.layers.feedback.layer import Shape
from keras_local.layers.feedback.locally_connected import patches
from keras_local.layers.hebbian.layer import HebbianLayer, lower
from keras_local.layers.plain_form import PlainForm
from keras_local.plasticity import PlasticityLike


@serializable
class HebbianLocallyConnected2D(HebbianLayer):
    """Convolution without shared weights whose kernels learn by a plasticity rule, without labels.

    Forward, with the patch `x_p` that position `p` sees:

        y_p = f(W_p^T x_p)

    Each position has its own units, which compete with each other and learn only from the patches
    of this position. In contrast to a convolution there is no sum over positions.

    Args:
        filters: Number of output channels.
        kernel_size: One integer, or one for each dimension.
        strides: One integer, or one for each dimension.
        padding: `"valid"` or `"same"`.
        plasticity: A `keras_local.plasticity` rule or its alias.
        activation: Activation function; none by default.
        kernel_initializer: Initializer of the kernel; normal with standard deviation 1 by default.
        kernel_constraint: A Keras constraint on the kernel; by default the constraint of the rule.
        local_rate: Factor on the change of the rule, at least 0.
        global_rate: Factor on the gradient that all other losses have at the kernel, at least 0.
        activity_regularizer: Regularizer of the outputs.
        name: Name of the layer.
        dtype: Precision, or a Keras dtype policy; weights and learning stay in float32 under mixed
            precision.
        trainable: Whether the layer learns.
        **kwargs: The other arguments of every Keras layer.

    Input shape: `(batch, height, width, channels)`. All sizes except the batch must be known.
    Output shape: `(batch, height', width', filters)`. Kernel:
    `(height', width', taps * channels, filters)`.

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
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: Padding = "valid",
        plasticity: PlasticityLike = "krotov_hopfield",
        activation: Activation = None,
        kernel_initializer: InitializerLike | None = None,
        kernel_constraint: ConstraintLike = None,
        local_rate: float = 1.0,
        global_rate: float = 0.0,
        *,
        activity_regularizer: RegularizerLike = None,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        filters = check.positive_integer("filters", filters)
        kernel_size = check.sizes("kernel_size", kernel_size, self.rank)
        strides = check.sizes("strides", strides, self.rank)
        padding = check.one_of("padding", lower(padding), ("valid", "same"))
        super().__init__(
            filters,
            plasticity,
            activation,
            kernel_initializer,
            kernel_constraint,
            local_rate,
            global_rate,
            activity_regularizer=activity_regularizer,
            name=name,
            dtype=dtype,
            trainable=trainable,
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
        """Return the convolution with another kernel at each position."""
        return ops.LocallyConnected(self.kernel_size, self.strides, self.padding)

    def kernel_shape(self, input_shape: Shape) -> tuple[int, ...]:
        """Return `(*positions, taps * channels, filters)`."""
        positions = self._positions(input_shape)
        axes = dict(enumerate(input_shape[1:], start=1))
        self.input_spec = keras.layers.InputSpec(ndim=4, axes=axes)
        return (*positions, math.prod(self.kernel_size) * int(input_shape[-1] or 0), self.filters)

    def samples_of(self, present: Any) -> Any:
        """Return which positions see nothing but inputs that are present."""
        ones = kops.ones((*self.kernel.shape[:-2], math.prod(self.kernel_size), 1))
        return masks.complete(self.linear_map, present, ones)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """Return which positions there are; None without a mask."""
        if previous_mask is None:
            return None
        return kops.squeeze(self.samples_of(masks.spread(previous_mask, inputs)), -1)

    def input_length(self, inputs: Any) -> float:
        """Return the mean length of patches."""
        squares = kops.square(kops.convert_to_tensor(inputs, dtype=self.compute_dtype))
        ones = kops.ones((*self.kernel.shape[:-1], 1), dtype=self.compute_dtype)
        return float(kops.mean(kops.sqrt(self.linear_map.apply(squares, ones))))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return `(batch, *positions, filters)`."""
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
        """Return slices of the inputs, and a `keras.layers.EinsumDense` of the same weights."""
        return replace(
            self._plain(keras.layers.EinsumDense), before=partial(patches, self.linear_map)
        )

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
