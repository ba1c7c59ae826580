"""States of samples, kept from one epoch to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_local._serialization import serializable
from keras_local.ops import read, replica_count, replica_index
from keras_local.ops.backend import Tensor


@serializable
class Memory(keras.layers.Layer):
    """The states in which each sample of a data set was left, known by its place in the order.

    Args:
        samples: Size of the data set.
        units: Units of each layer of states.
        dtype: Of the states.
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
                # Each replica remembers the samples that it sees.
                synchronization="on_read",
                aggregation="only_first_replica",
            )
            for index, count in enumerate(units)
        ]
        self.place = self.add_weight(
            name="place",
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
        )
        self.built = True

    def recall(self, count: Any) -> tuple[Tensor, ...]:
        """Return the states of the next `count` samples."""
        places = self._places(count)
        return tuple(ops.take(read(layer), places, axis=0) for layer in self.layers)

    def remember(self, states: Sequence[Tensor]) -> None:
        """Keep the states of these samples, and go on to the next."""
        count = ops.shape(states[0])[0]
        places = self._places(count)
        for layer, new in zip(self.layers, states, strict=True):
            # A sample that diverges begins anew.
            kept = ops.where(ops.isfinite(new), new, ops.zeros_like(new))
            layer.assign(ops.scatter_update(read(layer), places[:, None], kept))
        self.place.assign(ops.mod(read(self.place) + count * replica_count(), self.samples))

    def _places(self, count: Any) -> Tensor:
        # Replicas hold the batch in the order of their numbers.
        first = read(self.place) + ops.cast(replica_index() * count, "int32")
        return ops.mod(first + ops.arange(count, dtype="int32"), self.samples)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "samples": self.samples, "units": list(self.units)}
