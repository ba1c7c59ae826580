"""A callback that ends a training that diverges, and warns if states do not settle."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_local.dynamics._energies import energies_of

_RISE = 1e-2
_REST = 1e-8
"""A network is at rest, up to rounding, if energy over squared states is below this."""


class Watch(keras.callbacks.Callback):
    """Callback that ends a training that diverges, and warns if the free phase does not settle.

    If the loss of a batch is not finite, the training ends; the network has not applied this batch
    to the weights. Before the first epoch and after each epoch, the network is asked whether it can
    settle. If it has an energy, the energy of a few samples is computed through the free phase; it
    must not rise in the second half.

    Args:
        samples: A few samples; None for a network without energy.
        anew: Whether each epoch begins the data anew, which the network is told.
    """

    def __init__(self, samples: Any, anew: bool = False) -> None:
        super().__init__()
        self.samples, self.anew = samples, anew
        self.warned = False

    def on_train_begin(self, logs: Any = None) -> None:
        """Check the free phase before anything is changed."""
        self._look()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Tell the network where the data begin; a backup may have restored another place."""
        if self.anew:
            self.model.begin_data()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """End a training that has diverged."""
        if logs and "loss" in logs:
            self.model.require_finite(logs["loss"])

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Check the free phase again, because weights grow and a step can become too large."""
        self._look()

    def _look(self) -> None:
        if self.warned:
            return
        reason = self.model.instability()
        if reason is not None:
            self.warned = True
            warnings.warn(
                f"{type(self.model).__name__} does not settle: {reason}. Try {self.model.remedy}.",
                stacklevel=2,
            )
            return
        if self.samples is None:
            return
        rise = energy_rise(self.model, self.samples)
        if rise is not None and not rise <= _RISE:
            self.warned = True
            warnings.warn(
                f"The energy of {type(self.model).__name__} rises in the free phase, by {rise:.2g} "
                f"of its range: it does not settle. Try {self.model.remedy}.",
                stacklevel=2,
            )


def energy_rise(network: Any, inputs: Any) -> float | None:
    """Return the largest rise of the energy in the second half of the free phase.

    The rise is divided by the range of the energy over the whole phase, or by the rounding error of
    the states, whichever is larger. It is None for a network without energy. In the first half the
    energy may rise, because layers that all move at once may overshoot.
    """
    inputs = network._prepared(inputs)
    try:
        states = network.trajectories(inputs)
    except NotImplementedError:
        return None
    followed = energies_of(network, inputs, states)
    if followed is None:
        return None
    if len(followed) < 2:
        return 0.0
    squares = sum(_squares(ops.convert_to_numpy(layer)) for layer in states)
    scale = np.ptp(followed, axis=0) + 1e-3 * np.abs(followed).max(axis=0) + 1e-12
    scale = np.maximum(scale, _REST * squares.max(axis=0))
    late = followed[(len(followed) - 1) // 2 :]
    return float(np.max(np.diff(late, axis=0) / scale))


def _squares(layer: Any) -> Any:
    """Return the sum of squares of each sample at each time."""
    return np.square(layer, dtype="float64").reshape(*layer.shape[:2], -1).sum(axis=-1)
