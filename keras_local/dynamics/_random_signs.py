"""Random signs, with a position in their sequence that is saved with a network."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from keras_local import _validation as check
from keras_local.ops import read
from keras_local.ops.backend import Tensor

_COUNT = 1 << 14


class Signs:
    """A table of random signs, read one after the other.

    The number of signs that have been read is a weight of the network. It is saved with the other
    weights, and is equal on all replicas.

    Args:
        seed: Seed of the table.
    """

    def __init__(self, seed: int) -> None:
        self.seed = check.positive_integer("seed", seed, minimum=0)

    def next(self, counter: keras.Variable, dtype: str) -> Tensor:
        """Return the next sign, a scalar, and count it."""
        table = np.random.default_rng(self.seed).choice([-1.0, 1.0], _COUNT)
        count = read(counter)
        sign = ops.take(ops.cast(table, dtype), count)
        counter.assign(ops.mod(count + 1, _COUNT))
        return sign
