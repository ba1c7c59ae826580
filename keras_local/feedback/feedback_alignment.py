"""Feedback alignment: fixed random feedback weights."""

from __future__ import annotations

import keras

from keras_local._serialization import serializable
from keras_local.feedback.rule import FeedbackRule, FeedbackWeight, Initializer
from keras_local.ops.backend import Tensor


@serializable
class FeedbackAlignment(FeedbackRule):
    """The error returns through fixed random weights (FA; Amit's FRFB).

    `delta_(l-1) = (delta_l B_l^T) * f'`, where `B` never changes. The forward kernel learns by
    `dW = x_(l-1)^T delta_l` as in backpropagation, and its angle to `B` becomes acute.

    Local: the error crosses separate synapses; the forward synapse sees its presynaptic activity
    and its postsynaptic error.

    >>> import keras_local as kl
    >>> layer = kl.layers.FeedbackDense(3, feedback="feedback_alignment")
    >>> layer.build((None, 2))
    >>> tuple(layer.feedback_kernel.shape)
    (2, 3)

    Source: Lillicrap, Cownden, Tweed & Akerman 2016, "Random synaptic feedback weights support
    error backpropagation for deep learning"; FRFB in Amit 2019, "Deep learning with asymmetric
    connections and Hebbian updates".
    """

    def weights(self, kernel: keras.Variable, initializer: Initializer) -> list[FeedbackWeight]:
        """Declare a fixed kernel, drawn from the layer's `feedback_initializer`."""
        return [FeedbackWeight("feedback_kernel", tuple(kernel.shape), initializer, False)]

    def error_kernel(self, kernel: Tensor, *feedback: Tensor) -> Tensor:
        """Return `B`."""
        return feedback[0]

    def assignment(self, kernel: Tensor, feedback_kernel: Tensor) -> list[Tensor]:
        """Return the given `B`."""
        return [feedback_kernel]
