"""No feedback: the layer sends no error to the layers below."""

from __future__ import annotations

import keras

from keras_local._serialization import serializable
from keras_local.feedback.rule import FeedbackRule, FeedbackWeight, Initializer
from keras_local.ops.backend import Tensor


@serializable
class Detached(FeedbackRule):
    """The layer sends no error to the layers below it.

    `delta_(l-1) = 0`, and `dW = x_(l-1)^T delta_l` as in backpropagation. What is below learns from
    an error of its own: one that `layers.DirectFeedback` or `layers.DirectRandomTarget` sends
    there, or that of a local loss. The product that would send an error down is not computed.

    Local: nothing crosses the synapse downwards.

    >>> import keras_local as kl
    >>> kl.layers.FeedbackDense(2, feedback="detached").feedback.get_config()
    {}

    Source: the layers of Nokland 2016, "Direct feedback alignment provides learning in deep neural
    networks", get their errors from the output alone.
    """

    @property
    def sends_errors(self) -> bool:
        """False."""
        return False

    @property
    def has_own_kernel(self) -> bool:
        """False: there is no error to carry."""
        return False

    def weights(self, kernel: keras.Variable, initializer: Initializer) -> list[FeedbackWeight]:
        """No weights beside the kernel."""
        return []

    def error_kernel(self, kernel: Tensor, *feedback: Tensor) -> Tensor:
        """`W`: there is no other, and no error reaches it."""
        return kernel

    def assignment(self, kernel: Tensor, feedback_kernel: Tensor) -> list[Tensor]:
        """Refuse: there is nothing to assign."""
        raise ValueError(
            "feedback='detached' has no feedback kernel to assign: no error goes through the layer."
        )
