"""Depthwise convolutions whose errors return by a feedback rule."""

from __future__ import annotations

from typing import Any, Unpack

import keras

from keras_local import _keras_objects as objects
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


class FeedbackDepthwiseConvolution(FeedbackWindow):
    """Interface of a depthwise convolution with a feedback rule; subclasses fix the rank."""

    def __init__(
        self,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: Padding = "valid",
        depth_multiplier: int = 1,
        data_format: DataFormat | None = None,
        dilation_rate: Sizes = 1,
        activation: Activation = None,
        use_bias: bool = True,
        feedback: FeedbackLike = "kolen_pollack",
        feedback_initializer: InitializerLike = "glorot_uniform",
        depthwise_initializer: InitializerLike | None = "glorot_uniform",
        depthwise_regularizer: RegularizerLike = None,
        depthwise_constraint: ConstraintLike = None,
        *,
        bias_initializer: InitializerLike | None = "zeros",
        bias_regularizer: RegularizerLike = None,
        activity_regularizer: RegularizerLike = None,
        bias_constraint: ConstraintLike = None,
        connectivity: float | None = None,
        idle_feedback: IdleFeedback = "keep",
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[StockArguments],
    ) -> None:
        depth_multiplier = check.positive_integer("depth_multiplier", depth_multiplier)
        for argument, value in kwargs.items():
            known = not argument.startswith("kernel_")
            given = f"given as `{argument.replace('kernel', 'depthwise')}`"
            check.require(known, argument, given, value)
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
            bias_initializer=bias_initializer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            bias_constraint=bias_constraint,
            connectivity=connectivity,
            idle_feedback=idle_feedback,
            name=name,
            dtype=dtype,
            trainable=trainable,
            **objects.of_kernel(
                "depthwise", depthwise_initializer, depthwise_regularizer, depthwise_constraint
            ),
            **kwargs,
        )
        self.depth_multiplier = depth_multiplier

    @property
    def linear_map(self) -> ops.LinearMap:
        """Return the depthwise convolution."""
        return ops.DepthwiseConvolution(
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )

    def kernel_of(self, channels: int) -> tuple[int, ...]:
        """Return `(*kernel_size, channels, depth_multiplier)`."""
        return (*self.kernel_size, channels, self.depth_multiplier)

    def output_channels(self, channels: int) -> int:
        """Return `channels * depth_multiplier`."""
        return channels * self.depth_multiplier

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = super().get_config()
        for name in ("initializer", "regularizer", "constraint"):
            config[f"depthwise_{name}"] = config.pop(f"kernel_{name}")
        return {**config, "depth_multiplier": self.depth_multiplier}


@serializable
class FeedbackDepthwiseConv1D(FeedbackDepthwiseConvolution):
    """Depthwise convolution in one dimension whose errors return through feedback weights.

    Each channel has its own filters: `y_(c, m) = f(conv(x_c, W_(c, m)) + b_(c, m))`. The error sent
    down to channel `c` is the transposed convolution of `delta_(c, m)` with `B_(c, m)`, summed over
    `m`; `B` has the kernel's shape and is shared over positions like `W`. The kernel learns by the
    product of patch and error of a channel, summed over positions.

    With `feedback="symmetric"` it is `keras.layers.DepthwiseConv1D`, bit for bit.

    Args:
        kernel_size: One integer, or one for each dimension.
        strides: One integer, or one for each dimension.
        padding: `"valid"` or `"same"`.
        depth_multiplier: Number of filters of each channel.
        data_format: `"channels_last"` (default) or `"channels_first"`, if the backend supports it.
        dilation_rate: Like `strides`.
        activation: Activation function; none by default.
        use_bias: Whether a bias is added.
        feedback: A `keras_local.feedback` rule or its alias.
        feedback_initializer: Initializer of the feedback kernel.
        depthwise_initializer: Initializer of the kernel.
        depthwise_regularizer: Regularizer of the kernel.
        depthwise_constraint: Constraint of the kernel.
        bias_initializer: Initializer of the bias.
        bias_regularizer: Regularizer of the bias.
        activity_regularizer: Regularizer of the outputs.
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

    Input shape: `(batch, steps, channels)`. Output shape:
    `(batch, steps, channels * depth_multiplier)` with the sizes of the built-in layer.

    Raises:
        ValueError: For a wrong argument or input rank; the message names it.

    >>> import numpy as np, keras_local as kl
    >>> layer = kl.layers.FeedbackDepthwiseConv1D(3, depth_multiplier=2)
    >>> tuple(layer(np.ones((2, 8, 3), "float32")).shape)
    (2, 6, 6)
    """

    rank = 1
    plain = keras.layers.DepthwiseConv1D


@serializable
class FeedbackDepthwiseConv2D(FeedbackDepthwiseConvolution):
    """Depthwise convolution in two dimensions whose errors return through feedback weights.

    Each channel has its own filters: `y_(c, m) = f(conv(x_c, W_(c, m)) + b_(c, m))`. The error sent
    down to channel `c` is the transposed convolution of `delta_(c, m)` with `B_(c, m)`, summed over
    `m`; `B` has the kernel's shape and is shared over positions like `W`. The kernel learns by the
    product of patch and error of a channel, summed over positions.

    With `feedback="symmetric"` it is `keras.layers.DepthwiseConv2D`, bit for bit.

    Args:
        kernel_size: One integer, or one for each dimension.
        strides: One integer, or one for each dimension.
        padding: `"valid"` or `"same"`.
        depth_multiplier: Number of filters of each channel.
        data_format: `"channels_last"` (default) or `"channels_first"`, if the backend supports it.
        dilation_rate: Like `strides`.
        activation: Activation function; none by default.
        use_bias: Whether a bias is added.
        feedback: A `keras_local.feedback` rule or its alias.
        feedback_initializer: Initializer of the feedback kernel.
        depthwise_initializer: Initializer of the kernel.
        depthwise_regularizer: Regularizer of the kernel.
        depthwise_constraint: Constraint of the kernel.
        bias_initializer: Initializer of the bias.
        bias_regularizer: Regularizer of the bias.
        activity_regularizer: Regularizer of the outputs.
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

    Input shape: `(batch, height, width, channels)`. Output shape:
    `(batch, height, width, channels * depth_multiplier)` with the sizes of the built-in layer.

    Raises:
        ValueError: For a wrong argument or input rank; the message names it.

    >>> import numpy as np, keras_local as kl
    >>> layer = kl.layers.FeedbackDepthwiseConv2D(3, depth_multiplier=2)
    >>> tuple(layer(np.ones((2, 8, 8, 3), "float32")).shape)
    (2, 6, 6, 6)
    """

    rank = 2
    plain = keras.layers.DepthwiseConv2D
