"""How the size of a change is bounded, after the reduction over all replicas."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

from keras import ops

from keras_local import _validation as check
from keras_local._serialization import Strategy, serializable
from keras_local.constraints import Axes, weight_axes
from keras_local.ops.backend import Tensor


class Normaliser(Strategy, ABC):
    """Interface of normalisers, which rescale a reduced change."""

    @abstractmethod
    def __call__(self, change: Tensor, unit_axis: Axes = -1) -> Tensor:
        """Return the rescaled change; units lie along `unit_axis`, one axis or several."""


@serializable
class NoNormaliser(Normaliser):
    """A normaliser that does not change the change."""

    def __call__(self, change: Tensor, unit_axis: Axes = -1) -> Tensor:
        """Return the change as it is."""
        return change


@serializable
class MaxAbs(Normaliser):
    """Division by the largest entry of the kernel's change: `dK / max|dK|`.

    One scalar divides the whole kernel, so that the largest weight change of a step is exactly the
    step size. A change of zero stays zero. Not local: the scalar is common to all synapses of the
    layer.
    """

    def __call__(self, change: Tensor, unit_axis: Axes = -1) -> Tensor:
        """Return the change divided by its largest absolute entry."""
        # Two readings take less time than one tensor of absolute values.
        return _quotient(change, ops.maximum(ops.max(change), -ops.min(change)))


@serializable
class UnitMaxAbs(Normaliser):
    """Division of each unit's change by its own largest entry."""

    def __call__(self, change: Tensor, unit_axis: Axes = -1) -> Tensor:
        """Return the change, divided for each unit by its largest absolute entry."""
        axes = weight_axes(len(change.shape), unit_axis)
        return _quotient(change, ops.max(ops.abs(change), axis=axes, keepdims=True))


@serializable
class RootFanIn(Normaliser):
    """Division by the square root of the number of inputs to a unit: `dK / sqrt(N)`."""

    def __call__(self, change: Tensor, unit_axis: Axes = -1) -> Tensor:
        """Return the change divided by the square root of the fan-in."""
        axes = weight_axes(len(change.shape), unit_axis)
        return change / math.sqrt(math.prod(change.shape[axis] for axis in axes))


@serializable
class Shrink(Normaliser):
    """Soft thresholding, which removes small changes: `sign(dK) max(|dK| - threshold, 0)`.

    Args:
        threshold: Number that is subtracted from absolute values, at least 0.

    Raises:
        ValueError: For a negative threshold.
    """

    def __init__(self, threshold: float = 0.0) -> None:
        self.threshold = check.real("threshold", threshold, minimum=0.0)

    def __call__(self, change: Tensor, unit_axis: Axes = -1) -> Tensor:
        """Return the change, shrunk towards zero."""
        return ops.sign(change) * ops.maximum(ops.abs(change) - self.threshold, 0.0)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"threshold": self.threshold}


def _quotient(change: Tensor, largest: Tensor) -> Tensor:
    # `max(largest, 1e-30)` would be 0 in half precision.
    positive = largest > 0
    return change * ops.where(positive, 1.0 / ops.where(positive, largest, 1.0), 0.0)
