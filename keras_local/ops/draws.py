"""Random numbers for the samples of a batch, the same on one device and on several."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal

import keras

from keras_local.ops.backend import Tensor
from keras_local.ops.surrogate import replica_count, replica_index


def random_rows(
    shape: Any,
    stddev: float = 1.0,
    law: Literal["normal", "uniform"] = "normal",
    dtype: Any = None,
    seed: keras.random.SeedGenerator | int | None = None,
) -> Tensor:
    """Return independent random numbers of mean 0, with one row for each sample of this replica.

    The seed generators of all replicas have the same state, so that equal draws would give samples
    of different replicas equal noise. Therefore each replica draws for the global batch, like one
    device, and uses the rows of its own samples. Replicas, workers and one device then learn the
    same. All replicas must have the same number of samples; otherwise rows of two replicas overlap,
    and only the distribution of the numbers is right.

    Args:
        shape: Shape of the numbers; the first axis counts the samples of this replica.
        stddev: Standard deviation.
        law: The distribution, `"normal"` or `"uniform"`.
        dtype: Dtype of the numbers; Keras' default by default.
        seed: A generator, an integer, or None, as for `keras.random.normal`.

    >>> from keras_local import ops
    >>> tuple(ops.random_rows((2, 3), stddev=0.1, seed=1).shape)
    (2, 3)
    """
    bound = 3.0**0.5 * stddev
    replicas = replica_count()
    if replicas > 1:
        tensorflow = import_module("keras_local.ops._tensorflow_distribute")
        own = tensorflow.own_rows(shape, law, dtype, seed)
        if own is not None:
            return own * stddev if law == "normal" else own * (2.0 * bound) - bound
    whole = (replicas * shape[0], *shape[1:])
    if law == "normal":
        draw = keras.random.normal(whole, stddev=stddev, dtype=dtype, seed=seed)
    else:
        draw = keras.random.uniform(whole, -bound, bound, dtype=dtype, seed=seed)
    if replicas == 1:
        return draw
    first = replica_index() * shape[0]
    return draw[first : first + shape[0]]
