"""A training step that changes nothing if it goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras_local.ops.backend import backend


def guarded_step(
    model: Any, step: Callable[..., Any], arguments: tuple[Any, ...], kept: Sequence[Any]
) -> Any:
    """Make a training step, and undo it unless the loss and all trained weights are finite.

    For `train_step` of a Keras model. After a step that is undone the loss in the logs is NaN for
    the rest of the epoch, also where one call of the compiled function takes several steps.

    Args:
        model: The Keras model.
        step: The `train_step` of Keras.
        arguments: Its arguments.
        kept: The variables that get their old values back: weights, state, and the optimizer's.

    Returns:
        What `step` returns.
    """
    return backend.guarded_step(model, step, arguments, kept)
