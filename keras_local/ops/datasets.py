"""Checks of batches inside the graph of a `tf.data.Dataset`, whatever the active backend."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def asserted(
    dataset: Any,
    sample_shape: tuple[int | None, ...],
    limit: float,
    expected: Any,
    argument: str,
    parts: int,
) -> Any:
    """Return a dataset that stops with an error at a batch that does not fit.

    The message of the error holds `Refused: ` and what was refused.

    Args:
        dataset: A `tf.data.Dataset` of batches.
        sample_shape: Shape of one sample; None for a size that may be any.
        limit: Largest absolute value of an input.
        expected: What the targets are, a `keras_local._targets.Expected`; None where they do not
            matter.
        argument: Name of the dataset in messages.
        parts: Of how many parts (inputs, labels, weights) an element is.
    """
    # A dataset of TensorFlow may feed another backend; whoever has one has TensorFlow.
    tensorflow = import_module("keras_local.ops._tensorflow_data")
    return tensorflow.asserted(dataset, sample_shape, limit, expected, argument, parts)
