"""A convolution in three dimensions whose errors return by a feedback rule."""

from __future__ import annotations

import keras

from keras_local._serialization import serializable
from keras_local.layers.feedback_convolution import FeedbackConvolution


@serializable
class FeedbackConv3D(FeedbackConvolution):
    """Convolution in three dimensions whose errors return through feedback weights.

    Forward `y = f(conv(x, W) + b)`; the error sent down is the transposed convolution of `delta`
    with `B`, a kernel of the same shape that is shared over positions as `W` is. The kernel learns
    by the product of patch and error, summed over positions.

    With `feedback="symmetric"` it is `keras.layers.Conv3D`, bit for bit.

    Args:
        filters: Number of output channels.
        kernel_size: One integer, or one for each dimension.
        strides: Likewise.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"` (default) or `"channels_first"`, where the backend can.
        dilation_rate: Like `strides`; one of the two must be 1.
        groups: Number of groups of channels that are convolved separately.
        activation: Activation function; none by default.
        use_bias: Whether a bias is added.
        feedback: A `keras_local.feedback` rule or its alias.
        feedback_initializer: Law of the initial feedback kernel.
        **conv_args: As in `keras.layers.Conv3D`: initializers, regularizers, constraints,
            `name`, `dtype`.

    Input shape: `(batch, depth, height, width, channels)`.
    Output shape: `(batch, depth, height, width, filters)` with the built-in layer's sizes.

    Raises:
        ValueError: For a wrong argument or input rank; the message names it.

    >>> import numpy as np, keras_local as kl
    >>> layer = kl.layers.FeedbackConv3D(4, 3, feedback="feedback_alignment")
    >>> tuple(layer(np.ones((2, 8, 8, 8, 1), "float32")).shape)
    (2, 6, 6, 6, 4)
    """

    rank = 3
    plain = keras.layers.Conv3D
