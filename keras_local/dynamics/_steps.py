"""Parts of one step of training that are the same in every network."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_local._data_gate import Gate
from keras_local._labels import as_numpy
from keras_local._streams import first_batches, is_dataset, is_stream
from keras_local.ops import replica_sum
from keras_local.ops.backend import Tensor
from keras_local.ops.settling import States


def alarm(changes: Sequence[tuple[Any, Tensor]]) -> Tensor:
    """Return 0, or NaN if any change on any replica is not finite."""
    sums = [_any_sum(change) for _, change in changes]
    wrong = 1.0 - ops.cast(ops.isfinite(ops.sum(ops.stack(sums))), "float32")
    return ops.where(ops.equal(replica_sum(wrong), 0.0), 0.0, float("nan"))


def _any_sum(change: Tensor) -> Tensor:
    """Return a number that is finite exactly if all entries are, apart from overflows."""
    if len(change.shape) > 1:
        # XLA adds up columns in parallel, but all entries one by one if it sees a single sum.
        change = ops.abs(ops.sum(change, axis=0))
    return ops.sum(change)


class Handover:
    """A store that passes the free phase from `call` to `compute_loss` of the same step.

    Both run in one trace and one thread (each replica has its own thread). The outputs show whether
    the states belong to them, so that the free phase need not run twice.
    """

    def __init__(self) -> None:
        self.kept: dict[int, tuple[Any, Tensor, States]] = {}

    def put(self, outputs: Any, scores: Tensor, states: States) -> None:
        self.kept[threading.get_ident()] = (outputs, scores, states)

    def take(self, outputs: Any) -> tuple[Tensor | None, States | None]:
        kept = self.kept.pop(threading.get_ident(), None)
        return kept[1:] if kept is not None and kept[0] is outputs else (None, None)

    def __deepcopy__(self, memo: dict[int, Any]) -> Handover:
        return Handover()


def first_samples(gate: Gate, x: Any, y: Any, count: int) -> tuple[Any, Any, Any]:
    """Return some samples and their targets, None if there are none, and the whole source.

    Of arrays they are spread over all of it; of a stream they are the first ones.

    Args:
        gate: Which samples the network takes.
        x: An array or a stream.
        y: The targets of an array.
        count: How many samples there shall be at most.
    """
    if not is_stream(x):
        step = max(1, len(x) // count)
        return x[::step][:count], None if y is None else as_numpy(y)[::step][:count], x
    if is_dataset(x) and not hasattr(x, "map"):
        return None, None, x  # Distributed by a strategy.
    batches, x = first_batches(x, 1)
    if not batches:
        return None, None, x
    inputs, *others = batches[0]
    samples = as_numpy(gate.inputs("x", inputs, " in every batch of `x`"))[:count]
    return samples, as_numpy(others[0])[:count] if others else None, x
