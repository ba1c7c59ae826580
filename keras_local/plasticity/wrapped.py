"""The base class of rules around another rule."""

from __future__ import annotations

from typing import Any

import keras

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local.constraints import Constraint
from keras_local.ops import LinearMap
from keras_local.ops.backend import Tensor
from keras_local.plasticity.normaliser import Normaliser
from keras_local.plasticity.rate import RatePolicy
from keras_local.plasticity.reduction import Reduction
from keras_local.plasticity.rule import (
    DENSE,
    FORMULA,
    STEP,
    ActiveUnits,
    OwnWeight,
    PlasticityRule,
    overrides,
)


@serializable
class WrappedPlasticity(PlasticityRule):
    """Interface of rules around another rule, which is used for all that is not overridden.

    A wrapper has the parts, the constraint, the weights, the sphere and the outputs of the inner
    rule, and its conditions on a modulator and on the number of units. A subclass overrides what it
    changes, and calls `self.base` for the rest.

    A wrapper with weights of its own sets `held` to their number and declares them in
    `held_weights` and `held_updates`. They come before the weights of the inner rule. Therefore the
    methods of a subclass call `self.base.gains(post, *self.inner(own))`.

    Args:
        base: The inner rule or its alias.
        reduction: How changes are reduced over samples; as in the base by default.
        normaliser: How the size of a change is bounded; as in the base by default.
        rate: How the step size depends on time and weights; as in the base by default.
        constraint: What weights must obey after each step, after the constraint of the base.

    Raises:
        ValueError: If `base` is not a plasticity rule, or a part is of the wrong kind.

    >>> import keras, keras_local as kl
    >>> @keras.saving.register_keras_serializable(package="mine")
    ... class Halved(kl.plasticity.WrappedPlasticity):
    ...     def gains(self, post, *own):
    ...         return 0.5 * self.base.gains(post, *self.inner(own))
    >>> rule = Halved(kl.plasticity.Convallis())
    >>> [weight.name for weight in rule.own_weights((4, 3))]
    ['mean_input', 'batches']
    """

    held: int = 0
    """The number of the wrapper's own weights, which come before those of the inner rule."""

    def __init__(
        self,
        base: Any,
        reduction: Reduction | None = None,
        normaliser: Normaliser | None = None,
        rate: RatePolicy | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        from keras_local import plasticity

        self.base: PlasticityRule = plasticity.get(base, "base")
        self.reduction = self.base.reduction
        self.normaliser = self.base.normaliser
        self.rate = self.base.rate
        super().__init__(reduction, normaliser, rate, constraint)
        self.needs_modulator = self.base.needs_modulator
        self.remembers = self.base.remembers
        self.active = self.base.active
        self._check_base()

    def inner(self, own: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the weights of the inner rule from the weights of both."""
        return tuple(own[self.held :])

    def held_weights(
        self, kernel_shape: tuple[int, ...], linear_map: LinearMap = DENSE
    ) -> list[OwnWeight]:
        """Declare the wrapper's own weights, `held` of them."""
        return []

    def held_updates(
        self,
        pre: Tensor,
        post: Tensor,
        kernel: Tensor,
        *own: Tensor,
        linear_map: LinearMap = DENSE,
        modulator: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return the updates of the wrapper's own weights, like `own_updates`."""
        return ()

    @property
    def norm_exponent(self) -> float | None:
        """Return what the base returns."""
        return self.base.norm_exponent

    @property
    def every_unit_converges(self) -> bool:
        """Return what the base returns."""
        return self.base.every_unit_converges

    @property
    def trains_active_units(self) -> bool:
        """Return what the base returns, unless the wrapper changes a part of the formula."""
        return self.base.trains_active_units and not self._changes(STEP)

    @property
    def has_common_change(self) -> bool:
        """Return what the base returns."""
        return self.base.has_common_change and not self._changes(("change",))

    @property
    def has_common_update(self) -> bool:
        """Return what the base returns."""
        return self.base.has_common_update and not self._changes(("update",))

    @property
    def has_linear_outputs(self) -> bool:
        """Return what the base returns."""
        return self.base.has_linear_outputs and not self._changes(("outputs",))

    @property
    def constrains(self) -> bool:
        """Return what the base returns, or True if the wrapper has a constraint."""
        own = self.constraint is not None or self._changes(("constrain",))
        return own or self.base.constrains

    @property
    def metric_is_identity(self) -> bool:
        """Return what the base returns."""
        return self.base.metric_is_identity

    def advice(self, input_length: float) -> str | None:
        """Return the advice of the base."""
        return self.base.advice(input_length)

    def check_units(self, units: int) -> None:
        """Check the number of units by the base."""
        self.base.check_units(units)

    def gains(self, post: Tensor, *own: Tensor) -> Tensor:
        """Return the gains of the base."""
        return self.base.gains(post, *self.inner(own))

    def decays(self, gains: Tensor, post: Tensor) -> Tensor | None:
        """Return the decays of the base."""
        return self.base.decays(gains, post)

    def mixing(self, gains: Tensor, post: Tensor, linear_map: LinearMap = DENSE) -> Tensor | None:
        """Return the mixing of the base."""
        return self.base.mixing(gains, post, linear_map)

    def samples(self, post: Tensor, linear_map: LinearMap = DENSE) -> Tensor:
        """Return the number of samples of the base."""
        return self.base.samples(post, linear_map)

    def metric(self, kernel: Tensor, *own: Tensor, linear_map: LinearMap = DENSE) -> Tensor:
        """Return the metric of the base."""
        return self.base.metric(kernel, *self.inner(own), linear_map=linear_map)

    def forward_kernel(self, kernel: Tensor, *own: Tensor, linear_map: LinearMap = DENSE) -> Tensor:
        """Return the forward kernel of the base."""
        return self.base.forward_kernel(kernel, *self.inner(own), linear_map=linear_map)

    def outputs(self, sums: Tensor, *own: Tensor, linear_map: LinearMap = DENSE) -> Tensor:
        """Return the outputs of the base."""
        return self.base.outputs(sums, *self.inner(own), linear_map=linear_map)

    def plain_outputs(self, sums: Any, *own: Any, linear_map: LinearMap = DENSE) -> Any:
        """Return the plain outputs of the base."""
        return self.base.plain_outputs(sums, *self.inner(own), linear_map=linear_map)

    def currents(
        self, pre: Tensor, kernel: Tensor, *own: Tensor, linear_map: LinearMap = DENSE
    ) -> Tensor:
        """Return the currents of the base."""
        return self.base.currents(pre, kernel, *self.inner(own), linear_map=linear_map)

    def active_units(self, post: Tensor) -> ActiveUnits:
        """Return the active units of the base."""
        return self.base.active_units(post)

    def unit_change(self, hebbian: Tensor, weights: Tensor, decay: Tensor | None) -> Tensor:
        """Return the change of single units by the base."""
        return self.base.unit_change(hebbian, weights, decay)

    def change(
        self,
        pre: Tensor,
        post: Tensor,
        kernel: Tensor,
        *own: Tensor,
        linear_map: LinearMap = DENSE,
        modulator: Tensor | None = None,
    ) -> Tensor:
        """Return the change of the base, or the formula if the wrapper overrides a part of it."""
        options: dict[str, Any] = {"linear_map": linear_map, "modulator": modulator}
        if self._changes(FORMULA):
            return super().change(pre, post, kernel, *own, **options)
        return self.base.change(pre, post, kernel, *self.inner(own), **options)

    def update(
        self,
        pre: Tensor,
        kernel: Tensor,
        *own: Tensor,
        linear_map: LinearMap = DENSE,
        post: Tensor | None = None,
        modulator: Tensor | None = None,
    ) -> Tensor:
        """Return the update of the base, or the step of the change if the wrapper overrides it."""
        options: dict[str, Any] = {"linear_map": linear_map, "modulator": modulator, "post": post}
        if self._changes((*STEP, *FORMULA)) or self._has_parts:
            return super().update(pre, kernel, *own, **options)
        return self.base.update(pre, kernel, *self.inner(own), **options)

    def own_weights(
        self, kernel_shape: tuple[int, ...], linear_map: LinearMap = DENSE
    ) -> list[OwnWeight]:
        """Declare the wrapper's own weights, then those of the base."""
        held = self.held_weights(kernel_shape, linear_map)
        if len(held) != self.held:
            raise ValueError(
                f"`{type(self).__name__}.held` must be the number of `held_weights`, {len(held)}. "
                f"Received: held={self.held}"
            )
        return [*held, *self.base.own_weights(kernel_shape, linear_map)]

    def own_updates(
        self,
        pre: Tensor,
        post: Tensor,
        kernel: Tensor,
        *own: Tensor,
        linear_map: LinearMap = DENSE,
        modulator: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return the updates of the wrapper's own weights, then those of the base."""
        options: dict[str, Any] = {"linear_map": linear_map, "modulator": modulator}
        return (
            *self.held_updates(pre, post, kernel, *own, **options),
            *self.base.own_updates(pre, post, kernel, *self.inner(own), **options),
        )

    def constrain(self, kernel: Tensor, *own: Tensor, linear_map: LinearMap = DENSE) -> Tensor:
        """Return the kernel after the constraints of the base and of the wrapper."""
        kernel = self.base.constrain(kernel, *self.inner(own), linear_map=linear_map)
        return super().constrain(kernel, linear_map=linear_map)

    def get_config(self) -> dict[str, Any]:
        """Return the base and the parts."""
        return {"base": keras.saving.serialize_keras_object(self.base), **self.parts_config()}

    def _changes(self, methods: tuple[str, ...]) -> bool:
        return overrides(self, WrappedPlasticity, methods)

    @property
    def _has_parts(self) -> bool:
        parts = ("reduction", "normaliser", "rate")
        return any(getattr(self, name) != getattr(self.base, name) for name in parts)

    def _check_base(self) -> None:
        """Raise a ValueError for a base whose own change or step would be ignored."""
        if self._changes(FORMULA) and not self._changes(("change",)):
            allowed = "a rule whose change is the formula of gains, decays and mixing"
            check.require(self.base.has_common_change, "base", allowed, self.base)
        if (self._changes((*STEP, *FORMULA)) and not self._changes(("update",))) or self._has_parts:
            allowed = "a rule whose step is its change after reduction, normaliser and rate"
            check.require(self.base.has_common_update, "base", allowed, self.base)
