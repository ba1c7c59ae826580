"""Eligibility traces: synapses remember their changes until a reward comes."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.constraints import Constraint
from keras_local.ops import LinearMap, replica_mean
from keras_local.ops.backend import Tensor
from keras_local.plasticity.normaliser import Normaliser
from keras_local.plasticity.rate import RatePolicy
from keras_local.plasticity.reduction import Reduction
from keras_local.plasticity.rule import DENSE, OwnWeight
from keras_local.plasticity.wrapped import WrappedPlasticity


@serializable
class EligibilityRule(WrappedPlasticity):
    """A memory between the change of any rule and a modulator that comes later.

        e <- (1 - 1 / tau) e + (change of the base rule, reduced)
        dW = m e

    in steps of training. The modulator `m` is one signal for the whole layer, the mean of the
    `modulator` with which the layer is called. An activity d steps before it counts with the factor
    `(1 - 1 / tau)^d`. Without a modulator the layer remembers but does not learn.

    The trace has the size of the kernel, and holds sums over the batch: samples of one step share
    the credit.

    Local: it uses each synapse's own trace; the modulator is broadcast to all synapses.

    Args:
        base: The rule whose change is remembered, or its alias. It has to learn without a modulator
            and without trainable weights of its own, and its step has to be its change after
            reduction, normaliser and rate.
        tau: Time constant in steps, at least 1; with 1 nothing is remembered.
        reduction: How changes are reduced over samples; as in the base by default.
        normaliser: How the size of a change is bounded; as in the base by default.
        rate: How the step size depends on time and weights; as in the base by default.
        constraint: What weights must obey after each step, after the constraint of the base.

    Raises:
        ValueError: If `base` is not such a rule, `tau` is less than 1, or a part is of the wrong
            kind.

    >>> from keras_local.plasticity import EligibilityRule, Hebb
    >>> rule = EligibilityRule(Hebb(), tau=10.0)
    >>> [weight.name for weight in rule.own_weights((4, 3))]
    ['eligibility']
    """

    held = 1

    def __init__(
        self,
        base: Any = "hebb",
        tau: float = 10.0,
        reduction: Reduction | None = None,
        normaliser: Normaliser | None = None,
        rate: RatePolicy | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        super().__init__(base, reduction, normaliser, rate, constraint)
        able = self.base.has_common_update and not self.base.needs_modulator
        allowed = "a rule that learns without a modulator, by its change alone"
        check.require(able, "base", allowed, self.base)
        self.tau = check.real("tau", tau, minimum=1.0)

    def update(
        self,
        pre: Tensor,
        kernel: Tensor,
        *own: Tensor,
        linear_map: LinearMap = DENSE,
        post: Tensor | None = None,
        modulator: Tensor | None = None,
    ) -> Tensor:
        """Return the trace, including this step, times the modulator."""
        if modulator is None:
            return ops.zeros_like(kernel)
        if post is None:
            post = self.currents(pre, kernel, *own, linear_map=linear_map)
        factor = replica_mean(linear_map.mean(modulator)[None])
        change = factor * self._trace(pre, post, kernel, *own, linear_map=linear_map)
        units = linear_map.unit_axes(len(kernel.shape))
        return self.rate.scale(self.normaliser(change, units), kernel, units)

    def _trace(
        self, pre: Tensor, post: Tensor, kernel: Tensor, *own: Tensor, linear_map: LinearMap
    ) -> Tensor:
        change = self.base.change(pre, post, kernel, *self.inner(own), linear_map=linear_map)
        latest = self.reduction(change, self.base.samples(post, linear_map))
        return (1.0 - 1.0 / self.tau) * own[0] + latest

    def held_weights(
        self, kernel_shape: tuple[int, ...], linear_map: LinearMap = DENSE
    ) -> list[OwnWeight]:
        """Declare the trace."""
        return [OwnWeight("eligibility", tuple(kernel_shape), "zeros")]

    def held_updates(
        self,
        pre: Tensor,
        post: Tensor,
        kernel: Tensor,
        *own: Tensor,
        linear_map: LinearMap = DENSE,
        modulator: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return the trace, including this step."""
        return (self._trace(pre, post, kernel, *own, linear_map=linear_map),)

    def own_weights(
        self, kernel_shape: tuple[int, ...], linear_map: LinearMap = DENSE
    ) -> list[OwnWeight]:
        """Declare the trace, then the weights of the base."""
        weights = super().own_weights(kernel_shape, linear_map)
        fixed = not any(weight.trainable for weight in weights)
        check.require(fixed, "base", "a rule without trainable weights of its own", self.base)
        return weights

    def own_updates(
        self,
        pre: Tensor,
        post: Tensor,
        kernel: Tensor,
        *own: Tensor,
        linear_map: LinearMap = DENSE,
        modulator: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return the trace, then the updates of the base's weights without a modulator."""
        return super().own_updates(pre, post, kernel, *own, linear_map=linear_map)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "tau": self.tau}
