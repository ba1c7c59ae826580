"""Optimizers that Keras does not have."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_local._serialization import serializable


@serializable
class BatchManhattan(keras.optimizers.SGD):
    """SGD on the sign of the batch's gradient.

    `g <- sign(g)`, then the step of SGD with its momentum, weight decay and schedule. Every weight
    with a gradient moves by the learning rate, as if synapses had one size of step.

    `sign` is taken of the gradient of the whole batch: after the replicas' gradients are added up
    and accumulated. Loss scales do not matter. Kernel and feedback kernel of
    `KolenPollack(separate=True)`, whose gradients are equal, keep their difference. A factor on
    the gradient, as `KolenPollack(rate=0.5)` or the rates of an alignment rule, is lost.

    Args:
        *arguments: As in `keras.optimizers.SGD`: `learning_rate`, `momentum`, `nesterov`,
            `weight_decay`, ...
        **keywords: The same.

    >>> import keras, keras_local as kl
    >>> weight = keras.Variable([1.0, 1.0, 1.0])
    >>> optimizer = kl.optimizers.BatchManhattan(0.5)
    >>> optimizer.apply([keras.ops.convert_to_tensor([3.0, -0.001, 0.0])], [weight])
    >>> keras.ops.convert_to_numpy(weight).tolist()
    [0.5, 1.5, 1.0]

    Source: Liao, Leibo & Poggio 2016, "How important is weight symmetry in backpropagation?".
    """

    ignores_gradient_scale = True
    """What networks ask for, whose layers may learn at rates that differ."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Take the step of SGD along the gradient's sign."""
        super().update_step(ops.sign(gradient), variable, learning_rate)
