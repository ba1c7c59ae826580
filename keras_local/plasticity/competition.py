"""Who learns from a sample: how units compete by their scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from keras import ops

from keras_local import _validation as check
from keras_local._serialization import Strategy, serializable
from keras_local.ops.backend import Tensor


class Competition(Strategy, ABC):
    """Interface: turn the scores of the units into their shares of a sample."""

    @abstractmethod
    def __call__(self, scores: Tensor) -> Tensor:
        """Return the share of each unit, along the last axis; none is negative."""

    def check_units(self, units: int) -> None:
        """Raise a ValueError if so few units cannot compete."""
        check.positive_integer("units", units)


@serializable
class Winner(Competition):
    """1 for the unit of the largest score, 0 for the others; the lowest index among equals."""

    def __call__(self, scores: Tensor) -> Tensor:
        """Return the winner as a one-hot row."""
        return ops.one_hot(ops.argmax(scores, axis=-1), scores.shape[-1], dtype=scores.dtype)


@serializable
class KWinners(Competition):
    """1 for the k units of the largest scores, 0 for the others; ties at the border all win.

    Args:
        k: Number of winners.

    Raises:
        ValueError: If `k` is not a positive integer, or there are fewer units.
    """

    def __init__(self, k: int = 5) -> None:
        self.k = check.positive_integer("k", k)

    def __call__(self, scores: Tensor) -> Tensor:
        """Return 1 where the score is among the k largest."""
        least = ops.top_k(scores, self.k)[0][..., -1:]
        return ops.cast(scores >= least, scores.dtype)

    def check_units(self, units: int) -> None:
        """Refuse fewer units than winners."""
        check.require(self.k <= units, "k", f"at most units={units}", self.k)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"k": self.k}


@serializable
class Softmax(Competition):
    """`exp(beta s_k) / sum_l exp(beta s_l)`: for a large beta the winner takes all.

    Args:
        beta: Inverse temperature, positive.

    Raises:
        ValueError: If `beta` is not positive.
    """

    def __init__(self, beta: float = 1.0) -> None:
        self.beta = check.real("beta", beta, minimum=0.0, exclusive=True)

    def __call__(self, scores: Tensor) -> Tensor:
        """Return the softmax of the scores."""
        return ops.softmax(self.beta * scores, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"beta": self.beta}


@serializable
class PowerShare(Competition):
    """`max(s_k, 0)^power / sum_l max(s_l, 0)^power`; no unit learns if no score is positive.

    Args:
        power: Exponent, positive.

    Raises:
        ValueError: If `power` is not positive.
    """

    def __init__(self, power: float = 20.0) -> None:
        self.power = check.real("power", power, minimum=0.0, exclusive=True)

    def __call__(self, scores: Tensor) -> Tensor:
        """Return the powers over their sum."""
        scores = ops.relu(scores)
        largest = ops.max(scores, axis=-1, keepdims=True)
        # By the largest first: steep powers leave the range of numbers.
        shares = ops.power(scores / ops.where(largest > 0.0, largest, 1.0), self.power)
        total = ops.sum(shares, axis=-1, keepdims=True)
        return shares / ops.where(total > 0.0, total, 1.0)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"power": self.power}
