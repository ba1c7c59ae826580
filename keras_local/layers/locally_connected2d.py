"""A locally connected layer in two dimensions whose errors return by a feedback rule."""

from __future__ import annotations

from keras_local._serialization import serializable
from keras_local.layers.locally_connected import LocallyConnected


@serializable
class LocallyConnected2D(LocallyConnected):
    """Convolution without shared weights: every position has a kernel and a bias of its own.

    Forward, with the patch `x_p` that position `p` sees:

        y_p = f(W_p^T x_p + b_p)

    The error sent down is `B_p delta_p`, summed where patches overlap, with `B` as the rule says.
    The kernel learns by `x_p delta_p^T`, the product of the two neurons that each weight joins:
    in contrast to a convolution no sum over positions is needed, so that the rule is local to the
    synapse. With one position's share of the sum only, it needs a larger learning rate.

    A `VarianceScaling` initializer (Glorot, He, LeCun) draws from the law that it has in the
    convolution with the same window.

    Args:
        filters: Number of output channels.
        kernel_size: One integer, or one for each dimension.
        strides: Likewise.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"` (default) or `"channels_first"`.
        activation: Activation function; none by default.
        use_bias: Whether a bias is added, one for each position and filter.
        feedback: A `keras_local.feedback` rule or its alias.
        feedback_initializer: Law of the initial feedback kernel, which has the kernel's shape.
        **local_args: `kernel_initializer`, `bias_initializer`, `kernel_regularizer`,
            `bias_regularizer`, `activity_regularizer`, `kernel_constraint`, `bias_constraint`,
            `name`, `dtype`.

    Input shape: `(batch, height, width, channels)`. All sizes but the batch must be known.
    Output shape: `(batch, height', width', filters)`.
    Kernel: `(height', width', taps * channels, filters)`; bias: the shape of one output.

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
