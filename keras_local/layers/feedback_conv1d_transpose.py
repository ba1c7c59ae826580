"""A transposed convolution in one dimension whose errors return by a feedback rule."""

from __future__ import annotations

import keras

from keras_local._serialization import serializable
from keras_local.layers.feedback_transposed_convolution import FeedbackTransposedConvolution


@serializable
class FeedbackConv1DTranspose(FeedbackTransposedConvolution):
    """Transposed convolution in one dimension whose errors return through feedback weights.

    Forward `y = f(conv^T(x, W) + b)`; the error sent down is `conv(delta, B)`, the convolution with
    a kernel of the same shape that is shared over positions as `W` is. The kernel learns by the
    product of activity and patch of the error, summed over positions.

    With `feedback="symmetric"` it is `keras.layers.Conv1DTranspose`, bit for bit.

    Args:
        filters: Number of output channels.
        kernel_size: One integer, or one for each dimension.
        strides: Likewise.
        padding: `"valid"` or `"same"`.
        output_padding: What is added to the size of the outputs, less than the stride: one integer,
            or one for each dimension. None for the default of Keras.
        data_format: `"channels_last"` (default) or `"channels_first"`, where the backend can.
        dilation_rate: Like `strides`; one of the two must be 1.
        activation: Activation function; none by default.
        use_bias: Whether a bias is added.
        feedback: A `keras_local.feedback` rule or its alias.
        feedback_initializer: Law of the initial feedback kernel.
        **conv_args: As in `keras.layers.Conv1DTranspose`: initializers, regularizers, constraints,
            `name`, `dtype`.

    Input shape: `(batch, steps, channels)`.
    Output shape: `(batch, steps, filters)` with the built-in layer's sizes.

    Raises:
        ValueError: For a wrong argument or input rank; the message names it.

    >>> import numpy as np, keras_local as kl
    >>> layer = kl.layers.FeedbackConv1DTranspose(4, 3, strides=2, padding="same")
    >>> tuple(layer(np.ones((2, 8, 1), "float32")).shape)
    (2, 16, 4)
    """

    rank = 1
    plain = keras.layers.Conv1DTranspose
