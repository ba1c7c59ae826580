"""Values that are computed at once, also while a graph is being traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_local.ops.backend import Tensor, backend


def eagerly(function: Callable[[], Tensor]) -> Tensor:
    """Return the value of a function, computed before the graph that is being traced runs.

    TensorFlow can create a weight inside a compiled step only if its first value reads no other
    variable of the step. A draw without a seed reads the state of Keras' global generator.

    Args:
        function: Function without arguments; it uses no tensor of the graph.
    """
    return backend.eagerly(function)


class Once:
    """An initializer that draws once, and then always returns the same values.

    The first values of other weights may depend on them.

    Args:
        initializer: A Keras initializer, or a function of shape and dtype.
    """

    def __init__(self, initializer: Callable[..., Tensor]) -> None:
        self._initializer = initializer
        self._values: Tensor | None = None

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        """Return the values."""
        values = self._values
        if values is None:
            values = eagerly(lambda: self._initializer(shape, dtype=dtype))
            # Keras infers shapes from placeholders, which have no values.
            self._values = values if backend.holds_values(values) else None
        return values if dtype is None else keras.ops.cast(values, dtype)
