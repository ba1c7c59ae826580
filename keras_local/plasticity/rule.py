"""The interface of every plasticity rule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from keras import ops

from keras_local import _validation as check
from keras_local._serialization import Strategy
from keras_local.ops.backend import Tensor
from keras_local.plasticity.normaliser import Normaliser
from keras_local.plasticity.rate import RatePolicy
from keras_local.plasticity.reduction import Reduction


@dataclass(frozen=True)
class ActiveUnits:
    """The few units that learn from each sample; all shapes are `(batch, active)`.

    Attributes:
        units: Their indices.
        gains: Their learning gains.
        currents: Their currents.
    """

    units: Tensor
    gains: Tensor
    currents: Tensor


class PlasticityRule(Strategy, ABC):
    """Interface: turn (pre, post, kernel) into a change of the kernel.

    The change of almost every rule in this family is one formula,

    `dK = V^T G - K diag(sum_b G I)`,

    with `V` the inputs `(batch, inputs)`, `K` the kernel `(inputs, units)`, `I = V metric(K)` the
    currents and `G` the learning gains `(batch, units)`. What is done with it afterwards is said by
    three small objects: `reduction` (sum or mean over the batch, over all replicas), then
    `normaliser`, then `rate`.

    To write a rule, implement `gains`, and `get_config` if it has arguments; override `metric` if
    the currents are not `V K`, and `change` if the formula is another one.
    """

    reduction: Reduction
    normaliser: Normaliser
    rate: RatePolicy

    active: ClassVar[int | None] = None
    """How many units learn from each sample, or None for all of them.

    With a number, `active_units` is implemented and `change` is the formula above; pretraining then
    computes and writes the weights of these units only.
    """

    @abstractmethod
    def gains(self, post: Tensor) -> Tensor:
        """Return the learning gains `(batch, units)` for the currents `post`."""

    @property
    def metric_is_identity(self) -> bool:
        """Whether `metric` returns the kernel itself."""
        return True

    def metric(self, kernel: Tensor) -> Tensor:
        """Return the weights through which the currents flow, element by element."""
        return kernel

    def currents(self, pre: Tensor, kernel: Tensor) -> Tensor:
        """Return the currents `(batch, units)` on which the units compete."""
        return ops.matmul(pre, self.metric(kernel))

    def active_units(self, post: Tensor) -> ActiveUnits:
        """Return the units with non-zero gain, where `active` is a number."""
        raise NotImplementedError(f"{type(self).__name__} lets every unit learn.")

    def change(self, pre: Tensor, post: Tensor, kernel: Tensor) -> Tensor:
        """Return the change of the kernel, an ascent direction, summed over the batch."""
        gains = self.gains(post)
        hebbian = ops.matmul(ops.transpose(pre), gains)
        return hebbian - kernel * ops.sum(gains * post, axis=0)

    def update(self, pre: Tensor, kernel: Tensor) -> Tensor:
        """Return the step of the kernel for a step size of 1, reduced over all replicas.

        The reduction comes first and the normaliser after it: a quotient by the largest change is
        not a sum over samples.
        """
        change = self.change(pre, self.currents(pre, kernel), kernel)
        change = self.normaliser(self.reduction(change, ops.shape(pre)[0]))
        return self.rate.scale(change, kernel)

    def check_units(self, units: int) -> None:
        """Raise a ValueError if the rule cannot serve a layer of so many units."""
        check.positive_integer("units", units)
