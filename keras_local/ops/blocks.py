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


Learn = Callable[[Sequence[keras.Variable], Sequence[Tensor | None]], None]


def in_blocks(
    parts: Sequence[Part], inputs: Any, learn: Learn | None = None
) -> tuple[Tensor, list[list[Tensor | None]], list[Any]]:
    """Return the outputs of the last block, each block's gradients, and what else it returned.

    No error passes from a block to the one below. The next block begins when the gradients of this
    block exist, so that only one block's activations are held at a time: TensorFlow would otherwise
    compute all blocks first and their gradients afterwards, and XLA on JAX several blocks at once.

    Args:
        parts: The blocks, the lowest first.
        inputs: Inputs of the lowest block.
        learn: Function that is given the weights and the gradients of each block as soon as they
            exist, such as `Updates.add`.
    """
    found: list[list[Tensor | None]] = []
    others: list[Any] = []
    outputs = inputs
    for place, part in enumerate(parts):
        if place:
            known = [each for each in found[-1] if each is not None]
            inputs = masked_like(keras.ops.stop_gradient(after(outputs, known)), outputs)
        outputs, gradients, rest = backend.of_block(part.forward, inputs, part.variables)
        if learn is not None:
            learn(part.variables, gradients)
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


class Updates:
    """A step of an optimizer, block after block where that is the same as all at once.

    Otherwise the gradients of all weights would be held until the last block. It is not the same
    if the optimizer looks at all gradients together, as for a global norm, or has states of its
    own beside those of the weights.

    Args:
        optimizer: The optimizer.
        variables: All weights of the step.
    """

    def __init__(self, optimizer: Any, variables: Sequence[keras.Variable]) -> None:
        self._optimizer = optimizer
        self._waiting = list(variables)
        self._known: dict[int, Tensor | None] = {}
        self._in_parts = backend.updates_in_parts(optimizer)
        self._begun = False
        if self._in_parts and not optimizer.built:
            optimizer.build(self._waiting)

    def add(self, variables: Sequence[keras.Variable], gradients: Sequence[Tensor | None]) -> None:
        """Take the gradients of a block."""
        pairs = zip(variables, gradients, strict=True)
        self._known.update({id(variable): gradient for variable, gradient in pairs})
        if self._in_parts and any(each is not None for each in gradients):
            self._apply()

    def finish(self) -> None:
        """Apply the gradients that still wait, if there are any."""
        self._apply()

    def _apply(self) -> None:
        now = [each for each in self._waiting if id(each) in self._known]
        if not now:
            return
        self._waiting = [each for each in self._waiting if id(each) not in self._known]
        if self._begun:
            # It is still the same step.
            self._optimizer.iterations.assign_sub(1)
        self._begun = True
        backend.apply_gradients(self._optimizer, [self._known[id(each)] for each in now], now)


def masked_like(tensor: Tensor, other: Tensor) -> Tensor:
    """Give a tensor the mask of another, where Keras layers look for it."""
    mask = getattr(other, "_keras_mask", None)
    if mask is not None:
        tensor._keras_mask = mask
    return tensor
