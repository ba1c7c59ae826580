"""Training on several processes or machines."""

from __future__ import annotations

from typing import Any

from keras_local import ops


def multi_worker(cluster_resolver: Any = None, communication_options: Any = None) -> Any:
    """Return a strategy to train models of Keras and of this package on several workers.

    A worker is a process with its own devices, on this machine or another. Each worker has a part
    of every batch. After a step all workers have the weights that one device would have after a
    step with the whole batch:

        g = 1/N sum of the gradients of N replicas,    W <- W - rate g.

    It is `tf.distribute.MultiWorkerMirroredStrategy` with one corrected method, because `fit` of
    Keras 3.15 fails with the original, also with Keras' own layers. Models need no change: `fit`,
    `evaluate`, `predict`, `models.pretrain`, readouts, all networks, `.keras` files and callbacks
    work as always.

    Every worker runs the same program. Create the strategy before TensorFlow computes anything
    else, build and compile in its scope, and give callbacks that write files another directory on
    each worker. The guide "From one process to a pod" has the rules for data.

    Args:
        cluster_resolver: A `tf.distribute.cluster_resolver.ClusterResolver` that says which workers
            there are; None to read the environment variable `TF_CONFIG`. Without either, this
            process is the only worker.
        communication_options: A `tf.distribute.experimental.CommunicationOptions`, or None.

    Returns:
        A `tf.distribute.Strategy`.

    Raises:
        ValueError: If an argument is invalid.
        NotImplementedError: On another backend than TensorFlow.
        RuntimeError: Raised by TensorFlow, if it has computed something before.

    This is the program for two workers. It is started twice, once with each index:

        import os
        os.environ["TF_CONFIG"] = (
            '{"cluster": {"worker": ["localhost:2222", "localhost:2223"]},'
            ' "task": {"type": "worker", "index": 0}}'
        )
        import keras, keras_local as kl
        strategy = kl.distribute.multi_worker()
        with strategy.scope():
            model = keras.Sequential([keras.Input((64,)), kl.layers.FeedbackDense(10)])
            model.compile("sgd", kl.losses.LocalHinge())
        model.fit(batches)

    Source: TensorFlow, `tf.distribute.MultiWorkerMirroredStrategy`.
    """
    return ops.multi_worker(cluster_resolver, communication_options)
