"""A separable convolution in one dimension whose errors return by a feedback rule."""

from __future__ import annotations

import keras

from keras_local._serialization import serializable
from keras_local.layers.feedback_conv1d import FeedbackConv1D
from keras_local.layers.feedback_depthwise_conv1d import FeedbackDepthwiseConv1D
from keras_local.layers.feedback_separable_convolution import FeedbackSeparableConvolution


@serializable
class FeedbackSeparableConv1D(FeedbackSeparableConvolution):
    """Separable convolution in one dimension whose errors return through feedback weights.

    Two feedback layers in one: `depthwise`, a convolution of each channel by itself, and then
    `pointwise`, a convolution with a window of one position that mixes the channels, with bias and
    activation: `y = f(conv(depthwise(x, W_1), W_2) + b)`. Each has a rule, and feedback weights of
    its own: the error goes down through `B_2` and then through `B_1`. The field between the two is
    the postsynaptic signal of the first and the presynaptic signal of the second.

    With `feedback="symmetric"` it is `keras.layers.SeparableConv1D`, bit for bit; to rounding with
    channels first on TensorFlow's CPU, where Keras moves the channels once for both products.

    Args:
        filters: Number of output channels.
        kernel_size: One integer, or one for each dimension.
        strides: Likewise.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"` (default) or `"channels_first"`, where the backend can.
        dilation_rate: Like `strides`.
        depth_multiplier: Number of depthwise filters of each input channel.
        activation: Activation function; none by default.
        use_bias: Whether a bias is added.
        feedback: A `keras_local.feedback` rule or its alias, for both kernels.
        feedback_initializer: Law of the initial feedback kernels.
        depthwise_initializer: Law of the initial depthwise kernel.
        pointwise_initializer: Law of the initial pointwise kernel.
        bias_initializer: Law of the initial bias.
        depthwise_regularizer: Regularizer of the depthwise kernel.
        pointwise_regularizer: Regularizer of the pointwise kernel.
        bias_regularizer: Regularizer of the bias.
        activity_regularizer: Regularizer of the outputs.
        depthwise_constraint: Constraint of the depthwise kernel.
        pointwise_constraint: Constraint of the pointwise kernel.
        bias_constraint: Constraint of the bias.
        connectivity: Probability with which each forward and each feedback synapse of both kernels
            exists; None for all.
        **kwargs: `name`, `dtype`.

    Input shape: `(batch, steps, channels)`.
    Output shape: `(batch, steps, filters)` with the built-in layer's sizes.

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
