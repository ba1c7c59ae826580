"""A convolution in one dimension that learns without labels, by a plasticity rule."""

from __future__ import annotations

import keras

from keras_local._serialization import serializable
from keras_local.layers.hebbian_convolution import HebbianConvolution


@serializable
class HebbianConv1D(HebbianConvolution):
    """Convolution in one dimension whose kernel changes by a local rule, from its inputs alone.

    Forward `y = f(conv(x, W))`, without bias; learning is as in `HebbianDense`, with the patch of
    each position as one sample: the filters of a position compete with each other, and the change
    of a filter is the sum over all positions. It is computed as the gradient of a convolution is,
    so no patch is written down.

    With `patch_norm`, patches have unit length, in the forward pass and in learning:

        u = conv(x, W) / max(|patch|, floor)

    Then the outputs do not depend on the contrast of a patch. A steep activation, such as
    `activations.RePU(40)`, makes them a nearly hard assignment.

    Local: the patch, the filter's own current and its weights. Not local: the sum over positions,
    which share the weights, and what the rule says.

    Args:
        filters: Number of output channels.
        kernel_size: One integer, or one for each dimension.
        strides: Likewise.
        padding: `"valid"`, `"same"` (zeros) or `"reflect"`, which mirrors the inputs at their
            borders: `(kernel_size - 1) // 2` before and `kernel_size // 2` behind.
        plasticity: A `keras_local.plasticity` rule or its alias.
        activation: Activation function; none by default.
        patch_norm: Whether patches are divided by their length.
        floor: Least length by which a patch is divided, so that black patches give 0.
        kernel_initializer: Law of the initial weights; normal with deviation 1 by default.
        kernel_constraint: A Keras constraint on the kernel; that of the rule by default.
        local_rate: Factor on the change of the rule, at least 0.
        global_rate: Factor on the gradient that all other losses have at the kernel, at least 0.
        **kwargs: `name`, `dtype`. Weights and learning stay in float32 under mixed precision.

    Input shape: `(batch, steps, channels)`.
    Output shape: `(batch, steps', filters)` with the built-in layer's sizes; `"reflect"` keeps
    those of `"same"` where strides are 1.

    Raises:
        ValueError: For a wrong argument or input shape; the message names it.

    >>> import numpy as np, keras_local as kl
    >>> layer = kl.layers.HebbianConv1D(4, 3, padding="reflect", patch_norm=True)
    >>> tuple(layer(np.ones((2, 8, 3), "float32")).shape)
    (2, 8, 4)

    Source: Grinberg, Hopfield & Krotov 2019, "Local unsupervised learning for image analysis", for
    the division by the patch's length; the floor is our own.
    """

    rank = 1
    plain = keras.layers.Conv1D
