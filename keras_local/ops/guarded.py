"""A training step that changes nothing if it goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras_local.ops.backend import backend


def guarded_step(
    model: Any, step: Callable[..., Any], arguments: tuple[Any, ...], kept: Sequence[Any]
) -> Any:
    """Make a training step, and undo it unless the loss and all trained weights are finite.

    It is for `train_step` of a Keras model. After an undone step the loss in the logs is NaN for
    the rest of the epoch, also if one call of the compiled function makes several steps.

    Args:
        model: The Keras model.
        step: The `train_step` of Keras.
        arguments: Its arguments.
        kept: The variables that are restored: weights, state, and those of the optimizer.

    Returns:
        The result of `step`.
    """
    return backend.guarded_step(model, step, arguments, kept)
