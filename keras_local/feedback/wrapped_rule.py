"""The interface of rules that change one thing about another rule."""

from __future__ import annotations

from typing import Any

import keras

from keras_local import _validation as check
from keras_local.feedback.rule import FeedbackRule, FeedbackWeight, Initializer, Synapses
from keras_local.ops import Signals
from keras_local.ops.backend import Tensor


class WrappedRule(FeedbackRule):
    """Interface: everything is as in the rule inside, but for what a subclass says.

    Args:
        rule: The rule inside.

    Raises:
        ValueError: If `rule` is no feedback rule.
    """

    def __init__(self, rule: FeedbackRule) -> None:
        self.rule: FeedbackRule = check.instance("rule", rule, FeedbackRule)

    @property
    def innermost(self) -> FeedbackRule:
        """That of the rule inside."""
        return self.rule.innermost

    @property
    def draws(self) -> bool:
        """As the rule inside."""
        return self.rule.draws

    def weights(self, kernel: keras.Variable, initializer: Initializer) -> list[FeedbackWeight]:
        """Those of the rule inside."""
        return self.rule.weights(kernel, initializer)

    def signals(self, synapses: Synapses, training: bool | None) -> tuple[Tensor, ...]:
        """Those of the rule inside."""
        return self.rule.signals(synapses, training)

    def error_kernel(self, kernel: Tensor, *feedback: Tensor) -> Tensor:
        """That of the rule inside."""
        return self.rule.error_kernel(kernel, *feedback)

    def assignment(self, kernel: Tensor, feedback_kernel: Tensor) -> list[Tensor]:
        """Those of the rule inside."""
        return self.rule.assignment(kernel, feedback_kernel)

    def feedback_gradients(self, signals: Signals) -> tuple[Tensor | None, ...]:
        """Those of the rule inside."""
        return self.rule.feedback_gradients(signals)

    def local_gradients(
        self, synapses: Synapses, inputs: Tensor, outputs: Tensor
    ) -> tuple[Tensor | None, ...] | None:
        """Those of the rule inside."""
        return self.rule.local_gradients(synapses, inputs, outputs)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"rule": keras.saving.serialize_keras_object(self.rule)}
