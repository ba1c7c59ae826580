"""Functions that restore what a call must not change: trainable flags and finite weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_local import _validation as check


@contextmanager
def flags_kept(*models: Any, on_error_only: bool = False) -> Iterator[None]:
    """Restore the `trainable` flag of every layer and every weight afterwards.

    Args:
        *models: Models or layers, with all layers inside them.
        on_error_only: Whether the flags are restored only after an error.
    """
    # Parents come first, because setting their flag also sets the flags of their layers.
    layers = [layer for model in models for layer in model._flatten_layers()]
    flags = [(layer, layer.trainable) for layer in layers]
    weights = [(weight, weight.trainable) for layer in layers for weight in layer.weights]
    try:
        yield
    except BaseException:
        _give_back(flags, weights)
        raise
    if not on_error_only:
        _give_back(flags, weights)


def _give_back(flags: list[tuple[Any, bool]], weights: list[tuple[Any, bool]]) -> None:
    for owner, flag in (*flags, *weights):
        if owner.trainable != flag:
            owner.trainable = flag
    for weight, flag in weights:  # Setting the flag of a layer has set the flags of its weights.
        if weight.trainable != flag:
            weight.trainable = flag


class LastFinite:
    """A store of the last finite values of variables, which it restores after divergence.

    Args:
        variables: The variables that have to stay finite.
        refusal: Function that raises the error that names the remedy.
        optimizer: The optimizer with moments of these variables; moments that diverged are reset.
    """

    def __init__(
        self, variables: Sequence[Any], refusal: Callable[[], None], optimizer: Any = None
    ) -> None:
        self.variables, self.refusal = list(variables), refusal
        self.optimizer = optimizer
        self.kept = self._values()

    def look(self) -> None:
        """Store the values if all are finite; otherwise restore the last ones and refuse."""
        values = self._values()
        if all(np.isfinite(value).all() for value in values if value.dtype.kind == "f"):
            self.kept = values
            return
        self.give_back()
        self.refusal()

    def give_back(self) -> None:
        """Restore the last finite values."""
        for variable, value in zip(self.variables, self.kept, strict=True):
            variable.assign(value)
        for variable in getattr(self.optimizer, "variables", ()):
            value = np.asarray(ops.convert_to_numpy(variable))
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                variable.assign(np.zeros_like(value))

    def _values(self) -> list[np.ndarray]:
        return [np.array(ops.convert_to_numpy(variable)) for variable in self.variables]


class StopAtDivergence(keras.callbacks.Callback):
    """Callback that ends a `fit` in which the loss or the weights are no longer finite.

    Then the model has the values from the end of the last finite epoch, or from before the call if
    there was none.

    Args:
        variables: The variables that have to stay finite.
        what: What diverges, in the words of the message.
        remedy: What to try.
        optimizer: The optimizer of the model.
    """

    def __init__(
        self, variables: Sequence[Any], what: str, remedy: str, optimizer: Any = None
    ) -> None:
        super().__init__()
        refuse = partial(refuse_divergence, what, remedy)
        self.finite = LastFinite(variables, refuse, optimizer)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Check the weights if the loss is not finite."""
        if logs and "loss" in logs and not np.isfinite(float(logs["loss"])):
            self.finite.give_back()
            self.finite.refusal()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Check the weights, and store them."""
        self.finite.look()


def refuse_divergence(what: str, remedy: str) -> None:
    """Raise the error that says what diverged and what to do."""
    check.require(
        False,
        "weights",
        f"finite, and {what} diverged: they are now the last finite ones. Try {remedy}",
        "NaN or infinite entries",
    )


def with_callback(callbacks: Any, further: keras.callbacks.Callback) -> Any:
    """Return the callbacks of the caller, followed by one more."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        further.set_model(callbacks.model)
        callbacks.callbacks.append(further)
        return callbacks
    given = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
    return [*(each for each in given if each is not None), further]
