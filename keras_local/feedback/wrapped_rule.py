"""The interface of rules around another rule."""

from __future__ import annotations

import copy
from typing import Any, Self

import keras

from keras_local import _validation as check
from keras_local.feedback.rule import FeedbackRule, FeedbackWeight, Initializer, RuleContext
from keras_local.ops import Signals
from keras_local.ops.backend import Tensor


class WrappedRule(FeedbackRule):
    """Interface of rules around another rule, which is used for all that is not overridden.

    Methods, properties and forms (`adapt`) are those of the inner rule, which may itself be a
    wrapper. A subclass overrides what it changes, and `get_config` if it has more arguments.

    Args:
        rule: The inner rule.

    Raises:
        ValueError: If `rule` is not a feedback rule.
    """

    def __init__(self, rule: FeedbackRule) -> None:
        self.rule: FeedbackRule = check.instance("rule", rule, FeedbackRule)

    @property
    def innermost(self) -> FeedbackRule:
        """Return the innermost rule inside all wrappers."""
        return self.rule.innermost

    @property
    def sends_errors(self) -> bool:
        """Return what the inner rule returns."""
        return self.rule.sends_errors

    @property
    def has_own_kernel(self) -> bool:
        """Return what the inner rule returns."""
        return self.rule.has_own_kernel

    @property
    def learns_from_activity(self) -> bool:
        """Return what the inner rule returns."""
        return self.rule.learns_from_activity

    @property
    def has_local_terms(self) -> bool:
        """As the rule inside, or whether the wrapper has terms of its own."""
        own = type(self).local_gradients is not WrappedRule.local_gradients
        return own or self.rule.has_local_terms

    @property
    def feedback_teaches_kernel(self) -> bool:
        """As the rule inside, or whether the wrapper has terms of its own."""
        own = type(self).local_gradients is not WrappedRule.local_gradients
        return own or self.rule.feedback_teaches_kernel

    @property
    def follows_kernel(self) -> bool:
        """Return what the inner rule returns."""
        return self.rule.follows_kernel

    @property
    def draws(self) -> bool:
        """Return what the inner rule returns."""
        return self.rule.draws

    def adapt(self, kernel_has_own_terms: bool) -> FeedbackRule:
        """Return this wrapper around the inner rule's form for such a layer."""
        return self._around(self.rule.adapt(kernel_has_own_terms))

    def _around(self, rule: FeedbackRule) -> Self:
        """Return this wrapper around another rule."""
        if rule is self.rule:
            return self
        wrapped = copy.copy(self)
        wrapped.rule = rule
        return wrapped

    def weights(self, kernel: keras.Variable, initializer: Initializer) -> list[FeedbackWeight]:
        """Declare the weights of the inner rule."""
        return self.rule.weights(kernel, initializer)

    def signals(self, synapses: RuleContext, training: bool | None) -> tuple[Tensor, ...]:
        """Return the signals of the inner rule."""
        return self.rule.signals(synapses, training)

    def error_kernel(self, kernel: Tensor, *feedback: Tensor) -> Tensor:
        """Return the error kernel of the inner rule."""
        return self.rule.error_kernel(kernel, *feedback)

    def assignment(self, kernel: Tensor, feedback_kernel: Tensor) -> list[Tensor]:
        """Return the values that the inner rule assigns."""
        return self.rule.assignment(kernel, feedback_kernel)

    def feedback_gradients(self, signals: Signals) -> tuple[Tensor | None, ...]:
        """Return the gradients of the inner rule."""
        return self.rule.feedback_gradients(signals)

    def local_gradients(
        self, synapses: RuleContext, inputs: Tensor, outputs: Tensor
    ) -> tuple[Tensor | None, ...] | None:
        """Return the gradients of the inner rule."""
        return self.rule.local_gradients(synapses, inputs, outputs)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"rule": keras.saving.serialize_keras_object(self.rule)}
