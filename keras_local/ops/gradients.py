"""Gradients outside training steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keras_local.ops.backend import Tensor, backend


def gradients(function: Callable[..., Tensor], tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradients of a scalar function at tensors.

    Args:
        function: Function of as many tensors as given; it returns a scalar.
        tensors: Where to differentiate it.

    Returns:
        One gradient for each tensor; zeros for one on which the value does not depend.

    >>> import keras
    >>> from keras_local import ops
    >>> x = keras.ops.convert_to_tensor([1.0, 3.0])
    >>> keras.ops.convert_to_numpy(ops.gradients(lambda x: keras.ops.sum(x * x), [x])[0]).tolist()
    [2.0, 6.0]
    """
    found: list[Tensor] = backend.gradients(function, list(tensors))
    return found
