"""Random connectivity: only some of the feedback synapses exist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import keras
from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.feedback.rule import FeedbackRule, FeedbackWeight, Initializer, RuleContext
from keras_local.feedback.wrapped_rule import WrappedRule
from keras_local.ops import Signals, eagerly
from keras_local.ops.backend import Tensor


def random_mask(probability: float, seed: int | None) -> Callable[..., Tensor]:
    """Return an initializer whose entries are 1 with `probability`, and 0 otherwise."""

    def mask(shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        # Without a seed, the draw reads the state of Keras' global generator.
        draw = partial(keras.random.uniform, shape, seed=seed)
        return ops.cast((draw() if seed is not None else eagerly(draw)) < probability, dtype)

    return mask


def product_of(
    first: Callable[..., Tensor], second: Callable[..., Tensor]
) -> Callable[..., Tensor]:
    """Return the initializer whose values are the product of two others."""

    def product(shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        return first(shape, dtype=dtype) * second(shape, dtype=dtype)

    return product


@serializable
class RandomConnectivity(WrappedRule):
    """Another rule, in which each feedback synapse exists with a given probability.

    `delta_(l-1) = (delta_l (B * mask)^T) * f'`, where the mask is drawn once. The feedback weights
    learn as in the inner rule; a weight without a synapse has no effect.

    A layer's `connectivity` argument also gives the forward synapses a mask, independent of this
    one: a feedback synapse need not have a forward synapse between the same neurons.

    Args:
        rule: The inner rule.
        probability: Probability of each synapse, greater than 0 and at most 1.
        seed: Seed of the mask; None draws a seed.

    Raises:
        ValueError: If `rule` is not a feedback rule, the probability is out of range, or `seed` is
            not an integer in the allowed range.

    >>> import numpy as np, keras_local as kl
    >>> rule = kl.feedback.RandomConnectivity(kl.feedback.FeedbackAlignment(), 0.5, seed=0)
    >>> layer = kl.layers.FeedbackDense(100, feedback=rule)
    >>> layer.build((None, 100))
    >>> bool(abs(np.mean(np.asarray(layer.feedback_kernel) != 0) - 0.5) < 0.05)
    True

    Source: the 50 % connectivity of Amit 2019, "Deep learning with asymmetric connections and
    Hebbian updates".
    """

    def __init__(self, rule: FeedbackRule, probability: float, seed: int | None = None) -> None:
        super().__init__(rule)
        self.probability = check.real(
            "probability", probability, minimum=0.0, maximum=1.0, exclusive=True
        )
        self.seed = check.seed("seed", seed)

    @property
    def has_own_kernel(self) -> bool:
        """Return whether an error is sent at all: a forward kernel is masked too."""
        return self.rule.has_own_kernel or self.rule.sends_errors

    @property
    def has_local_terms(self) -> bool:
        """As the rule inside."""
        return self.rule.has_local_terms

    def adapt(self, kernel_has_own_terms: bool) -> FeedbackRule:
        """Make the inner rule hold `B` as a weight: another mask has other updates."""
        return super().adapt(kernel_has_own_terms=True)

    def weights(self, kernel: keras.Variable, initializer: Initializer) -> list[FeedbackWeight]:
        """Declare the weights of the inner rule, and the mask."""
        exist = random_mask(self.probability, self.seed)
        mask = FeedbackWeight("feedback_mask", tuple(kernel.shape), exist, False)
        return [*self.rule.weights(kernel, initializer), mask]

    def signals(self, synapses: RuleContext, training: bool | None) -> tuple[Tensor, ...]:
        """Return the signals of the inner rule, and the mask."""
        return (*self.rule.signals(_inner(synapses), training), synapses.feedback[-1])

    def error_kernel(self, kernel: Tensor, *feedback: Tensor) -> Tensor:
        """Return `B * mask`."""
        return self.rule.error_kernel(kernel, *feedback[:-1]) * feedback[-1]

    def assignment(self, kernel: Tensor, feedback_kernel: Tensor) -> list[Tensor]:
        """Return the inner rule's values; synapses exist where the given kernel is not zero."""
        mask = ops.cast(ops.not_equal(feedback_kernel, 0.0), feedback_kernel.dtype)
        return [*self.rule.assignment(kernel, feedback_kernel), mask]

    def feedback_gradients(self, signals: Signals) -> tuple[Tensor | None, ...]:
        """Return the gradients of the inner rule."""
        inner = replace(signals, feedback=signals.feedback[:-1])
        return (*self.rule.feedback_gradients(inner), None)

    @property
    def feedback_teaches_kernel(self) -> bool:
        """As the rule inside."""
        return self.rule.feedback_teaches_kernel

    def local_gradients(
        self, synapses: RuleContext, inputs: Tensor, outputs: Tensor
    ) -> tuple[Tensor | None, ...] | None:
        """Return the gradients of the inner rule."""
        inner = self.rule.local_gradients(_inner(synapses), inputs, outputs)
        return inner and (*inner, None)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "probability": self.probability, "seed": self.seed}


def _inner(synapses: RuleContext) -> RuleContext:
    """Leave out the mask, which the inner rule does not know."""
    return replace(synapses, feedback=synapses.feedback[:-1], variables=synapses.variables[:-1])
