"""Gradients of blocks that each have a loss of their own, one block after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras

from keras_local.ops.backend import Tensor, backend
from keras_local.ops.order import after


class Part(NamedTuple):
    """One block of a training step.

    Attributes:
        forward: Function from the tensor below to the tensor above and the block's loss, or None
            instead of a loss if the block does not learn.
        variables: The weights that learn from this loss.
    """

    forward: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    variables: Sequence[keras.Variable]


def in_blocks(parts: Sequence[Part], inputs: Any) -> tuple[Tensor, list[list[Tensor | None]]]:
    """Return the outputs of the last block, and the gradients of each block's own loss.

    No error passes from a block to the one below. The next block begins when the gradients of this
    block exist, so that only one block's activations are held at a time: TensorFlow would otherwise
    compute all blocks first, and their gradients afterwards. On JAX, which compiles the whole step,
    the compiler finds this order from `cut` alone; there this function is not available.

    Args:
        parts: The blocks, the lowest first.
        inputs: Inputs of the lowest block.
    """
    found: list[list[Tensor | None]] = []
    outputs = inputs
    for place, part in enumerate(parts):
        if place:
            known = [each for each in found[-1] if each is not None]
            inputs = masked_like(keras.ops.stop_gradient(after(outputs, known)), outputs)
        outputs, gradients = backend.of_block(part.forward, inputs, part.variables)
        found.append(gradients)
    return outputs, found


def apply_gradients(optimizer: Any, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
    """Let an optimizer make one step with all gradients."""
    backend.apply_gradients(optimizer, list(gradients), list(variables))


def cut(tensor: Tensor) -> Tensor:
    """Return a tensor that sends no error down, with the mask of the given one."""
    return masked_like(keras.ops.stop_gradient(tensor), tensor)


def masked_like(tensor: Tensor, other: Tensor) -> Tensor:
    """Give a tensor the mask of another, where Keras layers look for it."""
    mask = getattr(other, "_keras_mask", None)
    if mask is not None:
        tensor._keras_mask = mask
    return tensor
