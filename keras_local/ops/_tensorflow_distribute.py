"""TensorFlow: a strategy for several processes or machines in which Keras' `fit` runs."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

RESOLVER: type = tf.distribute.cluster_resolver.ClusterResolver
# The public name makes objects of another class.
OPTIONS: type = type(tf.distribute.experimental.CommunicationOptions())


class MultiWorker(tf.distribute.MultiWorkerMirroredStrategy):
    """`tf.distribute.MultiWorkerMirroredStrategy` that answers what Keras asks of a strategy.

    Keras 3.15 reduces two things that this strategy of TensorFlow refuses and all others take: a
    whole batch, of which it wants the shapes only, and scalar logs along axis 0. Everything else
    goes to TensorFlow as it is; so does all that a mended Keras asks.
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
