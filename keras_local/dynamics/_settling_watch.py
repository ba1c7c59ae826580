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

_LESS = 0.9
"""Outputs of a network that learns soon differ more; without steps, they differ as before."""


class Watch(keras.callbacks.Callback):
    """Callback that ends a training that diverges, and warns if the free phase does not settle.

    If the loss of a batch is not finite, the training ends; the network has not applied this batch
    to the weights. Before the first epoch and after each epoch, the network is asked whether it can
    settle. If it has an energy, the energy of a few samples is computed through the free phase; it
    must not rise in the second half. After the last epoch, outputs that no longer depend on the
    inputs are those of a network that has saturated; if they name one class for all inputs and
    differ less than before training, it may have.

    Args:
        samples: A few samples; None for none to watch.
        anew: Whether each epoch begins the data anew, which the network is told.
        varied: Whether the targets of the samples differ, so that the outputs should.
    """

    def __init__(self, samples: Any, anew: bool = False, varied: bool = False) -> None:
        super().__init__()
        self.samples, self.anew, self.varied = samples, anew, varied
        self.warned = False
        self.scores: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Check the free phase before anything is changed."""
        self._look()
        self.scores = self._scores()

    def on_train_end(self, logs: Any = None) -> None:
        """Warn of a network that has saturated."""
        scores = self._scores()
        if self.warned or self.scores is None or scores is None:
            return
        before, after = _spread(self.scores), _spread(scores)
        still = after <= self.model.saturation * before
        one = self.model.targets == "classes" and len(np.unique(np.argmax(scores, axis=-1))) == 1
        if not before or not (still or (one and after < _LESS * before)):
            return
        self.warned = True
        name, remedy = type(self.model).__name__, self.model.remedy
        numbers = f"(they differ by {after:.2g}, and differed by {before:.2g} before training)"
        if still:
            message = (
                f"{name} has saturated: its outputs are the same for all inputs {numbers}, so that "
                f"nothing more is learned. Train a new network with {remedy}."
            )
        else:
            message = (
                f"{name} has not learned: its outputs name the same class for all inputs "
                f"{numbers}. If more epochs change nothing, it has saturated: train a new network "
                f"with {remedy}."
            )
        warnings.warn(message, stacklevel=2)

    def _scores(self) -> Any:
        """Return the outputs for the samples; None if there are not two with different targets."""
        if self.samples is None or not self.varied:
            return None
        return ops.convert_to_numpy(self.model(self.samples, training=False)).astype("float64")

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
        if self.samples is None or not self.model.has_energy:
            return
        rise = energy_rise(self.model, self.samples)
        if rise is not None and not rise <= _RISE:
            self.warned = True
            warnings.warn(
                f"The energy of {type(self.model).__name__} rises in the free phase, by {rise:.2g} "
                f"of its range: it does not settle. Try {self.model.remedy}.",
                stacklevel=2,
            )


def _spread(scores: Any) -> float:
    """Return by how much the outputs differ between samples."""
    return float(np.ptp(scores, axis=0).max())


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
