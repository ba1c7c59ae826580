"""The direct gradient, by which an error or a target goes from the outputs to hidden layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keras import ops

from keras_local.ops.backend import Tensor, backend


def direct(
    signal: Callable[[Tensor, Tensor], Tensor],
    logits: Tensor,
    hidden: Sequence[Tensor],
    feedback: Sequence[Tensor],
    checked: Callable[[Tensor, Tensor], Tensor] = lambda error, share: error,
) -> tuple[Tensor, Tensor]:
    """Return `logits`, and send the error at them directly to the hidden tensors.

    Forward: the logits. Backward, for the error `e` at the logits: `e` itself goes to the logits
    and `signal(e, share) D` to each hidden tensor, one product with a matrix for each of them.
    Logits `(batch, time, classes)` have an error for each token. It goes to the same token of a
    hidden tensor `(batch, time, ...)`; a hidden tensor `(batch, ...)` gets the sum over time.
    No matrix has a time axis, so any length will do.

    Args:
        signal: Function of the error `(batch, classes)` and the share of one example that returns
            the signal sent through the feedback weights.
        logits: Tensor `(batch, classes)`, or `(batch, time, classes)`.
        hidden: Tensors `(batch, ...)`. All paths from them to the logits have to be cut, otherwise
            the chain rule adds its error.
        feedback: Tensors `(classes, ...)`, one for each hidden tensor and with its shape, without
            the time axis if the logits have one. Pass `variable.value`, never a variable.
        checked: Function of the same error and share that returns the error, and stops the step if
            `signal` cannot read it.

    Returns:
        The logits, and a loss of value zero. The derivative that arrives at this loss is the factor
        by which a trainer scales all losses (loss scale, number of replicas); divided by the number
        of examples, or of tokens that have an error at all, it is `share`. A signal that reads
        `share` needs this loss among the losses of the model (`add_loss`), otherwise its share is
        zero.

    >>> import numpy as np
    >>> from keras_local import ops
    >>> logits, hidden, weights = np.ones((2, 3)), np.ones((2, 4)), np.ones((3, 4))
    >>> ops.direct(lambda error, share: error, logits, [hidden], [weights])[0].shape == (2, 3)
    True
    """
    count = len(hidden)

    def forward(logits: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        # The loss is at least float32, because a loss scale may exceed the range of float16.
        return ops.copy(logits), ops.zeros((), "float32")

    def backward(
        upstream: tuple[Tensor, Tensor], outputs: Tensor, logits: Tensor, *others: Tensor
    ) -> tuple[Tensor | None, ...]:
        error, scale = upstream
        share = scale / examples(error, scale.dtype)
        error = checked(error, share)
        sent = signal(error, share)
        errors = [
            _send(sent, weights, activity)
            for activity, weights in zip(others[:count], others[count:], strict=True)
        ]
        return error, *errors, *(None for _ in errors)

    tensors = (logits, *hidden, *feedback)
    outputs, loss = backend.with_gradient(forward, backward, *tensors, independent=len(tensors))
    return outputs, loss


def examples(error: Tensor, dtype: str) -> Tensor:
    """Return by how many examples the errors are a mean: tokens that are masked have none."""
    if len(error.shape) == 2:
        return ops.cast(ops.shape(error)[0], dtype)
    wrong = ops.any(ops.not_equal(error, 0.0), axis=-1)
    return ops.maximum(ops.sum(ops.cast(wrong, dtype)), 1.0)


def _send(sent: Tensor, weights: Tensor, activity: Tensor) -> Tensor:
    units = len(weights.shape) - 1
    if len(sent.shape) > len(activity.shape) - units + 1:
        sent = ops.sum(sent, axis=tuple(range(1, len(sent.shape) - 1)))
    matrix = ops.cast(ops.reshape(weights, (weights.shape[0], -1)), activity.dtype)
    arrived = ops.matmul(ops.cast(sent, activity.dtype), matrix)
    if len(sent.shape) == 2:
        return ops.reshape(arrived, (-1, *activity.shape[1:]))
    return ops.reshape(arrived, ops.shape(activity))
