"""How a divergence inside of a compiled step becomes an error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_local.ops.backend import Tensor, backend
from keras_local.ops.divergence import are_bounded, kept_if
from keras_local.ops.precision import precise


class DivergenceAlarm(keras.metrics.Metric):
    """Keep changes that are not finite from the weights of a layer, and raise an error for them.

    In eager execution, and on PyTorch, the error comes at once. A compiled step cannot raise it,
    under XLA and on JAX: it leaves the weights as they are, and its loss is NaN; on TensorFlow all
    later steps leave them, too. The error then comes when Keras asks for metrics outside of the
    step: at the end of the epoch in `fit`, and at the next call after `train_on_batch`.

    It is a metric since Keras carries the variables of metrics through every step, and does not
    store them with the weights. It adds nothing to the logs.

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
            changes: What would be written.
            otherwise: What takes the place of each change; zeros for None.

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
        """Do nothing: the layer tells the alarm by itself."""

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

    # Nothing of it is stored: files of weights are those of a layer without it.

    def save_own_variables(self, store: Any) -> None:
        """Store nothing."""

    def load_own_variables(self, store: Any) -> None:
        """Load nothing."""
