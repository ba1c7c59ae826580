"""Noise on the updates of feedback weights, to measure how exact a rule has to be."""

from __future__ import annotations

from typing import Any

import keras

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.feedback.rule import FeedbackRule, FeedbackWeight, Initializer, RuleContext
from keras_local.feedback.wrapped_rule import WrappedRule
from keras_local.ops.backend import Tensor


@serializable
class NoisyUpdates(WrappedRule):
    """Another rule, with Gaussian noise on every update of its feedback weights.

    `dB = (dB of the rule) + N(0, stddev^2)`, drawn again in each training step. Under plain SGD a
    step of size `r` adds noise of standard deviation `r stddev`, which decreases with the step size
    under a schedule.

    Args:
        rule: The inner rule, whose feedback weights learn.
        stddev: Standard deviation of the noise.

    Raises:
        ValueError: If `rule` is not a feedback rule or has no weights that learn, or `stddev` is
            negative.

    >>> import keras_local as kl
    >>> rule = kl.feedback.NoisyUpdates(kl.feedback.KolenPollack(), stddev=0.01)
    >>> layer = kl.layers.FeedbackDense(3, feedback=rule)

    Source: the robustness comparison of Kunin et al. 2020.
    """

    def __init__(self, rule: FeedbackRule, stddev: float = 0.01) -> None:
        super().__init__(rule)
        self.stddev = check.real("stddev", stddev, minimum=0.0)

    @property
    def draws(self) -> bool:
        """Return True: the noise is drawn."""
        return True

    @property
    def feedback_teaches_kernel(self) -> bool:
        """As the rule inside: the noise is that of the feedback weights."""
        return self.rule.feedback_teaches_kernel

    def adapt(self, kernel_has_own_terms: bool) -> FeedbackRule:
        """Make the inner rule hold `B` as a weight: noise makes it differ from the kernel."""
        return super().adapt(kernel_has_own_terms=True)

    def weights(self, kernel: keras.Variable, initializer: Initializer) -> list[FeedbackWeight]:
        """Declare the weights of the inner rule."""
        weights = self.rule.weights(kernel, initializer)
        check.require(
            any(weight.trainable and weight.shape for weight in weights),
            "rule",
            "a rule with feedback weights that learn",
            type(self.rule).__name__,
        )
        return weights

    def local_gradients(
        self, synapses: RuleContext, inputs: Tensor, outputs: Tensor
    ) -> tuple[Tensor | None, ...] | None:
        """Return the gradients of the inner rule, plus noise for each weight that learns."""
        nothing = (None,) * (1 + len(synapses.feedback))
        inner = self.rule.local_gradients(synapses, inputs, outputs) or nothing
        noisy: list[Tensor | None] = [inner[0]]
        for gradient, variable in zip(inner[1:], synapses.variables, strict=True):
            noise = None
            if variable.trainable:
                # All replicas draw the same, so that their mean is the draw of one device.
                noise = keras.random.normal(variable.shape, stddev=self.stddev, seed=synapses.seed)
                noise = keras.ops.cast(noise, synapses.kernel.dtype)
            parts = [part for part in (gradient, noise) if part is not None]
            noisy.append(sum(parts[1:], parts[0]) if parts else None)
        return tuple(noisy)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "stddev": self.stddev}
