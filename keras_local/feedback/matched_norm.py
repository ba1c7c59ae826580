"""Matched norms: the feedback kernel is scaled to the norm of the kernel."""

from __future__ import annotations

from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.feedback.rule import FeedbackRule
from keras_local.feedback.wrapped_rule import WrappedRule
from keras_local.ops.backend import Tensor


@serializable
class MatchedNorm(WrappedRule):
    """Another rule, with its error kernel scaled to the norm of the kernel.

    `delta_(l-1) = (delta_l (B |W| / |B|)^T) * f'`, with Frobenius norms. Weights and learning are
    those of the inner rule; only the size of the error that is sent down changes. Of an assigned
    feedback kernel only the direction matters.

    Local except for one number for each layer, the quotient of the norms.

    Args:
        rule: The inner rule.

    Raises:
        ValueError: If `rule` is not a feedback rule, or sends errors through the kernel itself.

    >>> import keras_local as kl
    >>> rule = kl.feedback.FeedbackAlignment()
    >>> layer = kl.layers.FeedbackDense(3, feedback=kl.feedback.MatchedNorm(rule))
    >>> layer.build((None, 2))
    >>> round(float(kl.metrics.norm_ratio(layer.kernel, layer.feedback_kernel)), 4)
    1.0

    Source: Moskovitz, Litwin-Kumar & Abbott 2018, "Feedback alignment in deep convolutional
    networks".
    """

    def __init__(self, rule: FeedbackRule) -> None:
        super().__init__(rule)
        allowed = "a rule with a feedback kernel of its own"
        check.require(self.rule.has_own_kernel, "rule", allowed, rule)

    def error_kernel(self, kernel: Tensor, *feedback: Tensor) -> Tensor:
        """Return `B |W| / |B|`."""
        error_kernel = self.rule.error_kernel(kernel, *feedback)
        squares = ops.sum(ops.square(kernel)), ops.sum(ops.square(error_kernel))
        return error_kernel * ops.sqrt(ops.divide_no_nan(*squares))
