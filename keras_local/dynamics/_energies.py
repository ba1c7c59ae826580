"""The energy of a network along a trajectory."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops


def energies_of(network: Any, inputs: Any, states: list[Any], at_once: int = 32) -> Any:
    """Return the energies `(times, batch)` of trajectories, or None without an energy.

    Args:
        network: A `Network`.
        inputs: The samples.
        states: The result of `network.trajectories(inputs)`.
        at_once: How many times are evaluated in parallel. One after the other would take longer
            than the dynamics.
    """
    energies = []
    for first in range(0, states[0].shape[0], at_once):
        some = [layer[first : first + at_once] for layer in states]
        times, size = some[0].shape[:2]
        rows = tuple(ops.reshape(layer, (times * size, *layer.shape[2:])) for layer in some)
        copies = ops.tile(inputs, (times, *(1 for _ in inputs.shape[1:])))
        energy = network.energy(copies, rows)
        if energy is None:
            return None
        energies.append(ops.convert_to_numpy(energy).reshape(times, size).astype("float64"))
    return np.concatenate(energies)
