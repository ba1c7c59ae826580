"""Convolutions in one, two and three dimensions whose errors return by a feedback rule."""

from __future__ import annotations

from typing import Any, Unpack

import keras

from keras_local import _validation as check
from keras_local import ops
from keras_local._serialization import serializable
from keras_local._types import (
    Activation,
    CausalPadding,
    ConstraintLike,
    DataFormat,
    DType,
    InitializerLike,
    RegularizerLike,
    Sizes,
)
from keras_local.feedback import FeedbackLike
from keras_local.layers.feedback.idle import IdleFeedback
from keras_local.layers.feedback.layer import Shape
from keras_local.layers.feedback.unsupported import StockArguments
from keras_local.layers.feedback.window import FeedbackWindow
from keras_local.ops.backend import Tensor


class FeedbackConvolution(FeedbackWindow):
    """Interface of a convolution with a feedback rule; `FeedbackConv1D/2D/3D` fix its rank."""

    dilated_strides = False

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: CausalPadding = "valid",
        data_format: DataFormat | None = None,
        dilation_rate: Sizes = 1,
        groups: int = 1,
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
        groups = check.positive_integer("groups", groups)
        check.require(filters % groups == 0, "groups", f"a divisor of filters={filters}", groups)
        super().__init__(
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
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
        self.groups = groups

    @property
    def linear_map(self) -> ops.LinearMap:
        """Return the convolution."""
        return ops.Convolution(
            strides=self.strides,
            padding="valid" if self.padding == "causal" else self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )

    def kernel_shape(self, input_shape: Shape) -> tuple[int, ...]:
        """Return the shape from `kernel_of`, after a check of the inputs."""
        shape = super().kernel_shape(input_shape)
        check.require(
            (input_shape[self._channel_axis] or 0) % self.groups == 0,
            "input_shape",
            f"one whose channels divide by groups={self.groups}",
            tuple(input_shape),
        )
        return shape

    def kernel_of(self, channels: int) -> tuple[int, ...]:
        """Return `(*kernel_size, channels // groups, filters)`."""
        return (*self.kernel_size, channels // self.groups, self.filters)

    def output_channels(self, channels: int) -> int:
        """Return the number of filters."""
        return self.filters

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the output shape of the built-in convolution."""
        channels = input_shape[self._channel_axis]
        inputs = keras.KerasTensor(input_shape)
        # Sizes do not depend on the groups, which the symbolic convolution does not know.
        kernel = keras.KerasTensor((*self.kernel_size, channels, self.filters))
        return tuple(
            keras.ops.conv(
                inputs,
                kernel,
                strides=list(self.strides),
                padding=self.padding,
                dilation_rate=self.dilation_rate,
                data_format=self.data_format,
            ).shape
        )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "groups": self.groups,
        }


@serializable
class FeedbackConv1D(FeedbackConvolution):
    """Convolution in one dimension whose errors return through feedback weights.

    Forward `y = f(conv(x, W) + b)`; the error sent down is the transposed convolution of `delta`
    with `B`, a kernel of the same shape that is shared over positions like `W`. The kernel learns
    by the product of patch and error, summed over positions.

    With `feedback="symmetric"` it is `keras.layers.Conv1D`, bit for bit.

    Args:
        filters: Number of output channels.
        kernel_size: One integer, or one for each dimension.
        strides: One integer, or one for each dimension.
        padding: `"valid"`, `"same"` or `"causal"`.
        data_format: `"channels_last"` (default) or `"channels_first"`, if the backend supports it.
        dilation_rate: Like `strides`; one of the two must be 1.
        groups: Number of groups of channels that are convolved separately.
        activation: Activation function; none by default.
        use_bias: Whether a bias is added.
        feedback: A `keras_local.feedback` rule or its alias.
        feedback_initializer: Initializer of the feedback kernel.
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

    Input shape: `(batch, steps, channels)`. Output shape: `(batch, steps, filters)` with the sizes
    of the built-in layer.

    Raises:
        ValueError: For a wrong argument or input rank; the message names it.

    >>> import numpy as np, keras_local as kl
    >>> layer = kl.layers.FeedbackConv1D(4, 3, feedback="feedback_alignment")
    >>> tuple(layer(np.ones((2, 8, 1), "float32")).shape)
    (2, 6, 4)
    """

    rank = 1
    plain = keras.layers.Conv1D

    @classmethod
    def paddings(cls) -> tuple[str, ...]:
        """Return the allowed paddings; causal padding exists in one dimension only."""
        return ("valid", "same", "causal")

    def call(
        self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Pad causally if asked to, then convolve."""
        return super().call(self._pad(inputs), training, mask)

    def _pad(self, inputs: Tensor) -> Tensor:
        if self.padding != "causal":
            return inputs
        before = self.dilation_rate[0] * (self.kernel_size[0] - 1)
        last = self.data_format == "channels_last"
        steps = [[before, 0], [0, 0]] if last else [[0, 0], [before, 0]]
        return keras.ops.pad(inputs, [[0, 0], *steps])


@serializable
class FeedbackConv2D(FeedbackConvolution):
    """Convolution in two dimensions whose errors return through feedback weights.

    Forward `y = f(conv(x, W) + b)`; the error sent down is the transposed convolution of `delta`
    with `B`, a kernel of the same shape that is shared over positions like `W`. The kernel learns
    by the product of patch and error, summed over positions.

    With `feedback="symmetric"` it is `keras.layers.Conv2D`, bit for bit.

    Args:
        filters: Number of output channels.
        kernel_size: One integer, or one for each dimension.
        strides: One integer, or one for each dimension.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"` (default) or `"channels_first"`, if the backend supports it.
        dilation_rate: Like `strides`; one of the two must be 1.
        groups: Number of groups of channels that are convolved separately.
        activation: Activation function; none by default.
        use_bias: Whether a bias is added.
        feedback: A `keras_local.feedback` rule or its alias.
        feedback_initializer: Initializer of the feedback kernel.
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

    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, height, width, filters)`
    with the sizes of the built-in layer.

    Raises:
        ValueError: For a wrong argument or input rank; the message names it.

    >>> import numpy as np, keras_local as kl
    >>> layer = kl.layers.FeedbackConv2D(4, 3, feedback="feedback_alignment")
    >>> tuple(layer(np.ones((2, 8, 8, 1), "float32")).shape)
    (2, 6, 6, 4)
    """

    rank = 2
    plain = keras.layers.Conv2D


@serializable
class FeedbackConv3D(FeedbackConvolution):
    """Convolution in three dimensions whose errors return through feedback weights.

    Forward `y = f(conv(x, W) + b)`; the error sent down is the transposed convolution of `delta`
    with `B`, a kernel of the same shape that is shared over positions like `W`. The kernel learns
    by the product of patch and error, summed over positions.

    With `feedback="symmetric"` it is `keras.layers.Conv3D`, bit for bit.

    Args:
        filters: Number of output channels.
        kernel_size: One integer, or one for each dimension.
        strides: One integer, or one for each dimension.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"` (default) or `"channels_first"`, if the backend supports it.
        dilation_rate: Like `strides`; one of the two must be 1.
        groups: Number of groups of channels that are convolved separately.
        activation: Activation function; none by default.
        use_bias: Whether a bias is added.
        feedback: A `keras_local.feedback` rule or its alias.
        feedback_initializer: Initializer of the feedback kernel.
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

    Input shape: `(batch, depth, height, width, channels)`. Output shape:
    `(batch, depth, height, width, filters)` with the sizes of the built-in layer.

    Raises:
        ValueError: For a wrong argument or input rank; the message names it.

    >>> import numpy as np, keras_local as kl
    >>> layer = kl.layers.FeedbackConv3D(4, 3, feedback="feedback_alignment")
    >>> tuple(layer(np.ones((2, 8, 8, 8, 1), "float32")).shape)
    (2, 6, 6, 6, 4)
    """

    rank = 3
    plain = keras.layers.Conv3D
