"""The interface of every plasticity rule."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from keras_local import _validation as check
from keras_local._serialization import Strategy
from keras_local.constraints import Constraint, weight_axes
from keras_local.ops import Dense, LinearMap
from keras_local.ops.backend import Tensor
from keras_local.plasticity.normaliser import NoNormaliser, Normaliser
from keras_local.plasticity.rate import ConstantRate, RatePolicy
from keras_local.plasticity.reduction import Mean, Reduction

DENSE = Dense()
"""The linear map that every method has by default."""


@dataclass(frozen=True)
class ActiveUnits:
    """The few units that learn from each sample; all tensors have the shape `(..., active)`.

    Attributes:
        units: Their indices.
        gains: Their learning gains.
        currents: Their currents.
    """

    units: Tensor
    gains: Tensor
    currents: Tensor


@dataclass(frozen=True)
class OwnWeight:
    """Declaration of a weight that a layer holds for its rule.

    Attributes:
        name: Name of the Keras variable.
        shape: Its shape.
        initializer: A Keras initializer, or any callable of shape and dtype.
        trainable: Whether the optimizer changes it; otherwise the layer sets it to the rule's
            value.
    """

    name: str
    shape: tuple[int, ...]
    initializer: Any
    trainable: bool = False


class PlasticityRule(Strategy, ABC):
    """Interface of plasticity rules: they compute the change of a kernel from activity.

    The change of almost every rule in this family is one formula,

    `dK = V^T G - K diag(sum_b D) - K L^T`,

    where `V` are the inputs `(batch, inputs)`, `K` is the kernel `(inputs, units)`,
    `I = V metric(K)` are the currents, `G` the learning gains `(batch, units)`, `D` the decays (by
    default `G I`), and `L` is a mixing of the units (by default none). Small objects say what is
    done with the change: `reduction` (sum or mean over the batch and all replicas), then
    `normaliser`, then `rate`, and after the optimizer's step `constraint`.

    The formula holds for every linear map: `V^T G` is the map's `kernel_gradient`, and the sum runs
    over everything that shares a weight. In a convolution every position is a sample, and the units
    of a position compete with each other; patches are not stored.

    To write a rule, implement `gains`, and `get_config` if it has arguments. Override `metric` if
    the currents are not `V K`, `decays` or `mixing` if these terms differ, and `change` if the
    whole formula differs. A rule with a memory declares it in `own_weights`; its values are then
    the last arguments of every method. If the outputs of the units are not the sums of their
    inputs, for example because units settle, override `outputs`. A rule around another rule derives
    from `WrappedPlasticity`.

    The attributes and properties say what the rule can do. Layers, pretraining, reports and plots
    ask for them, and never for the class of a rule.

    Args:
        reduction: How changes are reduced over samples; each class has its default.
        normaliser: How the size of a change is bounded; each class has its default.
        rate: How the step size depends on time and weights; each class has its default.
        constraint: What weights must obey after each step; each class has its default.
    """

    reduction: Reduction = Mean()
    normaliser: Normaliser = NoNormaliser()
    rate: RatePolicy = ConstantRate()
    constraint: Constraint | None = None

    active: int | None = None
    """How many units learn from each sample, or None for all of them.

    With a number, `active_units` is implemented, and pretraining computes and writes the weights of
    these units only. The number is valid for the class that sets it: see `trains_active_units`.
    """

    decays_by_current: bool = True
    """Whether the decays are the gains times the currents, and the currents `V metric(K)`.

    Then the decay can be computed from `V^T G`, which has the size of the kernel; the currents of a
    convolution are many times as large. The smaller of the two is used. The attribute is valid for
    the class that sets it: a subclass that overrides `decays`, `currents` or `outputs` does not
    inherit it.
    """

    remembers: bool = False
    """Whether `constrain` needs the rule's own weights."""

    needs_modulator: bool = False
    """Whether the rule learns only in calls of the layer with a modulator."""

    def __init__(
        self,
        reduction: Reduction | None = None,
        normaliser: Normaliser | None = None,
        rate: RatePolicy | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        if reduction is not None:
            self.reduction = check.instance("reduction", reduction, Reduction)
        if normaliser is not None:
            self.normaliser = check.instance("normaliser", normaliser, Normaliser)
        if rate is not None:
            self.rate = check.instance("rate", rate, RatePolicy)
        if constraint is not None:
            self.constraint = check.instance("constraint", constraint, Constraint)

    @property
    def norm_exponent(self) -> float | None:
        """Return the exponent p if converged units lie on the sphere `sum_i |W_ik|^p = 1`.

        The default None means that there is no such sphere. Then convergence is not reported.
        """
        return None

    @property
    def every_unit_converges(self) -> bool:
        """Return whether all units reach the sphere, given enough steps."""
        return self.norm_exponent is not None

    @property
    def trains_active_units(self) -> bool:
        """Return whether a step may compute the weights of the `active` units only.

        It is True if no subclass of the class that sets `active` overrides `gains`, `decays`,
        `change` or another part of the formula. Such a subclass describes another change, which is
        computed in full, unless it sets `active` again.
        """
        return self.active is not None and _speaks_for(self, "active", STEP)

    @property
    def has_common_change(self) -> bool:
        """Return whether `change` is the formula of gains, decays and mixing."""
        return not overrides(self, PlasticityRule, ("change",))

    @property
    def has_common_update(self) -> bool:
        """Return whether `update` is the change after reduction, normaliser and rate."""
        return not overrides(self, PlasticityRule, ("update",))

    @property
    def has_linear_outputs(self) -> bool:
        """Return whether the outputs are the weighted sums of the inputs."""
        return not overrides(self, PlasticityRule, ("outputs",))

    @property
    def constrains(self) -> bool:
        """Return whether `constrain` changes the weights."""
        own = self.remembers or overrides(self, PlasticityRule, ("constrain",))
        return own or self.constraint is not None

    def advice(self, input_length: float) -> str | None:
        """Return a warning if the rule learns badly from inputs of this mean length, or None."""
        return None

    @abstractmethod
    def gains(self, post: Tensor, *own: Tensor) -> Tensor:
        """Return the learning gains `(..., units)` for the currents `post`."""

    def decays(self, gains: Tensor, post: Tensor) -> Tensor | None:
        """Return how fast the weights of each unit decay, for each sample, or None."""
        return gains * post

    def mixing(self, gains: Tensor, post: Tensor, linear_map: LinearMap = DENSE) -> Tensor | None:
        """Return how much of the others' weights each unit loses, `(units, units)`, or None."""
        return None

    def samples(self, post: Tensor, linear_map: LinearMap = DENSE) -> Tensor:
        """Return the number of samples by which a mean divides, for all units or for each."""
        return linear_map.samples(post)

    @property
    def metric_is_identity(self) -> bool:
        """Return whether the currents are the outputs of the forward pass."""
        return True

    def metric(self, kernel: Tensor, *own: Tensor, linear_map: LinearMap = DENSE) -> Tensor:
        """Return the weights that compute the currents; by default those of the forward pass."""
        return self.forward_kernel(kernel, *own, linear_map=linear_map)

    def forward_kernel(self, kernel: Tensor, *own: Tensor, linear_map: LinearMap = DENSE) -> Tensor:
        """Return the weights of the forward pass; the kernel by default."""
        return kernel

    def outputs(self, sums: Tensor, *own: Tensor, linear_map: LinearMap = DENSE) -> Tensor:
        """Return the outputs of the units for their weighted sums; by default the sums.

        The layer returns these outputs (before its `activation`), exports them and pretrains the
        next layer with them, and the rule sees them as `post`. Override this method if units
        inhibit each other until they are at rest, have thresholds, or have the outputs 0 and 1. For
        pretraining and export it has to consist of `keras.ops`.
        """
        return sums

    def plain_outputs(self, sums: Any, *own: Any, linear_map: LinearMap = DENSE) -> Any:
        """Return `outputs` in a model of built-in layers, for conversion and export.

        `sums` is a Keras tensor, and the own weights are NumPy arrays, which become constants of
        the model. Override this method if the operations of `outputs` cannot be saved (loops) or
        would repeat large constants.
        """
        return self.outputs(sums, *own, linear_map=linear_map)

    def currents(
        self, pre: Tensor, kernel: Tensor, *own: Tensor, linear_map: LinearMap = DENSE
    ) -> Tensor:
        """Return the currents by which units compete and learn, `outputs(V metric(K))`."""
        sums = linear_map.apply(pre, self.metric(kernel, *own, linear_map=linear_map))
        return self.outputs(sums, *own, linear_map=linear_map)

    def active_units(self, post: Tensor) -> ActiveUnits:
        """Return the units with non-zero gain, if `active` is a number."""
        raise NotImplementedError(
            f"{type(self).__name__} has no active units: every unit learns from each sample."
        )

    def unit_change(self, hebbian: Tensor, weights: Tensor, decay: Tensor | None) -> Tensor:
        """Return the change of single units: `sum_b G_bk V_b - (sum_b D_bk) W_k`.

        Both `change` and the form of pretraining that computes only the active units call it.

        Args:
            hebbian: `sum_b G_bk V_b`, of the shape of the weights.
            weights: The weights of the units, in any orientation.
            decay: `sum_b D_bk` in a shape that broadcasts against the weights, or None.
        """
        return hebbian if decay is None else hebbian - weights * decay

    def change(
        self,
        pre: Tensor,
        post: Tensor,
        kernel: Tensor,
        *own: Tensor,
        linear_map: LinearMap = DENSE,
        modulator: Tensor | None = None,
    ) -> Tensor:
        """Return the change of the kernel, an ascent direction, summed over the samples.

        `post` are the currents of `pre`; `modulator`, a factor on the gains of each sample,
        broadcasts against them.
        """
        gains = self.gains(post, *own)
        if modulator is not None:
            gains = gains * modulator
        # On PyTorch, Keras multiplies double precision by a number in single precision.
        gains = ops.cast(gains, kernel.dtype)
        hebbian = linear_map.kernel_gradient(pre, gains, kernel)
        by_current = self.decays_by_current and _speaks_for(self, "decays_by_current", _DECAY)
        if by_current and _entries(post) > _entries(kernel):
            # sum_b G_bk I_bk = sum_i metric(K)_ik (V^T G)_ik
            axes = set(range(len(kernel.shape))) - set(linear_map.unit_axes(len(kernel.shape)))
            metric = self.metric(kernel, *own, linear_map=linear_map)
            decay = ops.sum(metric * hebbian, axis=sorted(axes), keepdims=True)
        else:
            decays = self.decays(gains, post)
            decay = None if decays is None else linear_map.unit_sum(decays)
        change = self.unit_change(hebbian, kernel, decay)
        mixing = self.mixing(gains, post, linear_map)
        if mixing is not None:
            change = change - ops.matmul(kernel, ops.swapaxes(mixing, -1, -2))
        return change

    def update(
        self,
        pre: Tensor,
        kernel: Tensor,
        *own: Tensor,
        linear_map: LinearMap = DENSE,
        post: Tensor | None = None,
        modulator: Tensor | None = None,
    ) -> Tensor:
        """Return the step of the kernel for a step size of 1, reduced over all replicas.

        The reduction comes before the normaliser, because division by the largest change is not a
        sum over samples. `post` are the currents, if they are known already.
        """
        if post is None:
            post = self.currents(pre, kernel, *own, linear_map=linear_map)
        change = self.change(pre, post, kernel, *own, linear_map=linear_map, modulator=modulator)
        change = self.reduction(change, self.samples(post, linear_map))
        units = linear_map.unit_axes(len(kernel.shape))
        return self.rate.scale(self.normaliser(change, units), kernel, units)

    def own_weights(
        self, kernel_shape: tuple[int, ...], linear_map: LinearMap = DENSE
    ) -> list[OwnWeight]:
        """Declare the weights that the rule needs in addition to the kernel; none by default."""
        return []

    def own_updates(
        self,
        pre: Tensor,
        post: Tensor,
        kernel: Tensor,
        *own: Tensor,
        linear_map: LinearMap = DENSE,
        modulator: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return the updates of the rule's own weights, in the order of their declaration.

        For a trainable weight it is the step for a step size of 1, otherwise the new value. Both
        are reduced over all replicas.
        """
        return ()

    def constrain(self, kernel: Tensor, *own: Tensor, linear_map: LinearMap = DENSE) -> Tensor:
        """Return the kernel after the constraint."""
        if self.constraint is None:
            return kernel
        return self.constraint(kernel, linear_map.unit_axes(len(kernel.shape)))

    def check_units(self, units: int) -> None:
        """Raise a ValueError if the rule cannot be used in a layer with this many units."""
        check.positive_integer("units", units)

    def parts_config(self) -> dict[str, Any]:
        """Return the config of reduction, normaliser, rate and constraint."""
        serialize = keras.saving.serialize_keras_object
        config = {name: serialize(getattr(self, name)) for name in _PARTS}
        if self.constraint is not None:
            config["constraint"] = serialize(self.constraint)
        return config


def _entries(tensor: Tensor) -> int:
    """Return how many entries a tensor has, with 32 samples if their number is unknown."""
    return math.prod(32 if size is None else size for size in tensor.shape)


_PARTS = ("reduction", "normaliser", "rate")

_DECAY = ("decays", "currents", "outputs")
FORMULA = ("gains", "decays", "mixing", "unit_change")
"""The methods that the common `change` calls."""
STEP = (
    *FORMULA[:-1],
    "active_units",
    "samples",
    "metric",
    "metric_is_identity",
    "forward_kernel",
    "outputs",
    "currents",
    "change",
    "update",
)
"""The methods that determine a step of the whole kernel, not of single units."""


def overrides(rule: PlasticityRule, known: type, methods: tuple[str, ...]) -> bool:
    """Return whether the rule, or a class between it and `known`, overrides the method."""
    order = type(rule).__mro__
    below = order[: order.index(known)]
    return any(name in vars(each) for each in (rule, *below) for name in methods)


def _speaks_for(rule: PlasticityRule, claim: str, methods: tuple[str, ...]) -> bool:
    """Return whether a class attribute was set by a class that knows the methods it describes.

    A subclass that overrides these methods inherits the attribute, but it may be wrong for it.
    """
    claimant = next(each for each in type(rule).__mro__ if claim in vars(each))
    return not overrides(rule, claimant, methods)


def weight_norms(kernel: Tensor, linear_map: LinearMap = DENSE) -> Tensor:
    """Return the Euclidean length of each unit's weights, so that it broadcasts against them."""
    axes = weight_axes(len(kernel.shape), linear_map.unit_axes(len(kernel.shape)))
    squares = ops.sum(ops.square(kernel), axis=axes, keepdims=True)
    return ops.sqrt(ops.maximum(squares, 1e-24))


def unit_shape(kernel_shape: tuple[int, ...], linear_map: LinearMap) -> tuple[int, ...]:
    """Return the shape of an array with one entry for each unit."""
    return tuple(kernel_shape[axis] for axis in linear_map.unit_axes(len(kernel_shape)))
