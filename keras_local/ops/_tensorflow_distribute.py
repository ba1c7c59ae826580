"""TensorFlow: a strategy for several workers in which Keras' `fit` runs; draws of replicas."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

RESOLVER: type = tf.distribute.cluster_resolver.ClusterResolver
# The public name makes objects of another class.
OPTIONS: type = type(tf.distribute.experimental.CommunicationOptions())


class MultiWorker(tf.distribute.MultiWorkerMirroredStrategy):
    """`tf.distribute.MultiWorkerMirroredStrategy` with the reductions that Keras needs.

    Keras 3.15 reduces two objects that this strategy refuses, but all other strategies accept: a
    whole batch, of which Keras needs only the shapes, and scalar logs along axis 0. Everything else
    is passed on to TensorFlow, also from later versions of Keras without this error.
    """

    def reduce(self, reduce_op: Any, value: Any, axis: int | None) -> Any:
        """Reduce a value over all replicas; see `tf.distribute.Strategy.reduce`."""
        if isinstance(value, (tuple, list, dict)):
            return tf.nest.map_structure(self._first, value)
        if axis == 0 and self._first(value).shape.rank == 0:
            axis = None
        return super().reduce(reduce_op, value, axis)

    def _first(self, value: Any) -> Any:
        return self.experimental_local_results(value)[0]


def own_rows(shape: Any, law: str, dtype: Any, seed: Any) -> tf.Tensor | None:
    """Return this replica's rows of Keras' standard draw for all replicas, and draw no others.

    Philox, the generator of TensorFlow on CPU and GPU, makes four numbers of single precision of
    each value of a counter, so that a replica can begin to count at its first row.

    Returns:
        Numbers of the standard normal distribution, or uniform ones from 0 to 1; None where a row
        does not begin with a value of the counter, or the generator is not known.
    """
    columns = shape[1:]
    if not all(isinstance(size, int) for size in columns) or math.prod(columns) % 4:
        return None
    single = dtype is not None and tf.as_dtype(dtype) == tf.float32
    on_tpu = isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy)
    if not single or on_tpu or not isinstance(seed, keras.random.SeedGenerator):
        return None
    # As Keras hands the state of a generator to TensorFlow.
    state = tf.convert_to_tensor(seed.next())
    if state.dtype != tf.int32:
        state = tf.cast(tf.math.floormod(tf.cast(state, "int64"), tf.int32.max - 1), "int32")
    key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=state)
    context = tf.distribute.get_replica_context()
    first = tf.cast(context.replica_id_in_sync_group, "int64") * tf.cast(shape[0], "int64")
    values = tf.cast(first * (math.prod(columns) // 4), "uint64")
    draw = (
        tf.raw_ops.StatelessRandomNormalV2
        if law == "normal"
        else tf.raw_ops.StatelessRandomUniformV2
    )
    return draw(
        shape=tf.stack([shape[0], *columns]),
        key=key,
        counter=tf.stack([counter[0] + values, counter[1]]),
        alg=tf.raw_ops.StatelessRandomGetAlg(),
    )
