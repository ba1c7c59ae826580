"""Constraints on weights that are applied after each step, for all optimizers.

Each is a Keras constraint: `kernel_constraint=UnitLength()` in any layer. A plasticity rule can
have one as well; then a layer with many positions defines the axes of its units.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import keras
from keras import ops

from keras_local import _validation as check
from keras_local._serialization import by_value, serializable
from keras_local.ops.backend import Tensor

Axes = int | tuple[int, ...]


def weight_axes(rank: int, unit_axis: Axes) -> tuple[int, ...]:
    """Return the axes of a kernel along which the weights of one unit lie."""
    units = (unit_axis,) if isinstance(unit_axis, int) else unit_axis
    return tuple(axis for axis in range(rank) if axis not in {unit % rank for unit in units})


@by_value
class Constraint(keras.constraints.Constraint):
    """Interface of a constraint: it maps weights to the nearest allowed weights."""

    @abstractmethod
    def __call__(self, w: Tensor, unit_axis: Axes = -1) -> Tensor:
        """Return weights that satisfy the constraint; `unit_axis` is the axis of the units."""


@serializable
class NonNegative(Constraint):
    """Non-negative weights: `max(W, 0)`.

    Args:
        maximum: Largest weight allowed; None for no bound.

    Raises:
        ValueError: If `maximum` is not positive.

    >>> import numpy as np
    >>> np.asarray(NonNegative(maximum=1)(np.array([[-1.0, 0.5, 2.0]]))).tolist()
    [[0.0, 0.5, 1.0]]
    """

    def __init__(self, maximum: float | None = None) -> None:
        if maximum is not None:
            maximum = check.real("maximum", maximum, minimum=0.0, exclusive=True)
        self.maximum = maximum

    def __call__(self, w: Tensor, unit_axis: Axes = -1) -> Tensor:
        """Return the weights, clipped to 0 and the maximum."""
        w = ops.maximum(w, 0.0)
        return w if self.maximum is None else ops.minimum(w, self.maximum)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"maximum": self.maximum}


@serializable
class UnitLength(Constraint):
    """Weights on the Lp unit sphere: `W_k / (sum_i |W_ik|^p)^(1/p)`; zero weights stay zero.

    Args:
        p: Exponent of the norm, at least 1.

    Raises:
        ValueError: If `p` is less than 1.

    >>> import numpy as np
    >>> np.asarray(UnitLength()(np.array([[3.0], [4.0]]))).tolist()
    [[0.6], [0.8]]
    """

    def __init__(self, p: float = 2.0) -> None:
        self.p = check.real("p", p, minimum=1.0)

    def __call__(self, w: Tensor, unit_axis: Axes = -1) -> Tensor:
        """Return the weights of each unit divided by their norm."""
        w = ops.convert_to_tensor(w)
        axes = weight_axes(len(w.shape), unit_axis)
        # Divide by the largest weight first, because powers of small weights would vanish.
        largest = ops.max(ops.abs(w), axis=axes, keepdims=True)
        w = w / ops.where(largest > 0.0, largest, ops.ones_like(largest))
        total = ops.sum(ops.power(ops.abs(w), self.p), axis=axes, keepdims=True)
        return w / ops.where(total > 0.0, ops.power(total, 1.0 / self.p), ops.ones_like(total))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"p": self.p}


@serializable
class Orthogonal(Constraint):
    """Orthogonal units of length 1: `W (W^T W)^(-1/2)`, the nearest such weights.

    It is symmetric: no unit comes before another. If there are more units than weights of each
    unit, the units cannot be orthogonal, and the rows of the kernel become orthogonal.

    Not local: each unit's weights depend on those of all others.

    >>> import numpy as np
    >>> w = np.asarray(Orthogonal()(np.array([[2.0, 1.0], [0.0, 1.0], [0.0, 0.5]])))
    >>> (w.T @ w).round(6).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    def __call__(self, w: Tensor, unit_axis: Axes = -1) -> Tensor:
        """Return the orthogonal factor of the polar decomposition."""
        w = ops.convert_to_tensor(w)
        rank, units = len(w.shape), (unit_axis,) if isinstance(unit_axis, int) else unit_axis
        one = {unit % rank for unit in units}
        # The positions of a locally connected kernel come first, and each has its own matrix.
        last = max(one)
        batch = sorted(one - {last})
        order = [*batch, *weight_axes(rank, unit_axis), last]
        moved = ops.transpose(w, order)
        shape = [moved.shape[i] for i in range(len(batch))]
        matrix = ops.reshape(moved, (*shape, -1, w.shape[last]))
        left, _, right = ops.linalg.svd(matrix, full_matrices=False)
        result = ops.reshape(ops.matmul(left, right), moved.shape)
        return ops.transpose(result, [order.index(axis) for axis in range(rank)])


@serializable
class MeanRate(Constraint):
    """Weights with the mean current `rate` for each unit, by the smallest change, then clipped.

        W_k <- W_k - (W_k . m - rate) m / |m|^2,     then    0 <= W <= maximum

    where `m` is the mean of the unit's inputs. Clipping is the last step, so that the mean is exact
    only if no weight is at its bound.

    Args:
        rate: The mean current.
        maximum: Largest weight allowed; None for no bound, above or below.

    Raises:
        ValueError: If `rate` is not a number, or `maximum` is not positive.

    >>> import numpy as np
    >>> w, mean = np.array([[1.0], [0.0]]), np.array([[1.0], [1.0]])
    >>> np.asarray(MeanRate(2.0)(w, mean=mean)).tolist()
    [[1.5], [0.5]]

    Source: the rate constraint of Yger & Harris 2013 in form; we chose the projection.
    """

    def __init__(self, rate: float, maximum: float | None = None) -> None:
        self.rate = check.real("rate", rate)
        if maximum is not None:
            maximum = check.real("maximum", maximum, minimum=0.0, exclusive=True)
        self.maximum = maximum

    def __call__(self, w: Tensor, unit_axis: Axes = -1, mean: Tensor | None = None) -> Tensor:
        """Return the weights whose mean current for the mean inputs `mean` is `rate`."""
        if mean is None:
            raise ValueError(
                "`mean` must be the mean of the inputs, of the weights' shape or one "
                "that broadcasts against it. Received: mean=None"
            )
        axes = weight_axes(len(w.shape), unit_axis)
        current = ops.sum(w * mean, axis=axes, keepdims=True)
        square = ops.sum(ops.square(mean) + 0.0 * w, axis=axes, keepdims=True)
        length = ops.where(square > 0.0, square, ops.ones_like(square))
        missing = ops.where(square > 0.0, current - self.rate, ops.zeros_like(current))
        w = w - missing * mean / length
        return w if self.maximum is None else ops.clip(w, 0.0, self.maximum)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"rate": self.rate, "maximum": self.maximum}
