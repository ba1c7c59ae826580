"""Training on several processes or machines."""

from __future__ import annotations

from typing import Any

from keras_local import ops


def multi_worker(cluster_resolver: Any = None, communication_options: Any = None) -> Any:
    """Make a strategy under which all models, of Keras and of this package, train on many workers.

    A worker is a process with its own devices, on this machine or another. Each holds a share of
    every batch, and after a step all hold the weights that one device would have after a step with
    the whole batch:

        g = 1/N sum of the gradients of N replicas,    W <- W - rate g.

    It is `tf.distribute.MultiWorkerMirroredStrategy`, in which `fit` of Keras 3.15 fails with its
    own layers too, with one public method mended. Nothing is done to models: `fit`, `evaluate`,
    `predict`, `models.pretrain`, readouts and all networks run as they are, and so do `.keras`
    files and callbacks.

    Every worker runs the same program. Make the strategy before anything else that TensorFlow
    computes, build and compile in its scope, and let a callback that writes have a directory for
    each worker. The guide "From one process to a pod" has the rules for data.

    Args:
        cluster_resolver: A `tf.distribute.cluster_resolver.ClusterResolver` that says which workers
            there are; None to read the environment variable `TF_CONFIG`. Without either, this
            process is the only worker.
        communication_options: A `tf.distribute.experimental.CommunicationOptions`, or None.

    Returns:
        A `tf.distribute.Strategy`.

    Raises:
        ValueError: If an argument is not as said.
        NotImplementedError: On another backend than TensorFlow.
        RuntimeError: By TensorFlow, if it has computed something before.

    A worker of two, which is started twice, once with each number:

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
