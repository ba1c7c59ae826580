"""Masks, which say from which samples a layer learns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_local import _validation as check
from keras_local.ops import LinearMap, replica_sum
from keras_local.ops.backend import Tensor


def spread(mask: Any, inputs: Tensor) -> Tensor:
    """Return a mask in the shape of the inputs, with a last axis of 1.

    A mask of fewer axes, such as `(batch, time)`, applies to all further axes.
    """
    mask = ops.cast(mask, "bool")
    missing = len(inputs.shape) - 1 - len(mask.shape)
    allowed = "of fewer axes than the inputs"
    check.require(missing >= 0, "mask", allowed, f"shape {tuple(mask.shape)}")
    for _ in range(missing + 1):
        mask = ops.expand_dims(mask, -1)
    # Of the shape of the inputs, which is not known while a graph is made.
    return ops.logical_and(mask, ops.ones_like(inputs[..., :1], dtype="bool"))


def without(inputs: Tensor, present: Tensor) -> Tensor:
    """Return the inputs with 0 for all that the mask leaves out."""
    return ops.where(present, inputs, ops.zeros_like(inputs))


def complete(linear_map: LinearMap, present: Tensor, ones: Tensor) -> Tensor:
    """Return for which outputs of a map all inputs are present.

    Args:
        linear_map: The map.
        present: The mask of the inputs, `(..., 1)`.
        ones: A kernel of ones, from one input channel to one unit.
    """
    there = ops.cast(present, ones.dtype)
    return linear_map.apply(there, ones) > linear_map.apply(ops.ones_like(there), ones) - 0.5


def where_learned(
    linear_map: LinearMap,
    post: Tensor,
    changes: Sequence[Tensor],
    otherwise: Sequence[Tensor | None],
) -> list[Tensor]:
    """Return the changes, or zeros if no replica had a sample to learn from.

    Args:
        linear_map: The map of the samples that count.
        post: The currents of the samples.
        changes: The changes that would be written.
        otherwise: The values that replace each change; None means zeros.
    """
    seen = replica_sum(linear_map.samples(post)) > 0
    # One number, or one for each position that has units of its own: `(*positions, 1, 1)`.
    positions = tuple(seen.shape)[:-2]
    found = []
    for change, value in zip(changes, otherwise, strict=True):
        here: Tensor = ops.any(seen)
        if positions and tuple(change.shape)[: len(positions)] == positions:
            here = ops.reshape(seen, (*positions, *(1,) * (len(change.shape) - len(positions))))
        found.append(ops.where(here, change, ops.zeros_like(change) if value is None else value))
    return found
