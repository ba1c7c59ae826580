"""States of samples that are kept from one epoch to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_local._serialization import serializable
from keras_local.dynamics._counters import advance, all_places, counter, places
from keras_local.ops import read, replica_rows
from keras_local.ops.backend import Tensor


@serializable
class Memory(keras.layers.Layer):
    """The last states of each sample of a data set, found by its position in the order.

    Args:
        samples: Size of the data set.
        units: Units of each layer of states.
        dtype: Dtype of the states.
    """

    def __init__(self, samples: int, units: Sequence[int], dtype: str, **kwargs: Any) -> None:
        super().__init__(dtype=dtype, **{"name": "memory", **kwargs})
        self.samples = samples
        self.units = tuple(units)
        self.layers = [
            keras.Variable(
                "zeros",
                (samples, count),
                name=f"states_{index + 1}",
                trainable=False,
                dtype=dtype,
                autocast=False,
                # All replicas assign the states of all samples, each to its own copy.
                synchronization="on_read",
                aggregation="only_first_replica",
            )
            for index, count in enumerate(units)
        ]
        self.place = self.add_weight(**counter("place"))
        self.built = True

    def begin(self) -> None:
        """Return to the first sample."""
        self.place.assign(0)

    def recall(self, count: Any) -> tuple[Tensor, ...]:
        """Return the states of the next `count` samples."""
        rows = places(self.place, count, self.samples)
        return tuple(ops.take(read(layer), rows, axis=0) for layer in self.layers)

    def remember(self, states: Sequence[Tensor], healthy: Tensor) -> None:
        """Keep the states of these samples, unless they diverged, and go on to the next.

        All replicas keep those of all samples: what is saved is what one device has.
        """
        count = ops.shape(states[0])[0]
        rows = all_places(self.place, count, self.samples)
        for layer, state in zip(self.layers, states, strict=True):
            old, new = read(layer), replica_rows(state)
            kept = ops.where(healthy, new, ops.take(old, rows, axis=0))
            layer.assign(ops.scatter_update(old, rows[:, None], kept))
        advance(self.place, count, self.samples)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "samples": self.samples, "units": list(self.units)}
