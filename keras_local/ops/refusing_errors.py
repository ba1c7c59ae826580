"""Tensors at which no error may arrive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_local.ops.backend import Tensor, backend


def refusing_errors(tensor: Tensor, refuse: Callable[..., Any]) -> Tensor:
    """Return a tensor, and call a function, which raises, if a gradient is taken through it.

    No backend can say beforehand, in all places, whether a gradient is wanted: a function that
    TensorFlow traces knows nothing of a tape around it. But each asks an operation for its gradient
    before it uses it.

    Args:
        tensor: Any tensor that is not sparse.
        refuse: Function that raises an error; its arguments are of no meaning.

    >>> import keras
    >>> from keras_local import ops
    >>> def refuse(*signals):
    ...     raise ValueError("no error here")
    >>> x = keras.ops.ones((2,))
    >>> keras.ops.convert_to_numpy(ops.refusing_errors(x, refuse)).tolist()
    [1.0, 1.0]
    >>> ops.gradients(lambda x: keras.ops.sum(ops.refusing_errors(x, refuse)), [x])
    Traceback (most recent call last):
    ValueError: no error here
    """
    return backend.with_gradient(lambda tensor: tensor, refuse, tensor, independent=1)
