"""Counters that are saved with a network and are equal on all replicas."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_local.ops import read, replica_count, replica_index
from keras_local.ops.backend import Tensor


def counter(name: str) -> dict[str, Any]:
    """Return the arguments of `add_weight` for a counter."""
    return {
        "name": name,
        "shape": (),
        "dtype": "int32",
        "initializer": "zeros",
        "trainable": False,
        "aggregation": "only_first_replica",
    }


def places(count: keras.Variable, samples: Any, period: int) -> Tensor:
    """Return the positions of the next `samples` on a circle of `period` positions."""
    # The parts of the batch are ordered by the numbers of the replicas.
    first = read(count) + ops.cast(replica_index(), "int32") * samples
    return ops.mod(first + ops.arange(samples, dtype="int32"), period)


def all_places(count: keras.Variable, samples: Any, period: int) -> Tensor:
    """Return the places of the next `samples` of each replica, in the order of the replicas."""
    return ops.mod(read(count) + ops.arange(samples * replica_count(), dtype="int32"), period)


def advance(count: keras.Variable, samples: Any, period: int) -> None:
    """Advance a counter by the samples of all replicas."""
    count.assign(ops.mod(read(count) + samples * replica_count(), period))
