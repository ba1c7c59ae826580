"""Locally connected layers whose errors return by a feedback rule."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Unpack

import keras
from keras import ops as kops

from keras_local import _validation as check
from keras_local import ops
from keras_local._serialization import serializable
from keras_local._types import (
    Activation,
    ConstraintLike,
    DataFormat,
    DType,
    InitializerLike,
    Padding,
    RegularizerLike,
    Sizes,
)
from keras_local.feedback import FeedbackLike
from keras_local.layers.feedback.convolution_scaling import at_each_position
from keras_local.layers.feedback.idle import IdleFeedback
from keras_local.layers.feedback.layer import FeedbackLayer, Shape
from keras_local.layers.feedback.unsupported import StockArguments
from keras_local.layers.feedback.window import checked_window
from keras_local.layers.plain_form import PlainForm, forward_values, plain_activation, twin_config
from keras_local.ops.backend import Tensor

_SPACE = "xyz"


class LocallyConnected(FeedbackLayer):
    """Interface of a locally connected layer; `LocallyConnected1D/2D` fix its rank."""

    rank: ClassVar[int]

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: Padding = "valid",
        data_format: DataFormat | None = None,
        activation: Activation = None,
        use_bias: bool = True,
        feedback: FeedbackLike = "kolen_pollack",
        feedback_initializer: InitializerLike = "glorot_uniform",
        *,
        kernel_initializer: InitializerLike | None = "glorot_uniform",
        bias_initializer: InitializerLike | None = "zeros",
        kernel_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        activity_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        connectivity: float | None = None,
        idle_feedback: IdleFeedback = "keep",
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[StockArguments],
    ) -> None:
        filters = check.positive_integer("filters", filters)
        window = checked_window(self.rank, kernel_size, strides, padding, data_format)
        super().__init__(
            activation,
            use_bias,
            feedback,
            feedback_initializer,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            connectivity=connectivity,
            idle_feedback=idle_feedback,
            name=name,
            dtype=dtype,
            trainable=trainable,
            **kwargs,
        )
        self.filters = filters
        self.kernel_size, self.strides, self.padding, self.data_format = window
        taps = math.prod(self.kernel_size)
        for argument in ("kernel_initializer", "feedback_initializer"):
            setattr(self, argument, at_each_position(argument, getattr(self, argument), taps))
        self.input_spec = keras.layers.InputSpec(ndim=self.rank + 2)

    @property
    def linear_map(self) -> ops.LocallyConnected:
        """Return the convolution with another kernel at each position."""
        return ops.LocallyConnected(self.kernel_size, self.strides, self.padding, self.data_format)

    def kernel_shape(self, input_shape: Shape) -> tuple[int, ...]:
        """Return `(*positions, taps * channels, filters)`."""
        positions = self._positions(input_shape)
        channels = input_shape[-1 if self.data_format == "channels_last" else 1]
        axes = dict(enumerate(input_shape[1:], start=1))
        self.input_spec = keras.layers.InputSpec(ndim=self.rank + 2, axes=axes)
        return (*positions, math.prod(self.kernel_size) * int(channels or 0), self.filters)

    def bias_shape(self) -> tuple[int, ...]:
        """Return the shape of one output: each unit has its own bias."""
        sizes = self.input_spec.axes
        first = 1 if self.data_format == "channels_last" else 2
        space = tuple(sizes[first + i] for i in range(self.rank))
        return self._output_shape(self.linear_map.positions(space))

    def bias_weight_shape(self) -> tuple[int, ...]:
        """Return the shape of one output."""
        return self.bias_shape()

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return `(batch, *positions, filters)`, or with the filters first."""
        return (input_shape[0], *self._output_shape(self._positions(input_shape)))

    def _output_shape(self, positions: tuple[int, ...]) -> tuple[int, ...]:
        if self.data_format == "channels_last":
            return (*positions, self.filters)
        return (self.filters, *positions)

    def _positions(self, input_shape: Shape) -> tuple[int, ...]:
        name, sizes = type(self).__name__, tuple(input_shape)
        allowed = f"of rank {self.rank + 2} for {name}"
        check.require(len(sizes) == self.rank + 2, "input_shape", allowed, sizes)
        if None in sizes[1:]:
            raise ValueError(
                f"All sizes of the inputs to `{name}` but the batch must be defined. "
                f"Received: input_shape={sizes}"
            )
        space = sizes[1:-1] if self.data_format == "channels_last" else sizes[2:]
        positions = self.linear_map.positions(tuple(int(size or 0) for size in space))
        allowed = f"at least as large as kernel_size={self.kernel_size}"
        check.require(min(positions) > 0, "input_shape", allowed, sizes)
        return positions

    def assign_convolution(
        self, kernel: Any, bias: Any = None, feedback_kernel: Any = None
    ) -> None:
        """Give every position the weights of a convolution.

        After this call the layer computes the same as the convolution.

        Args:
            kernel: Array `(*kernel_size, channels, filters)`.
            bias: Array `(filters,)`; None does not change the bias.
            feedback_kernel: Array of the shape of `kernel`; None does not change the feedback.

        Raises:
            ValueError: If the layer is not built, a shape is wrong, or there is no bias or feedback
                kernel to assign. Then nothing has been changed.
        """
        check.require(self.built, "layer", "built", f"{self.name!r}, which is not")
        shape = (*self.kernel_size, self.kernel.shape[-2] // math.prod(self.kernel_size))
        shape = (*shape, self.filters)
        kernel = self._everywhere("kernel", kernel, shape)
        if feedback_kernel is not None:
            feedback_kernel = self._everywhere("feedback_kernel", feedback_kernel, shape)
            # A rule without a feedback kernel raises its error before anything is changed.
            self._rule.assignment(kernel, feedback_kernel)
        if bias is not None:
            if self.bias is None:
                raise ValueError(
                    f"`bias` must be None for a layer without bias. Received: bias={bias!r}"
                )
            bias = _of_shape("bias", bias, (self.filters,), self.kernel.dtype)
            last = self.data_format == "channels_last"
            bias = bias if last else kops.reshape(bias, (-1, *(1,) * self.rank))
            self.bias.assign(kops.copy(kops.broadcast_to(bias, self.bias_shape())))
        self.kernel.assign(kernel)
        if feedback_kernel is not None:
            self.assign_feedback_kernel(feedback_kernel)

    def _everywhere(self, argument: str, kernel: Any, shape: tuple[int, ...]) -> Tensor:
        kernel = _of_shape(argument, kernel, shape, self.kernel.dtype)
        kernel = kops.reshape(kernel, self.kernel.shape[-2:])
        # A copy, because JAX must not donate a buffer that another variable uses.
        return kops.copy(kops.broadcast_to(kernel, self.kernel.shape))

    def plain_form(self) -> PlainForm:
        """Return slices of the inputs, and a `keras.layers.EinsumDense` of the same weights."""
        config = twin_config(self.get_config(), keras.layers.EinsumDense)
        # The initializer may be from this package and is not needed: the weights are copied.
        config["kernel_initializer"] = "zeros"
        space = _SPACE[: self.rank]
        units = f"{space}o" if self.data_format == "channels_last" else f"o{space}"
        config["equation"] = f"b{space}i,{space}io->b{units}"
        config["bias_axes"] = units if self.use_bias else None
        config["output_shape"] = self.bias_shape()
        config, behind = plain_activation(self, config)
        weights = forward_values(self)
        return PlainForm(keras.layers.EinsumDense, config, weights, self._patches, behind)

    def _patches(self, inputs: Tensor) -> Tensor:
        if self.data_format == "channels_first":
            inputs = kops.transpose(inputs, (0, *range(2, self.rank + 2), 1))
        return patches(self.linear_map, inputs)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
        }


def patches(linear_map: ops.LocallyConnected, inputs: Tensor) -> Tensor:
    """Return the inputs of each position, `(batch, *positions, taps * channels)`.

    Args:
        linear_map: The map of the layer.
        inputs: Tensor, symbolic or not, `(batch, *space, channels)`.
    """
    rank = len(inputs.shape) - 2
    windows = linear_map.windows(tuple(inputs.shape[1:-1]))
    if any(map(any, windows.padding)):
        inputs = kops.pad(inputs, [(0, 0), *windows.padding, (0, 0)])
    # With the last axis first, the taps have the order of the kernel.
    for axis in reversed(range(rank)):
        ahead = (slice(None),) * (axis + 1)
        seen = [inputs[(*ahead, window)] for window in windows.along(axis)]
        inputs = kops.concatenate(seen, axis=-1) if len(seen) > 1 else seen[0]
    return inputs


def _of_shape(argument: str, value: Any, shape: tuple[int, ...], dtype: str) -> Tensor:
    value = kops.convert_to_tensor(value, dtype=dtype)
    received = f"shape {tuple(value.shape)}"
    check.require(tuple(value.shape) == shape, argument, f"of shape {shape}", received)
    return value


@serializable
class LocallyConnected1D(LocallyConnected):
    """Convolution without shared weights: every position has its own kernel and bias.

    Forward, with the patch `x_p` that position `p` sees:

        y_p = f(W_p^T x_p + b_p)

    The error sent down is `B_p delta_p`, summed where patches overlap; the rule defines `B`. The
    kernel learns by `x_p delta_p^T`, the product of the signals of the two neurons that each weight
    joins. In contrast to a convolution there is no sum over positions, so that the rule is local to
    the synapse. Changes are smaller without this sum, and need a larger learning rate.

    A `VarianceScaling` initializer (Glorot, He, LeCun) has the same scale as for a convolution with
    the same window.

    Args:
        filters: Number of output channels.
        kernel_size: One integer, or one for each dimension.
        strides: One integer, or one for each dimension.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"` (default) or `"channels_first"`.
        activation: Activation function; none by default.
        use_bias: Whether a bias is added, one for each position and filter.
        feedback: A `keras_local.feedback` rule or its alias.
        feedback_initializer: Initializer of the feedback kernel, which has the kernel's shape.
        kernel_initializer: Initializer of the kernel.
        bias_initializer: Initializer of the bias.
        kernel_regularizer: Regularizer of the kernel.
        bias_regularizer: Regularizer of the bias.
        activity_regularizer: Regularizer of the outputs.
        kernel_constraint: Constraint of the kernel.
        bias_constraint: Constraint of the bias.
        connectivity: Probability with which each forward and each feedback synapse exists; None for
            all.
        idle_feedback: What happens to a feedback kernel that no error uses, because nothing below
            the layer is trained. `"keep"`: it learns all the same. `"drop"`: until something is, it
            does not learn and costs no time; an error at the inputs of a model is refused in
            training.
        name: Name of the layer.
        dtype: Precision, or a Keras dtype policy.
        trainable: Whether the weights learn.
        **kwargs: The other arguments of every Keras layer.

    Input shape: `(batch, steps, channels)`. All sizes except the batch must be known. Output shape:
    `(batch, steps', filters)`. Kernel: `(steps', kernel_size * channels, filters)`; bias: the shape
    of one output.

    Raises:
        ValueError: For a wrong argument or input shape; the message names it.

    >>> import numpy as np, keras_local as kl
    >>> layer = kl.layers.LocallyConnected1D(4, 3, feedback="feedback_alignment")
    >>> tuple(layer(np.ones((2, 8, 1), "float32")).shape)
    (2, 6, 4)
    >>> tuple(layer.kernel.shape)
    (6, 3, 4)

    Source: Amit 2019, "Deep learning with asymmetric connections and Hebbian updates", untied
    layers.
    """

    rank = 1


@serializable
class LocallyConnected2D(LocallyConnected):
    """Convolution without shared weights: every position has its own kernel and bias.

    Forward, with the patch `x_p` that position `p` sees:

        y_p = f(W_p^T x_p + b_p)

    The error sent down is `B_p delta_p`, summed where patches overlap; the rule defines `B`. The
    kernel learns by `x_p delta_p^T`, the product of the signals of the two neurons that each weight
    joins. In contrast to a convolution there is no sum over positions, so that the rule is local to
    the synapse. Changes are smaller without this sum, and need a larger learning rate.

    A `VarianceScaling` initializer (Glorot, He, LeCun) has the same scale as for a convolution with
    the same window.

    Args:
        filters: Number of output channels.
        kernel_size: One integer, or one for each dimension.
        strides: One integer, or one for each dimension.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"` (default) or `"channels_first"`.
        activation: Activation function; none by default.
        use_bias: Whether a bias is added, one for each position and filter.
        feedback: A `keras_local.feedback` rule or its alias.
        feedback_initializer: Initializer of the feedback kernel, which has the kernel's shape.
        kernel_initializer: Initializer of the kernel.
        bias_initializer: Initializer of the bias.
        kernel_regularizer: Regularizer of the kernel.
        bias_regularizer: Regularizer of the bias.
        activity_regularizer: Regularizer of the outputs.
        kernel_constraint: Constraint of the kernel.
        bias_constraint: Constraint of the bias.
        connectivity: Probability with which each forward and each feedback synapse exists; None for
            all.
        idle_feedback: What happens to a feedback kernel that no error uses, because nothing below
            the layer is trained. `"keep"`: it learns all the same. `"drop"`: until something is, it
            does not learn and costs no time; an error at the inputs of a model is refused in
            training.
        name: Name of the layer.
        dtype: Precision, or a Keras dtype policy.
        trainable: Whether the weights learn.
        **kwargs: The other arguments of every Keras layer.

    Input shape: `(batch, height, width, channels)`. All sizes except the batch must be known.
    Output shape: `(batch, height', width', filters)`. Kernel:
    `(height', width', taps * channels, filters)`; bias: the shape of one output.

    Raises:
        ValueError: For a wrong argument or input shape; the message names it.

    >>> import numpy as np, keras_local as kl
    >>> layer = kl.layers.LocallyConnected2D(4, 3, feedback="feedback_alignment")
    >>> tuple(layer(np.ones((2, 8, 8, 1), "float32")).shape)
    (2, 6, 6, 4)
    >>> tuple(layer.kernel.shape)
    (6, 6, 9, 4)

    Source: Amit 2019, "Deep learning with asymmetric connections and Hebbian updates", untied
    layers.
    """

    rank = 2
