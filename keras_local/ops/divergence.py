"""Functions that keep changes that are not finite from reaching the weights."""

from __future__ import annotations

from collections.abc import Sequence

from keras import ops

from keras_local.ops.backend import Tensor
from keras_local.ops.precision import precise
from keras_local.ops.surrogate import replica_sum

_LIMITS = {"float32": 1e19, "float64": 1e154}
"""About the largest numbers with finite squares."""


def are_bounded(changes: Sequence[Tensor]) -> Tensor:
    """Return whether all entries of all changes, on all replicas, are finite and can be squared.

    A weight that receives only such changes stays finite, and so do the squares of optimizers.
    """
    wrong = 0.0
    for change in changes:
        dtype = precise(change.dtype)
        total = ops.sum(ops.abs(_column_sums(ops.cast(change, dtype))))
        # A comparison with NaN is False.
        wrong = wrong + 1.0 - ops.cast(total < _LIMITS[dtype], "float32")
    return ops.equal(replica_sum(ops.convert_to_tensor(wrong)), 0.0)


def kept_if(
    healthy: Tensor, changes: Sequence[Tensor], otherwise: Sequence[Tensor | None] | None = None
) -> list[Tensor]:
    """Return the changes if `healthy` holds; otherwise zeros, or given values for some of them."""
    others = [None] * len(changes) if otherwise is None else otherwise
    pairs = list(zip(changes, others, strict=True))
    # `where` would read and write all of them.
    kept: list[Tensor] = ops.cond(
        healthy,
        lambda: list(changes),
        lambda: [ops.zeros_like(one) if other is None else other for one, other in pairs],
    )
    return kept


def _column_sums(change: Tensor) -> Tensor:
    # XLA adds up columns in parallel, but all entries one by one if it sees a single sum.
    return ops.sum(change, axis=0) if len(change.shape) > 1 else change
