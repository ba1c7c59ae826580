"""An eligibility trace: synapses remember what they would have learnt until reward comes."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.ops import LinearMap, replica_sum
from keras_local.ops.backend import Tensor
from keras_local.plasticity.rule import DENSE, OwnWeight, PlasticityRule


@serializable
class EligibilityRule(PlasticityRule):
    """Any rule, with a memory between its change and a modulator that comes later.

        e <- (1 - 1 / tau) e + (change of the base rule, reduced)
        dW = m e

    in steps of training. The modulator `m` is one signal for the whole layer, the mean of what the
    layer is called with (`modulator=...`); what was active d steps before it is learnt in the
    proportion `(1 - 1 / tau)^d`. Without a modulator the layer remembers and does not learn.

    The trace has the size of the kernel, and holds sums over the batch: samples of one step share
    the credit.

    Local: each synapse's own trace; the modulator is broadcast to all.

    Args:
        base: The rule whose change is remembered, or its alias; one without trainable weights of
            its own.
        tau: Time constant in steps, at least 1; with 1 nothing is remembered.
        **parts: As of any rule; by default `reduction`, `normaliser`, `rate` and `constraint` of
            the base.

    Raises:
        ValueError: If `base` is no rule, `tau` is less than 1, or a part is of the wrong kind.

    >>> from keras_local.plasticity import EligibilityRule, Hebb
    >>> rule = EligibilityRule(Hebb(), tau=10.0)
    >>> [weight.name for weight in rule.own_weights((4, 3))]
    ['eligibility']
    """

    def __init__(self, base: Any = "hebb", tau: float = 10.0, **parts: Any) -> None:
        from keras_local import plasticity

        self.base: PlasticityRule = plasticity.get(base)
        self.reduction = self.base.reduction
        self.normaliser = self.base.normaliser
        self.rate = self.base.rate
        self.constraint = self.base.constraint
        super().__init__(**parts)
        self.tau = check.real("tau", tau, minimum=1.0)

    def check_units(self, units: int) -> None:
        """As the base."""
        self.base.check_units(units)

    @property
    def metric_is_identity(self) -> bool:
        """As of the base."""
        return self.base.metric_is_identity

    def metric(self, kernel: Tensor, *own: Tensor, linear_map: LinearMap = DENSE) -> Tensor:
        """As of the base."""
        return self.base.metric(kernel, *own[1:], linear_map=linear_map)

    def forward_kernel(self, kernel: Tensor, *own: Tensor, linear_map: LinearMap = DENSE) -> Tensor:
        """As of the base."""
        return self.base.forward_kernel(kernel, *own[1:], linear_map=linear_map)

    def gains(self, post: Tensor, *own: Tensor) -> Tensor:
        """As of the base."""
        return self.base.gains(post, *own[1:])

    def update(
        self,
        pre: Tensor,
        kernel: Tensor,
        *own: Tensor,
        linear_map: LinearMap = DENSE,
        post: Tensor | None = None,
        modulator: Tensor | None = None,
    ) -> Tensor:
        """Return the trace, this step included, times the modulator."""
        if modulator is None:
            return ops.zeros_like(kernel)
        if post is None:
            post = self.currents(pre, kernel, *own, linear_map=linear_map)
        total = replica_sum(ops.mean(modulator))
        factor = total / replica_sum(ops.ones_like(total))
        change = factor * self._trace(pre, post, kernel, *own, linear_map=linear_map)
        units = linear_map.unit_axes(len(kernel.shape))
        return self.rate.scale(self.normaliser(change, units), kernel, units)

    def _trace(
        self, pre: Tensor, post: Tensor, kernel: Tensor, *own: Tensor, linear_map: LinearMap
    ) -> Tensor:
        trace, *others = own
        change = self.base.change(pre, post, kernel, *others, linear_map=linear_map)
        latest = self.reduction(change, self.base.samples(post, linear_map))
        return (1.0 - 1.0 / self.tau) * trace + latest

    def own_weights(
        self, kernel_shape: tuple[int, ...], linear_map: LinearMap = DENSE
    ) -> list[OwnWeight]:
        """The trace, then what the base needs."""
        others = self.base.own_weights(kernel_shape, linear_map)
        fixed = not any(weight.trainable for weight in others)
        check.require(fixed, "base", "a rule without trainable weights of its own", self.base)
        return [OwnWeight("eligibility", tuple(kernel_shape), "zeros"), *others]

    def own_updates(
        self,
        pre: Tensor,
        post: Tensor,
        kernel: Tensor,
        *own: Tensor,
        linear_map: LinearMap = DENSE,
        modulator: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return the trace, this step included, and what becomes of the base's weights."""
        trace = self._trace(pre, post, kernel, *own, linear_map=linear_map)
        others = self.base.own_updates(pre, post, kernel, *own[1:], linear_map=linear_map)
        return trace, *others

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        base = keras.saving.serialize_keras_object(self.base)
        return {"base": base, "tau": self.tau, **self.parts_config()}
