"""The one place that chooses a backend file."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    from types import ModuleType

Tensor = Any
"""A tensor of the active backend. Keras has no common class for them."""


def _load() -> ModuleType:
    name = keras.backend.backend()
    if name not in ("tensorflow", "jax", "torch"):
        raise ImportError(
            "keras_local runs on the Keras backends tensorflow, jax and torch. "
            f"Received: KERAS_BACKEND={name!r}"
        )
    return import_module(f"keras_local.ops._{name}")


backend = _load()
