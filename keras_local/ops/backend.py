"""The one place that chooses a backend file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    from types import ModuleType

Tensor = Any
"""A tensor of the active backend. Keras has no common class for them."""


def _load() -> ModuleType:
    name = keras.backend.backend()
    if name == "tensorflow":
        from keras_local.ops import _tensorflow as module
    elif name == "jax":
        from keras_local.ops import _jax as module
    elif name == "torch":
        from keras_local.ops import _torch as module
    else:
        raise ImportError(
            "keras_local runs on the Keras backends tensorflow, jax and torch. "
            f"Received: KERAS_BACKEND={name!r}"
        )
    return module


backend = _load()
