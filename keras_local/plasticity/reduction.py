"""How a change is reduced over the samples of a batch, on all replicas."""

from __future__ import annotations

from abc import ABC, abstractmethod

from keras import ops

from keras_local._serialization import Strategy, serializable
from keras_local.ops import replica_sum, replica_sums
from keras_local.ops.backend import Tensor


class Reduction(Strategy, ABC):
    """Interface of reductions, which turn sums over a replica's samples into one change."""

    @abstractmethod
    def __call__(self, change: Tensor, samples: Tensor) -> Tensor:
        """Reduce `change`, the sum over `samples` samples of this replica.

        `samples` is one number, or one for each unit that broadcasts against the change.
        """


@serializable
class Sum(Reduction):
    """The sum over the batch: `sum_b dK_b`."""

    def __call__(self, change: Tensor, samples: Tensor) -> Tensor:
        """Return the sum over the samples of all replicas."""
        return replica_sum(change)


@serializable
class Mean(Reduction):
    """The mean over the batch: `(1/B) sum_b dK_b`."""

    def __call__(self, change: Tensor, samples: Tensor) -> Tensor:
        """Return the mean over the samples of all replicas; 0 for a unit without samples."""
        change, total = replica_sums(change, ops.cast(samples, change.dtype))
        return change / ops.where(total > 0.0, total, ops.ones_like(total))
