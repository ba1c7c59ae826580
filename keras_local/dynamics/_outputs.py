"""Output units for each kind of targets, each with the cost that gives a simple error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from keras import ops

from keras_local.ops.backend import Tensor

_TINY = 1e-7


@dataclass(frozen=True)
class Output:
    """Output units and a cost whose derivative with respect to the fields is `rates - targets`.

    Attributes:
        rate: Function from fields to scores.
        cost: Function from targets and scores to the cost of each sample, `(batch,)`.
    """

    rate: Callable[[Tensor], Tensor]
    cost: Callable[[Tensor, Tensor], Tensor]


def cross_entropy(targets: Tensor, scores: Tensor) -> Tensor:
    """Return the cross-entropy of each sample, `(batch,)`."""
    return -ops.sum(targets * ops.log(ops.maximum(scores, _TINY)), axis=-1)


def logistic(targets: Tensor, scores: Tensor) -> Tensor:
    """Return the sum over labels of the binary cross-entropy of each sample, `(batch,)`."""
    hits = targets * ops.log(ops.maximum(scores, _TINY))
    misses = (1.0 - targets) * ops.log(ops.maximum(1.0 - scores, _TINY))
    return -ops.sum(hits + misses, axis=-1)


def squared(targets: Tensor, scores: Tensor) -> Tensor:
    """Return half the squared distance of each sample, `(batch,)`."""
    return 0.5 * ops.sum(ops.square(scores - targets), axis=-1)


OUTPUTS: Mapping[str, Output] = {
    "classes": Output(ops.softmax, cross_entropy),
    "labels": Output(ops.sigmoid, logistic),
    "values": Output(lambda field: field, squared),
}
