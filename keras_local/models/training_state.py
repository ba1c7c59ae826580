"""What a call must leave as it was: flags of weights, and weights that were finite."""

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
    """Give every layer and every weight its `trainable` flag back, whatever happens inside.

    Args:
        *models: Models or layers, walked through to the innermost layer.
        on_error_only: Whether the flags stay as they are where nothing is raised.
    """
    # Parents come first, so that what they say to their layers is corrected after them.
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
    for weight, flag in weights:  # A layer has spoken for its weights in between.
        if weight.trainable != flag:
            weight.trainable = flag


class LastFinite:
    """Remembers the last finite values of variables, and gives them back where they diverge.

    Args:
        variables: What has to stay finite.
        refusal: Function that raises the error that names the remedy.
        optimizer: What holds moments of these variables: those that diverged start anew.
    """

    def __init__(
        self, variables: Sequence[Any], refusal: Callable[[], None], optimizer: Any = None
    ) -> None:
        self.variables, self.refusal = list(variables), refusal
        self.optimizer = optimizer
        self.kept = self._values()

    def look(self) -> None:
        """Remember the values if all are finite; else give the last ones back, and refuse."""
        values = self._values()
        if all(np.isfinite(value).all() for value in values if value.dtype.kind == "f"):
            self.kept = values
            return
        self.give_back()
        self.refusal()

    def give_back(self) -> None:
        """Assign the last finite values."""
        for variable, value in zip(self.variables, self.kept, strict=True):
            variable.assign(value)
        for variable in getattr(self.optimizer, "variables", ()):
            value = np.asarray(ops.convert_to_numpy(variable))
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                variable.assign(np.zeros_like(value))

    def _values(self) -> list[np.ndarray]:
        return [np.array(ops.convert_to_numpy(variable)) for variable in self.variables]


class StopAtDivergence(keras.callbacks.Callback):
    """Ends a `fit` in which the loss or the weights stop being finite.

    The model then has the values from the end of the last epoch that went well, and those from
    before the call if there was none.

    Args:
        variables: What has to stay finite.
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
        """Look at the weights where the loss is not finite."""
        if logs and "loss" in logs and not np.isfinite(float(logs["loss"])):
            self.finite.give_back()
            self.finite.refusal()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the weights, and remember them."""
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
    """Return what a caller gave as `callbacks`, with one more behind."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks.append(further)
        return callbacks
    given = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
    return [*(each for each in given if each is not None), further]
