"""How units compete by their scores, and which of them learn from a sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from keras import ops

from keras_local import _validation as check
from keras_local._serialization import Strategy, serializable
from keras_local.ops.backend import Tensor, backend


class Competition(Strategy, ABC):
    """Interface of competitions, which turn the scores of the units into shares of a sample."""

    @abstractmethod
    def __call__(self, scores: Tensor) -> Tensor:
        """Return the share of each unit, along the last axis; no share is negative."""

    def check_units(self, units: int) -> None:
        """Raise a ValueError if there are too few units."""
        check.positive_integer("units", units)


@serializable
class Winner(Competition):
    """The unit with the largest score has the share 1, all others 0; of equals, the first wins."""

    def __call__(self, scores: Tensor) -> Tensor:
        """Return the winner as a one-hot row."""
        return ops.one_hot(ops.argmax(scores, axis=-1), scores.shape[-1], dtype=scores.dtype)


@serializable
class KWinners(Competition):
    """The k units with the largest scores have the share 1, the others 0; ties all win.

    Args:
        k: Number of winners.

    Raises:
        ValueError: If `k` is not a positive integer, or there are fewer units.
    """

    def __init__(self, k: int = 5) -> None:
        self.k = check.positive_integer("k", k)

    def __call__(self, scores: Tensor) -> Tensor:
        """Return 1 where the score is among the k largest."""
        least = backend.top_k(scores, self.k)[0][..., -1:]
        return ops.cast(scores >= least, scores.dtype)

    def check_units(self, units: int) -> None:
        """Raise a ValueError if there are fewer units than winners."""
        check.require(self.k <= units, "k", f"at most units={units}", self.k)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"k": self.k}


@serializable
class Softmax(Competition):
    """The shares are the softmax `exp(beta s_k) / sum_l exp(beta s_l)` of the scores.

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
    """The shares are powers, `max(s_k, 0)^power / sum_l max(s_l, 0)^power`.

    Args:
        power: Exponent, positive.

    Raises:
        ValueError: If `power` is not positive.
    """

    def __init__(self, power: float = 20.0) -> None:
        self.power = check.real("power", power, minimum=0.0, exclusive=True)

    def __call__(self, scores: Tensor) -> Tensor:
        """Return the powers divided by their sum."""
        scores = ops.relu(scores)
        largest = ops.max(scores, axis=-1, keepdims=True)
        # Divide by the largest first, so that large powers stay in the range of numbers.
        shares = ops.power(scores / ops.where(largest > 0.0, largest, 1.0), self.power)
        total = ops.sum(shares, axis=-1, keepdims=True)
        return shares / ops.where(total > 0.0, total, 1.0)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"power": self.power}
