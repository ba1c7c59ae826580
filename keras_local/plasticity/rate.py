"""How the step size depends on time and on a unit's weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from keras import ops

from keras_local import _validation as check
from keras_local._serialization import Strategy, serializable
from keras_local.constraints import Axes, weight_axes
from keras_local.ops.backend import Tensor


class RatePolicy(Strategy, ABC):
    """Interface of rates: one factor on the step size for each epoch, and one for each unit."""

    @abstractmethod
    def at(self, epoch: int, epochs: int) -> float:
        """Return the factor in epoch `epoch` of `epochs`, counted from 0."""

    def scale(self, change: Tensor, kernel: Tensor, unit_axis: Axes = -1) -> Tensor:
        """Return the change times each unit's factor."""
        return change


@serializable
class ConstantRate(RatePolicy):
    """A step size that is always the same."""

    def at(self, epoch: int, epochs: int) -> float:
        """Return 1."""
        return 1.0


@serializable
class LinearDecay(RatePolicy):
    """A step size that decreases linearly: the factor is `1 - e/E` in epoch e of E.

    The last epoch still learns, with 1/E of the first step size.

    >>> from keras_local.plasticity import LinearDecay
    >>> [LinearDecay().at(epoch, 4) for epoch in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    """

    def at(self, epoch: int, epochs: int) -> float:
        """Return `1 - epoch / epochs`."""
        return 1.0 - epoch / epochs


@serializable
class NormDistance(RatePolicy):
    """A step size for each unit by its distance from norm 1: `| |W_k| - 1 |^power`.

    Args:
        power: Exponent, positive.

    Source: the norm-dependent rate of SoftHebb (Journe et al. 2023).
    """

    def __init__(self, power: float = 0.5) -> None:
        self.power = check.real("power", power, minimum=0.0, exclusive=True)

    def at(self, epoch: int, epochs: int) -> float:
        """Return 1: the norms of the units slow them down."""
        return 1.0

    def scale(self, change: Tensor, kernel: Tensor, unit_axis: Axes = -1) -> Tensor:
        """Return the change times the power of each unit's distance from norm 1."""
        axes = weight_axes(len(kernel.shape), unit_axis)
        norm = ops.sqrt(ops.sum(ops.square(kernel), axis=axes, keepdims=True))
        return change * ops.power(ops.abs(norm - 1.0), self.power)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"power": self.power}
