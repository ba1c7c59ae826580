"""Transposed convolutions whose errors return by a feedback rule."""

from __future__ import annotations

from typing import Any, Unpack

import keras

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
from keras_local.layers.feedback.idle import IdleFeedback
from keras_local.layers.feedback.unsupported import StockArguments
from keras_local.layers.feedback.window import FeedbackWindow


class FeedbackTransposedConvolution(FeedbackWindow):
    """Interface of a transposed convolution with a feedback rule; subclasses fix the rank."""

    dilated_strides = False

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: Padding = "valid",
        output_padding: Sizes | None = None,
        data_format: DataFormat | None = None,
        dilation_rate: Sizes = 1,
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
        strides = check.sizes("strides", strides, self.rank)
        output_padding = _checked_padding(output_padding, strides, self.rank)
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
        self.output_padding = output_padding

    @property
    def linear_map(self) -> ops.LinearMap:
        """Return the transposed convolution."""
        return ops.TransposedConvolution(
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
            output_padding=self.output_padding,
        )

    def kernel_of(self, channels: int) -> tuple[int, ...]:
        """Return `(*kernel_size, filters, channels)`."""
        return (*self.kernel_size, self.filters, channels)

    def output_channels(self, channels: int) -> int:
        """Return the number of filters."""
        return self.filters

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "output_padding": self.output_padding,
        }


def _checked_padding(
    output_padding: Sizes | None, strides: tuple[int, ...], rank: int
) -> tuple[int, ...] | None:
    if output_padding is None:
        return None
    sizes = check.sizes("output_padding", output_padding, rank, minimum=0)
    fits = all(more < stride for more, stride in zip(sizes, strides, strict=True))
    check.require(fits, "output_padding", f"less than strides={strides}", output_padding)
    return sizes


@serializable
class FeedbackConv1DTranspose(FeedbackTransposedConvolution):
    """Transposed convolution in one dimension whose errors return through feedback weights.

    Forward `y = f(conv^T(x, W) + b)`; the error sent down is `conv(delta, B)`, the convolution with
    a kernel of the same shape that is shared over positions like `W`. The kernel learns by the
    product of activity and patch of the error, summed over positions.

    With `feedback="symmetric"` it is `keras.layers.Conv1DTranspose`, bit for bit.

    Args:
        filters: Number of output channels.
        kernel_size: One integer, or one for each dimension.
        strides: One integer, or one for each dimension.
        padding: `"valid"` or `"same"`.
        output_padding: Number that is added to the size of the outputs, less than the stride: one
            integer, or one for each dimension. None means the default of Keras.
        data_format: `"channels_last"` (default) or `"channels_first"`, if the backend supports it.
        dilation_rate: Like `strides`; one of the two must be 1.
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
    >>> layer = kl.layers.FeedbackConv1DTranspose(4, 3, strides=2, padding="same")
    >>> tuple(layer(np.ones((2, 8, 1), "float32")).shape)
    (2, 16, 4)
    """

    rank = 1
    plain = keras.layers.Conv1DTranspose


@serializable
class FeedbackConv2DTranspose(FeedbackTransposedConvolution):
    """Transposed convolution in two dimensions whose errors return through feedback weights.

    Forward `y = f(conv^T(x, W) + b)`; the error sent down is `conv(delta, B)`, the convolution with
    a kernel of the same shape that is shared over positions like `W`. The kernel learns by the
    product of activity and patch of the error, summed over positions.

    With `feedback="symmetric"` it is `keras.layers.Conv2DTranspose`, bit for bit.

    Args:
        filters: Number of output channels.
        kernel_size: One integer, or one for each dimension.
        strides: One integer, or one for each dimension.
        padding: `"valid"` or `"same"`.
        output_padding: Number that is added to the size of the outputs, less than the stride: one
            integer, or one for each dimension. None means the default of Keras.
        data_format: `"channels_last"` (default) or `"channels_first"`, if the backend supports it.
        dilation_rate: Like `strides`; one of the two must be 1.
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
    >>> layer = kl.layers.FeedbackConv2DTranspose(4, 3, strides=2, padding="same")
    >>> tuple(layer(np.ones((2, 8, 8, 1), "float32")).shape)
    (2, 16, 16, 4)
    """

    rank = 2
    plain = keras.layers.Conv2DTranspose


@serializable
class FeedbackConv3DTranspose(FeedbackTransposedConvolution):
    """Transposed convolution in three dimensions whose errors return through feedback weights.

    Forward `y = f(conv^T(x, W) + b)`; the error sent down is `conv(delta, B)`, the convolution with
    a kernel of the same shape that is shared over positions like `W`. The kernel learns by the
    product of activity and patch of the error, summed over positions.

    With `feedback="symmetric"` it is `keras.layers.Conv3DTranspose`, bit for bit.

    Args:
        filters: Number of output channels.
        kernel_size: One integer, or one for each dimension.
        strides: One integer, or one for each dimension.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"` (default) or `"channels_first"`, if the backend supports it.
        output_padding: Number that is added to the size of the outputs, less than the stride: one
            integer, or one for each dimension. None means the default of Keras.
        dilation_rate: Like `strides`; one of the two must be 1.
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
    >>> layer = kl.layers.FeedbackConv3DTranspose(4, 3, strides=2, padding="same")
    >>> tuple(layer(np.ones((2, 4, 4, 4, 1), "float32")).shape)
    (2, 8, 8, 8, 4)
    """

    rank = 3
    plain = keras.layers.Conv3DTranspose

    # The built-in layer has these arguments in another order than in one and two dimensions.
    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: Padding = "valid",
        data_format: DataFormat | None = None,
        output_padding: Sizes | None = None,
        dilation_rate: Sizes = 1,
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
        super().__init__(
            filters,
            kernel_size,
            strides,
            padding,
            output_padding,
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
