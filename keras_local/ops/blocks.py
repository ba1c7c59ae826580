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
            instead of a loss if the block does not learn, and other tensors that it computes.
        variables: The weights that learn from this loss.
    """

    forward: Callable[[Tensor], tuple[Tensor, Tensor | None, Any]]
    variables: Sequence[keras.Variable]


def in_blocks(
    parts: Sequence[Part], inputs: Any
) -> tuple[Tensor, list[list[Tensor | None]], list[Any]]:
    """Return the outputs of the last block, each block's gradients, and what else it returned.

    No error passes from a block to the one below. The next block begins when the gradients of this
    block exist, so that only one block's activations are held at a time: TensorFlow would otherwise
    compute all blocks first and their gradients afterwards, and XLA on JAX several blocks at once.

    Args:
        parts: The blocks, the lowest first.
        inputs: Inputs of the lowest block.
    """
    found: list[list[Tensor | None]] = []
    others: list[Any] = []
    outputs = inputs
    for place, part in enumerate(parts):
        if place:
            known = [each for each in found[-1] if each is not None]
            inputs = masked_like(keras.ops.stop_gradient(after(outputs, known)), outputs)
        outputs, gradients, rest = backend.of_block(part.forward, inputs, part.variables)
        found.append(gradients)
        others.append(rest)
    return outputs, found, others


def in_state(model: Any, step: Callable[[Any], Any], arguments: tuple[Any, ...]) -> Any:
    """Make a training step that reads and assigns variables, on every backend.

    Args:
        model: The model.
        step: Function of a batch that returns the logs.
        arguments: Those of `train_step`.
    """
    return backend.in_state(model, step, arguments)


def added_losses() -> list[Tensor]:
    """Return what the calls of a block have added to the loss, where no layer will know it later.

    It is called in the `forward` of a part. On JAX a block is traced by itself, and its layers know
    nothing of it afterwards; elsewhere the list is empty.
    """
    found: list[Tensor] = backend.added_losses()
    return found


def apply_gradients(optimizer: Any, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
    """Let an optimizer make one step with all gradients."""
    backend.apply_gradients(optimizer, list(gradients), list(variables))


def masked_like(tensor: Tensor, other: Tensor) -> Tensor:
    """Give a tensor the mask of another, where Keras layers look for it."""
    mask = getattr(other, "_keras_mask", None)
    if mask is not None:
        tensor._keras_mask = mask
    return tensor
