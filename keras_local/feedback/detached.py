"""No feedback: the layer sends no error to the layers below."""

from __future__ import annotations

import keras

from keras_local._serialization import serializable
from keras_local.feedback.rule import FeedbackRule, FeedbackWeight, Initializer
from keras_local.ops.backend import Tensor


@serializable
class Detached(FeedbackRule):
    """The layer sends no error to the layers below it.

    `delta_(l-1) = 0`, and `dW = x_(l-1)^T delta_l` as in backpropagation. The layers below learn
    from another error: from `layers.DirectFeedback` or `layers.DirectRandomTarget`, or from a local
    loss. The product that would send an error down is not computed.

    Local: no signal crosses the synapse downwards.

    >>> import keras_local as kl
    >>> kl.layers.FeedbackDense(2, feedback="detached").feedback.get_config()
    {}

    Source: Nokland 2016, "Direct feedback alignment provides learning in deep neural networks",
    where layers receive their errors from the output alone.
    """

    @property
    def sends_errors(self) -> bool:
        """Return False."""
        return False

    @property
    def has_own_kernel(self) -> bool:
        """Return False: there is no error to carry."""
        return False

    def weights(self, kernel: keras.Variable, initializer: Initializer) -> list[FeedbackWeight]:
        """Declare no weights."""
        return []

    def error_kernel(self, kernel: Tensor, *feedback: Tensor) -> Tensor:
        """Return `W`, which no error uses."""
        return kernel

    def assignment(self, kernel: Tensor, feedback_kernel: Tensor) -> list[Tensor]:
        """Raise a ValueError: there is nothing to assign."""
        raise ValueError(
            "feedback='detached' has no feedback kernel to assign: no error goes through the layer."
        )
