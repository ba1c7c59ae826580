"""A rule whose feedback weights learn whether or not an error uses them."""

from __future__ import annotations

from keras_local._serialization import serializable
from keras_local.feedback.wrapped_rule import WrappedRule


@serializable
class AlwaysTrained(WrappedRule):
    """Another rule, whose feedback weights learn also where no error uses them.

    If nothing is trained below a layer, no error goes down through its feedback kernel. In a
    compiled `Sequential` or functional model such a kernel rests by default: it keeps its values,
    and neither the layer nor the optimizer spends time or memory on its learning. With this
    wrapper it learns as in all other layers. Use it in order to measure the feedback kernel of the
    lowest layer, or to compute gradients at the inputs of a trained model.

    What is local is what is local in the inner rule.

    Args:
        rule: The inner rule.

    Raises:
        ValueError: If `rule` is not a feedback rule.

    >>> import keras_local as kl
    >>> rule = kl.feedback.AlwaysTrained(kl.feedback.SymmetricAlignment())
    >>> lowest = kl.layers.FeedbackDense(3, feedback=rule)
    >>> lowest.feedback.always_trained
    True
    """

    @property
    def always_trained(self) -> bool:
        """Return True."""
        return True
