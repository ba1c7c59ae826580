"""Backpropagation: the error returns through the forward kernel itself."""

from __future__ import annotations

import keras

from keras_local._serialization import serializable
from keras_local.feedback.rule import FeedbackRule, FeedbackWeight, Initializer
from keras_local.ops.backend import Tensor


@serializable
class Symmetric(FeedbackRule):
    """The error returns through the transpose of the forward kernel: backpropagation.

    `delta_(l-1) = (delta_l W_l^T) * f'`

    Not local: the synapse that carries the error would have to know the forward weight (the weight
    transport problem). A layer with this rule equals the stock Keras layer bit for bit, at the same
    cost: it is the baseline of every comparison.

    >>> import keras_local as kl
    >>> kl.layers.FeedbackDense(2, feedback="symmetric").feedback.get_config()
    {}

    Source: Rumelhart, Hinton & Williams 1986.
    """

    @property
    def has_own_kernel(self) -> bool:
        """Return False: the error returns through the forward kernel."""
        return False

    def weights(self, kernel: keras.Variable, initializer: Initializer) -> list[FeedbackWeight]:
        """Declare no weights."""
        return []

    def error_kernel(self, kernel: Tensor, *feedback: Tensor) -> Tensor:
        """Return `W`."""
        return kernel

    def assignment(self, kernel: Tensor, feedback_kernel: Tensor) -> list[Tensor]:
        """Raise a ValueError: there is nothing to assign."""
        raise ValueError(
            "feedback='symmetric' has no feedback kernel to assign: errors return through `kernel`."
        )
