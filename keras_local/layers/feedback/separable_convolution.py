"""Separable convolutions whose errors return by a feedback rule."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import keras
from keras import activations, constraints, initializers, regularizers

from keras_local import _keras_objects as objects
from keras_local import _validation as check
from keras_local import feedback as feedback_rules
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
from keras_local.feedback import FeedbackLike, FeedbackRule
from keras_local.layers.feedback.arguments import rule_for
from keras_local.layers.feedback.convolution import (
    FeedbackConv1D,
    FeedbackConv2D,
    FeedbackConvolution,
)
from keras_local.layers.feedback.depthwise_convolution import (
    FeedbackDepthwiseConv1D,
    FeedbackDepthwiseConv2D,
    FeedbackDepthwiseConvolution,
)
from keras_local.layers.feedback.layer import Shape
from keras_local.layers.feedback.unsupported import (
    StockArguments,
    dtype_policy,
    enable_lora,
    layer_arguments,
    quantize,
)
from keras_local.layers.plain_form import (
    ErrorKernel,
    PlainForm,
    forward_values,
    plain_activation,
    plain_twin,
    twin_config,
)
from keras_local.ops.backend import Tensor


class FeedbackSeparableConvolution(keras.layers.Layer):
    """Interface of a separable convolution with a feedback rule, made of two feedback layers."""

    plain: ClassVar[type[keras.layers.Layer]]
    """The built-in layer of the same name, arguments and weights."""

    depthwise_class: ClassVar[type[FeedbackDepthwiseConvolution]]
    pointwise_class: ClassVar[type[FeedbackConvolution]]

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: Padding = "valid",
        data_format: DataFormat | None = None,
        dilation_rate: Sizes = 1,
        depth_multiplier: int = 1,
        activation: Activation = None,
        use_bias: bool = True,
        feedback: FeedbackLike = "kolen_pollack",
        feedback_initializer: InitializerLike = "glorot_uniform",
        depthwise_initializer: InitializerLike | None = "glorot_uniform",
        pointwise_initializer: InitializerLike | None = "glorot_uniform",
        bias_initializer: InitializerLike | None = "zeros",
        depthwise_regularizer: RegularizerLike = None,
        pointwise_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        activity_regularizer: RegularizerLike = None,
        depthwise_constraint: ConstraintLike = None,
        pointwise_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        connectivity: float | None = None,
        *,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[StockArguments],
    ) -> None:
        given = layer_arguments(dtype, trainable, activity_regularizer, kwargs)
        super().__init__(name=name, **given)
        filters = check.positive_integer("filters", filters)
        shared = self._shared(data_format, feedback, feedback_initializer, connectivity)
        window = (kernel_size, strides, padding, depth_multiplier)
        self.depthwise = self.depthwise_class(
            *window,
            dilation_rate=dilation_rate,
            use_bias=False,
            depthwise_initializer=depthwise_initializer,
            depthwise_regularizer=depthwise_regularizer,
            depthwise_constraint=depthwise_constraint,
            name="depthwise",
            **shared,
        )
        self.pointwise = self.pointwise_class(
            filters,
            1,
            activation=activation,
            use_bias=use_bias,
            bias_initializer=bias_initializer,
            bias_regularizer=bias_regularizer,
            bias_constraint=bias_constraint,
            name="pointwise",
            **objects.of_kernel(
                "pointwise", pointwise_initializer, pointwise_regularizer, pointwise_constraint
            ),
            **shared,
        )
        self.input_spec = self.depthwise.input_spec

    def _shared(
        self, data_format: Any, feedback: Any, feedback_initializer: Any, connectivity: Any
    ) -> dict[str, Any]:
        """Return the arguments that both convolutions get."""
        return {
            "data_format": data_format,
            "feedback": feedback_rules.get(feedback),
            "feedback_initializer": feedback_initializer,
            "connectivity": connectivity,
            "dtype": self.dtype_policy,
            "trainable": self.trainable,
        }

    @property
    def feedback(self) -> FeedbackRule:
        """The feedback rule of both convolutions, which can be set until the layer is built."""
        return self.depthwise.feedback

    @feedback.setter
    def feedback(self, rule: FeedbackLike) -> None:
        self.depthwise.feedback = self.pointwise.feedback = rule_for(self, rule)

    dtype_policy = dtype_policy
    quantize = quantize
    enable_lora = enable_lora

    @property
    def activation(self) -> Any:
        """The activation function."""
        return self.pointwise.activation

    @activation.setter
    def activation(self, activation: Activation) -> None:
        self.pointwise.activation = objects.activation("activation", activation)

    @property
    def connectivity(self) -> float | None:
        """Probability with which each synapse exists, or None if all do."""
        return self.depthwise.connectivity

    @property
    def depthwise_kernel(self) -> keras.Variable:
        """The kernel of the depthwise convolution."""
        return self.depthwise.kernel

    @property
    def pointwise_kernel(self) -> keras.Variable:
        """The kernel of the pointwise convolution."""
        return self.pointwise.kernel

    @property
    def bias(self) -> keras.Variable | None:
        """The bias, or None."""
        return self.pointwise.bias

    def build(self, input_shape: Shape) -> None:
        """Create the weights of both convolutions."""
        self.depthwise.build(input_shape)
        self.pointwise.build(self.depthwise.compute_output_shape(input_shape))
        self.input_spec = self.depthwise.input_spec
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """Convolve each channel, and then mix the channels."""
        return self.pointwise(self.depthwise(inputs))

    def passes_errors_to(self, inputs: list[Any]) -> list[Any]:
        """Return the inputs to which errors are sent down; none if the rule sends none."""
        return inputs if self.feedback.sends_errors else []

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the output shape of the built-in layer."""
        return self.pointwise.compute_output_shape(self.depthwise.compute_output_shape(input_shape))

    def error_kernels(self) -> list[ErrorKernel]:
        """Return the error kernels of both convolutions, by their names."""
        parts = (self.depthwise, self.pointwise)
        return [part.error_kernels()[0]._replace(name=part.name) for part in parts]

    def plain_form(self) -> PlainForm:
        """Return the layer `plain` with the weights of both convolutions."""
        plain = plain_twin(type(self))
        config, behind = plain_activation(self, twin_config(self.get_config(), plain))
        return PlainForm(plain, config, forward_values(self), behind=behind)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        depthwise, pointwise = self.depthwise, self.pointwise
        config: dict[str, Any] = super().get_config()
        config.update(
            filters=pointwise.filters,
            kernel_size=depthwise.kernel_size,
            strides=depthwise.strides,
            padding=depthwise.padding,
            data_format=depthwise.data_format,
            dilation_rate=depthwise.dilation_rate,
            depth_multiplier=depthwise.depth_multiplier,
            activation=activations.serialize(activations.get(pointwise.activation)),
            use_bias=pointwise.use_bias,
            feedback=feedback_rules.serialize(self.feedback),
            feedback_initializer=initializers.serialize(depthwise.feedback_initializer),
            depthwise_initializer=initializers.serialize(depthwise.kernel_initializer),
            pointwise_initializer=initializers.serialize(pointwise.kernel_initializer),
            bias_initializer=initializers.serialize(pointwise.bias_initializer),
            depthwise_regularizer=regularizers.serialize(depthwise.kernel_regularizer),
            pointwise_regularizer=regularizers.serialize(pointwise.kernel_regularizer),
            bias_regularizer=regularizers.serialize(pointwise.bias_regularizer),
            activity_regularizer=regularizers.serialize(self.activity_regularizer),
            depthwise_constraint=constraints.serialize(depthwise.kernel_constraint),
            pointwise_constraint=constraints.serialize(pointwise.kernel_constraint),
            bias_constraint=constraints.serialize(pointwise.bias_constraint),
        )
        # The built-in layer leaves out these entries, too.
        if self.connectivity is not None:
            config["connectivity"] = self.connectivity
        return config


@serializable
class FeedbackSeparableConv1D(FeedbackSeparableConvolution):
    """Separable convolution in one dimension whose errors return through feedback weights.

    It consists of two feedback layers: `depthwise`, a convolution of each channel by itself, and
    then `pointwise`, a convolution with a window of one position that mixes the channels, with bias
    and activation: `y = f(conv(depthwise(x, W_1), W_2) + b)`. Each has the rule and its own
    feedback weights: the error goes down through `B_2` and then through `B_1`. The field between
    the two is the postsynaptic signal of the first and the presynaptic signal of the second.

    With `feedback="symmetric"` it is `keras.layers.SeparableConv1D`, bit for bit. With channels
    first on TensorFlow's CPU it is equal up to rounding, because Keras moves the channels once for
    both products there.

    Args:
        filters: Number of output channels.
        kernel_size: One integer, or one for each dimension.
        strides: One integer, or one for each dimension.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"` (default) or `"channels_first"`, if the backend supports it.
        dilation_rate: Like `strides`.
        depth_multiplier: Number of depthwise filters of each input channel.
        activation: Activation function; none by default.
        use_bias: Whether a bias is added.
        feedback: A `keras_local.feedback` rule or its alias, for both kernels.
        feedback_initializer: Initializer of the feedback kernels.
        depthwise_initializer: Initializer of the depthwise kernel.
        pointwise_initializer: Initializer of the pointwise kernel.
        bias_initializer: Initializer of the bias.
        depthwise_regularizer: Regularizer of the depthwise kernel.
        pointwise_regularizer: Regularizer of the pointwise kernel.
        bias_regularizer: Regularizer of the bias.
        activity_regularizer: Regularizer of the outputs.
        depthwise_constraint: Constraint of the depthwise kernel.
        pointwise_constraint: Constraint of the pointwise kernel.
        bias_constraint: Constraint of the bias.
        connectivity: Probability with which each forward and each feedback synapse of both kernels
            exists; None for all.
        name: Name of the layer.
        dtype: Precision, or a Keras dtype policy.
        trainable: Whether the weights learn.
        **kwargs: The other arguments of every Keras layer.

    Input shape: `(batch, steps, channels)`. Output shape: `(batch, steps, filters)` with the sizes
    of the built-in layer.

    Raises:
        ValueError: For a wrong argument or input rank; the message names it.

    >>> import numpy as np, keras_local as kl
    >>> layer = kl.layers.FeedbackSeparableConv1D(4, 3, feedback="feedback_alignment")
    >>> tuple(layer(np.ones((2, 8, 3), "float32")).shape)
    (2, 6, 4)
    >>> [tuple(part.feedback_kernel.shape) for part in (layer.depthwise, layer.pointwise)]
    [(3, 3, 1), (1, 3, 4)]
    """

    plain = keras.layers.SeparableConv1D
    depthwise_class = FeedbackDepthwiseConv1D
    pointwise_class = FeedbackConv1D


@serializable
class FeedbackSeparableConv2D(FeedbackSeparableConvolution):
    """Separable convolution in two dimensions whose errors return through feedback weights.

    It consists of two feedback layers: `depthwise`, a convolution of each channel by itself, and
    then `pointwise`, a convolution with a window of one position that mixes the channels, with bias
    and activation: `y = f(conv(depthwise(x, W_1), W_2) + b)`. Each has the rule and its own
    feedback weights: the error goes down through `B_2` and then through `B_1`. The field between
    the two is the postsynaptic signal of the first and the presynaptic signal of the second.

    With `feedback="symmetric"` it is `keras.layers.SeparableConv2D`, bit for bit. With channels
    first on TensorFlow's CPU it is equal up to rounding, because Keras moves the channels once for
    both products there.

    Args:
        filters: Number of output channels.
        kernel_size: One integer, or one for each dimension.
        strides: One integer, or one for each dimension.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"` (default) or `"channels_first"`, if the backend supports it.
        dilation_rate: Like `strides`.
        depth_multiplier: Number of depthwise filters of each input channel.
        activation: Activation function; none by default.
        use_bias: Whether a bias is added.
        feedback: A `keras_local.feedback` rule or its alias, for both kernels.
        feedback_initializer: Initializer of the feedback kernels.
        depthwise_initializer: Initializer of the depthwise kernel.
        pointwise_initializer: Initializer of the pointwise kernel.
        bias_initializer: Initializer of the bias.
        depthwise_regularizer: Regularizer of the depthwise kernel.
        pointwise_regularizer: Regularizer of the pointwise kernel.
        bias_regularizer: Regularizer of the bias.
        activity_regularizer: Regularizer of the outputs.
        depthwise_constraint: Constraint of the depthwise kernel.
        pointwise_constraint: Constraint of the pointwise kernel.
        bias_constraint: Constraint of the bias.
        connectivity: Probability with which each forward and each feedback synapse of both kernels
            exists; None for all.
        name: Name of the layer.
        dtype: Precision, or a Keras dtype policy.
        trainable: Whether the weights learn.
        **kwargs: The other arguments of every Keras layer.

    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, height, width, filters)`
    with the sizes of the built-in layer.

    Raises:
        ValueError: For a wrong argument or input rank; the message names it.

    >>> import numpy as np, keras_local as kl
    >>> layer = kl.layers.FeedbackSeparableConv2D(4, 3, feedback="feedback_alignment")
    >>> tuple(layer(np.ones((2, 8, 8, 3), "float32")).shape)
    (2, 6, 6, 4)
    >>> [tuple(part.feedback_kernel.shape) for part in (layer.depthwise, layer.pointwise)]
    [(3, 3, 3, 1), (1, 1, 3, 4)]
    """

    plain = keras.layers.SeparableConv2D
    depthwise_class = FeedbackDepthwiseConv2D
    pointwise_class = FeedbackConv2D
