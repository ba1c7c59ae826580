"""A condition that a compiled graph checks while it runs."""

from __future__ import annotations

from keras_local.ops.backend import Tensor, backend


def assured(tensor: Tensor, condition: Tensor, message: str) -> Tensor:
    """Return `tensor`; the step stops with an error where `condition` does not hold.

    A graph compiled with XLA, and so every one of JAX, cannot stop: it goes on, and its user has to
    see to what follows.

    Args:
        tensor: What must not be used unless the condition holds.
        condition: A boolean scalar.
        message: Text of the error.
    """
    return backend.assured(tensor, condition, message)
