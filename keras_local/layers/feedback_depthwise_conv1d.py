"""A depthwise convolution in one dimension whose errors return by a feedback rule."""

from __future__ import annotations

import keras

from keras_local._serialization import serializable
from keras_local.layers.feedback_depthwise_convolution import FeedbackDepthwiseConvolution


@serializable
class FeedbackDepthwiseConv1D(FeedbackDepthwiseConvolution):
    """Depthwise convolution in one dimension whose errors return through feedback weights.

    Each channel has filters of its own: `y_(c, m) = f(conv(x_c, W_(c, m)) + b_(c, m))`. The error
    sent down to channel `c` is the transposed convolution of `delta_(c, m)` with `B_(c, m)`, summed
    over `m`; `B` has the kernel's shape and is shared over positions as `W` is. The kernel learns
    by the product of patch and error of a channel, summed over positions.

    With `feedback="symmetric"` it is `keras.layers.DepthwiseConv1D`, bit for bit.

    Args:
        kernel_size: One integer, or one for each dimension.
        strides: Likewise.
        padding: `"valid"` or `"same"`.
        depth_multiplier: Number of filters of each channel.
        data_format: `"channels_last"` (default) or `"channels_first"`, where the backend can.
        dilation_rate: Like `strides`.
        activation: Activation function; none by default.
        use_bias: Whether a bias is added.
        feedback: A `keras_local.feedback` rule or its alias.
        feedback_initializer: Law of the initial feedback kernel.
        depthwise_initializer: Law of the initial kernel.
        depthwise_regularizer: Regularizer of the kernel.
        depthwise_constraint: Constraint of the kernel.
        **conv_args: As in `keras.layers.DepthwiseConv1D`: `bias_initializer`, `bias_regularizer`,
            `activity_regularizer`, `bias_constraint`, `name`, `dtype`.

    Input shape: `(batch, steps, channels)`.
    Output shape: `(batch, steps, channels * depth_multiplier)` with the built-in layer's
    sizes.

    Raises:
        ValueError: For a wrong argument or input rank; the message names it.

    >>> import numpy as np, keras_local as kl
    >>> layer = kl.layers.FeedbackDepthwiseConv1D(3, depth_multiplier=2)
    >>> tuple(layer(np.ones((2, 8, 3), "float32")).shape)
    (2, 6, 6)
    """

    rank = 1
    plain = keras.layers.DepthwiseConv1D
