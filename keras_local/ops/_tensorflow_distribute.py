"""TensorFlow: a strategy for several processes or machines in which Keras' `fit` runs."""

from __future__ import annotations

from typing import Any

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
