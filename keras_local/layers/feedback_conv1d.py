"""A convolution in one dimension whose errors return by a feedback rule."""

from __future__ import annotations

import keras
from keras import ops

from keras_local._serialization import serializable
from keras_local.layers.feedback_convolution import FeedbackConvolution
from keras_local.ops.backend import Tensor


@serializable
class FeedbackConv1D(FeedbackConvolution):
    """Convolution in one dimension whose errors return through feedback weights.

    Forward `y = f(conv(x, W) + b)`; the error sent down is the transposed convolution of `delta`
    with `B`, a kernel of the same shape that is shared over positions as `W` is. The kernel learns
    by the product of patch and error, summed over positions.

    With `feedback="symmetric"` it is `keras.layers.Conv1D`, bit for bit.

    Args:
        filters: Number of output channels.
        kernel_size: One integer, or one for each dimension.
        strides: Likewise.
        padding: `"valid"`, `"same"` or `"causal"`.
        data_format: `"channels_last"` (default) or `"channels_first"`, where the backend can.
        dilation_rate: Like `strides`; one of the two must be 1.
        groups: Number of groups of channels that are convolved separately.
        activation: Activation function; none by default.
        use_bias: Whether a bias is added.
        feedback: A `keras_local.feedback` rule or its alias.
        feedback_initializer: Law of the initial feedback kernel.
        **conv_args: As in `keras.layers.Conv1D`: initializers, regularizers, constraints,
            `name`, `dtype`.

    Input shape: `(batch, steps, channels)`.
    Output shape: `(batch, steps, filters)` with the built-in layer's sizes.

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
        """Causal padding exists in one dimension only."""
        return ("valid", "same", "causal")

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Pad causally if asked to, then convolve."""
        return super().call(self._pad(inputs), training)

    def _pad(self, inputs: Tensor) -> Tensor:
        if self.padding != "causal":
            return inputs
        before = self.dilation_rate[0] * (self.kernel_size[0] - 1)
        last = self.data_format == "channels_last"
        steps = [[before, 0], [0, 0]] if last else [[0, 0], [before, 0]]
        return ops.pad(inputs, [[0, 0], *steps])
