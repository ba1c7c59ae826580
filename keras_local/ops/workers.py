"""The strategy for several processes or machines, on backends that have one."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import keras

from keras_local import _validation as check
from keras_local.ops.abilities import STRATEGIES


def multi_worker(cluster_resolver: Any, communication_options: Any) -> Any:
    """Return a strategy for all workers of a cluster; see `keras_local.distribute`."""
    if not STRATEGIES:
        raise NotImplementedError(
            "`multi_worker` makes a strategy of TensorFlow, which other backends do not have. "
            f"Received: KERAS_BACKEND={keras.backend.backend()!r}. On JAX, "
            "`keras.distribution.initialize` and `keras.distribution.DataParallel` do the same."
        )
    tensorflow = import_module("keras_local.ops._tensorflow_distribute")
    asked = {
        "cluster_resolver": (cluster_resolver, tensorflow.RESOLVER, "ClusterResolver"),
        "communication_options": (
            communication_options,
            tensorflow.OPTIONS,
            "CommunicationOptions",
        ),
    }
    for argument, (value, kind, name) in asked.items():
        if value is not None:
            check.instance(argument, value, kind, f"a `{name}` of `tf.distribute`, or None")
    return tensorflow.MultiWorker(cluster_resolver, communication_options)
