"""A callback that measures whether a network settles."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_local import _validation as check
from keras_local.dynamics._energies import energies_of
from keras_local.dynamics.network import Network
from keras_local.ops import residual


class SettlingMonitor(keras.callbacks.Callback):
    """Callback that logs how close the states are to rest at the end of the free phase.

    At the end of each epoch `logs` receives

    - `residual`, the change of the units in the last step: the mean over samples of
      the largest change of any unit,
    - `at_rest`, the share of samples that move less than `tolerance`,
    - `energy`, the mean energy at the end, and `energy_rise`, the largest rise of the energy in
      one step of the free phase; only for networks that have an energy.

    Measuring changes nothing in the network. It runs the free phase of the samples once more and
    keeps all states in memory; a few dozen samples are enough.

    Args:
        data: Samples, as for `fit`.
        tolerance: A sample is at rest if no unit changes by more than this.

    Raises:
        ValueError: If `tolerance` is not positive, or, when training begins, if the model is not a
            `dynamics.Network`.
        NotImplementedError: When training begins, if the phases of the network have no time steps.

    >>> import numpy as np, keras_local as kl
    >>> network = kl.dynamics.EquilibriumNetwork([4, 8, 3])
    >>> network.compile("sgd")
    >>> monitor = kl.callbacks.SettlingMonitor(np.eye(4))
    >>> history = network.fit(
    ...     np.eye(4), np.array([0, 1, 2, 0]), callbacks=[monitor], verbose=0
    ... )
    >>> sorted(history.history)
    ['at_rest', 'energy', 'energy_rise', 'loss', 'residual']
    """

    def __init__(self, data: Any, tolerance: float = 1e-3) -> None:
        super().__init__()
        self.data = data
        self.tolerance = check.real("tolerance", tolerance, minimum=0.0, exclusive=True)
        self.initial: dict[str, float] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        """Measure before the first step, and store the values in `initial`."""
        name = type(self.model).__name__
        check.require(isinstance(self.model, Network), "model", "a dynamics.Network", name)
        self.initial = self.measure()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure, and add the values to `logs`."""
        if logs is not None:
            logs.update(self.measure())

    def measure(self) -> dict[str, float]:
        """Return the measures of the network with its current weights."""
        inputs = ops.convert_to_tensor(self.data)
        states = self.model.trajectories(inputs)
        before, after = ([layer[time] for layer in states] for time in (-2, -1))
        moved = ops.convert_to_numpy(residual(before, after))
        found = {
            "residual": float(moved.mean()),
            "at_rest": float(np.mean(moved < self.tolerance)),
        }
        energies = energies_of(self.model, inputs, states)
        if energies is not None:
            found["energy"] = float(energies[-1].mean())
            found["energy_rise"] = float(np.diff(energies, axis=0).max(initial=0.0))
        return found
