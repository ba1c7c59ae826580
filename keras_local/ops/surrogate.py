"""The surrogate gradient: a weight change given by a formula reaches the optimizer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras

from keras_local.ops.backend import Tensor, backend
from keras_local.ops.precision import precise


def surrogate_loss(variable: keras.Variable | Tensor, change: Tensor) -> Tensor:
    """Return a loss of value 0 whose gradient at `variable` is `-change`.

    If it is added to a model's losses, any Keras optimizer, schedule, loss scale and all-reduce
    makes the step `variable <- variable + rate * change`. Gradients of replicas are summed, like
    those of every other loss, so pass only this replica's share of the change.

    Args:
        variable: The weight to be changed, or the tensor that was read from it. If that tensor
            consists of gathered rows, the gradient on TensorFlow is sparse, and an optimizer
            without momentum writes only these rows.
        change: Tensor of the same shape; an ascent direction.

    Returns:
        A scalar 0.

    >>> import keras
    >>> from keras_local import ops
    >>> weight = keras.Variable([1.0, 2.0])
    >>> float(ops.surrogate_loss(weight, keras.ops.ones(2)))
    0.0
    """
    value = variable.value if isinstance(variable, keras.Variable) else variable
    # Keras divides every loss by the number of replicas; a change is a sum over them.
    return _gradient_loss(value, change, lambda upstream: -upstream * replica_count())


def gradient_loss(tensor: Tensor, gradient: Tensor) -> Tensor:
    """Return a loss of value 0 whose gradient at `tensor` is `gradient`.

    If it is added to a model's losses, it acts like any other loss that is a mean over the
    examples: each replica passes its own mean, and the optimizer sees the mean of these.

    Args:
        tensor: The tensor that was read from the weight to be changed.
        gradient: Tensor of the same shape; a descent direction.

    Returns:
        A scalar 0.
    """
    return _gradient_loss(tensor, gradient, lambda upstream: upstream)


def _gradient_loss(value: Tensor, gradient: Tensor, factor: Callable[[Tensor], Tensor]) -> Tensor:
    # Keras adds up losses without casts, and half precision cannot be added to single precision.
    dtype = precise(value.dtype)

    def forward(value: Tensor, gradient: Tensor) -> Tensor:
        return keras.ops.zeros((), dtype=dtype)

    def backward(
        upstream: Tensor, outputs: Tensor, value: Tensor, gradient: Tensor
    ) -> tuple[Tensor | None, ...]:
        # Multiply the scalars first, so that there is only one product with the weights' shape.
        scaled = keras.ops.cast(gradient, dtype) * factor(upstream)
        return keras.ops.cast(scaled, value.dtype), None

    return backend.with_gradient(forward, backward, value, gradient, independent=0)


def read(variable: keras.Variable) -> Tensor:
    """Return the tensor of a variable, which is read once.

    In a training step a weight must be read before the optimizer writes it. If all users share one
    reading, a dependency of one of them is enough.
    """
    return backend.read(variable)


def replica_sum(tensor: Tensor) -> Tensor:
    """Return the sum of `tensor` over the replicas of `tf.distribute`, inside a replica.

    Elsewhere it is the tensor itself: on JAX a data-parallel step sees the global batch.
    """
    return backend.replica_sums([tensor])[0]


def replica_sums(*tensors: Tensor) -> list[Tensor]:
    """Return the sum of each tensor over the replicas, as `replica_sum`, in one exchange.

    Where replicas are processes, each exchange makes them wait for each other.

    Args:
        *tensors: Tensors of one dtype.
    """
    sums: list[Tensor] = backend.replica_sums(list(tensors))
    return sums


def replica_mean(tensor: Tensor) -> Tensor:
    """Return the mean of a tensor over its first axis, over the samples of all replicas.

    >>> import numpy as np
    >>> from keras_local import ops
    >>> [float(x) for x in ops.replica_mean(np.array([[1.0, 2.0], [3.0, 6.0]]))]
    [2.0, 4.0]
    """
    if replica_count() == 1:
        return keras.ops.mean(tensor, axis=0)
    samples = keras.ops.cast(keras.ops.shape(tensor)[0], precise(tensor.dtype))
    # In half precision the sum over a large batch may overflow.
    own = keras.ops.sum(keras.ops.cast(tensor, samples.dtype), axis=0)
    total, count = replica_sums(own, samples)
    return keras.ops.cast(total / count, tensor.dtype)


def replica_rows(tensor: Tensor) -> Tensor:
    """Return the rows of all replicas, those of the first replica first.

    Replicas have to hold equally many.
    """
    replicas = replica_count()
    if replicas == 1:
        return tensor
    rank = len(tensor.shape)
    own = keras.ops.equal(keras.ops.arange(replicas), keras.ops.cast(replica_index(), "int32"))
    own = keras.ops.reshape(own, (replicas,) + (1,) * rank)
    # A sum of what one replica has and zeros of the others.
    rows = replica_sum(keras.ops.where(own, tensor[None], keras.ops.zeros_like(tensor)[None]))
    return keras.ops.reshape(rows, (-1, *tensor.shape[1:]))


def replica_count() -> int:
    """Return how many replicas hold a share of the batch."""
    count: int = backend.replica_count()
    return count


def scope_of(model: Any) -> AbstractContextManager[Any]:
    """Return the scope of the strategy that created a model; without a strategy it does nothing."""
    strategy = getattr(model, "distribute_strategy", None)
    return nullcontext() if strategy is None else strategy.scope()


def in_strategy() -> bool:
    """Return whether `tf.distribute` spreads weights that are created here over replicas."""
    spread: bool = backend.in_strategy()
    return spread


def replica_index() -> Tensor | int:
    """Return the number of this replica, from 0: replicas hold a batch in this order."""
    index: Tensor | int = backend.replica_index()
    return index
