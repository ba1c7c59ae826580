"""A condition that a compiled graph checks while it runs."""

from __future__ import annotations

from keras_local.ops.backend import Tensor, backend


def assured(tensor: Tensor, condition: Tensor, message: str) -> Tensor:
    """Return `tensor`; the step stops with an error if `condition` is false.

    A graph that XLA compiles cannot stop, and so no graph on JAX. There the step continues, and the
    caller has to handle the consequences.

    Args:
        tensor: Tensor that must not be used unless the condition is true.
        condition: A boolean scalar.
        message: Text of the error.
    """
    return backend.assured(tensor, condition, message)
