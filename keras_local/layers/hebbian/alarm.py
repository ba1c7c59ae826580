"""An alarm that turns divergence in a compiled step into an error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_local.ops.backend import Tensor, backend
from keras_local.ops.divergence import are_bounded, kept_if
from keras_local.ops.precision import precise


class DivergenceAlarm(keras.metrics.Metric):
    """A metric that keeps non-finite changes from a layer's weights and raises an error.

    In eager execution, and on PyTorch, the error comes at once. Under XLA and on JAX a compiled
    step cannot raise it: the step does not change the weights, and its loss is NaN. On TensorFlow
    all later steps do not change them, either. The error comes when Keras asks for metrics outside
    the step: at the end of the epoch in `fit`, and at the next call after `train_on_batch`.

    It is a metric because Keras passes the variables of metrics through every step, and does not
    save them with the weights. It adds nothing to the logs.

    Args:
        message: Function that returns the text of the error.
    """

    def __init__(self, message: Callable[[], str]) -> None:
        super().__init__(name="divergence")
        self.message = message
        self.missed = self.add_variable((), "zeros", dtype="float32", name="missed")
        self._noticed = False

    def let_through(
        self, changes: Sequence[Tensor], otherwise: Sequence[Tensor | None] | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """Return the changes, or zeros if one is not finite, and a loss of 0 or NaN.

        Args:
            changes: The changes that would be written.
            otherwise: The values that replace each change; None means zeros.

        Raises:
            ValueError: In eager execution, if a change is not finite.
        """
        healthy, dtype = are_bounded(changes), precise(changes[0].dtype)
        known = backend.known(healthy)
        if known is not None:
            if not known:
                raise ValueError(self.message())
            return list(changes), ops.zeros((), dtype=dtype)
        if not backend.call_if(ops.logical_not(healthy), self._notice):
            self.missed.assign_add(1.0 - ops.cast(healthy, "float32"))
            healthy = ops.logical_and(healthy, ops.equal(self.missed.value, 0.0))
        loss = ops.cast(ops.where(healthy, 0.0, float("nan")), dtype)
        return kept_if(healthy, changes, otherwise), loss

    def update_state(self, *arguments: Any, **keywords: Any) -> None:
        """Do nothing: the layer updates the alarm itself."""

    def result(self) -> dict[str, Tensor]:
        """Return nothing for the logs.

        Raises:
            ValueError: Outside of a compiled step, if a change was not finite.
        """
        self._raise()
        return {}

    def reset_state(self) -> None:
        """Raise the error of an earlier step that has not been raised yet."""
        self._raise()

    def _notice(self) -> None:
        self._noticed = True

    def _raise(self) -> None:
        diverged = backend.known(self.missed.value > 0.0)
        if diverged or (diverged is not None and self._noticed):
            self._noticed = False
            self.missed.assign(0.0)
            raise ValueError(self.message())

    # Nothing is saved, so that files of weights do not depend on the alarm.

    def save_own_variables(self, store: Any) -> None:
        """Store nothing."""

    def load_own_variables(self, store: Any) -> None:
        """Load nothing."""
