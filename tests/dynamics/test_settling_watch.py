"""What is said about the dynamics while a network is trained."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from keras_local.dynamics import EquilibriumNetwork, PredictiveCodingNetwork
from keras_local.dynamics._settling_watch import energy_rise

X, Y = np.eye(4, dtype="float32"), np.array([0, 1, 2, 0])


def followed(energies: Any, states: Any) -> Any:
    """Return a stand-in for a network of one unit, with these energies on its way."""
    states = np.asarray(states, "float64").reshape(-1, 1, 1)
    table = dict(zip(states[:, 0, 0].tolist(), energies, strict=True))
    return SimpleNamespace(
        _prepared=lambda inputs: inputs,
        trajectories=lambda inputs: [states],
        energy=lambda inputs, rows: np.array([table[float(row[0])] for row in rows[0]]),
    )


def test_a_rise_is_that_of_the_second_half_over_the_range() -> None:
    states = [1.0, 2.0, 3.0, 4.0, 5.0]
    falls = followed([0.0, 9.0, 4.0, 2.0, 1.0], states)
    assert energy_rise(falls, np.zeros((1, 1))) < 0.0
    rises = followed([10.0, 4.0, 2.0, 0.0, 5.0], states)
    assert energy_rise(rises, np.zeros((1, 1))) == pytest.approx(0.5, rel=2e-3)


def test_rounding_is_no_rise() -> None:
    """An energy of 1e-12 beside states of order 1 is a network at rest."""
    at_rest = followed([1e-13, 3e-13, 2e-13, 1e-13, 9e-13], [1.0, 2.0, 3.0, 4.0, 5.0])
    assert energy_rise(at_rest, np.zeros((1, 1))) < 1e-5


def test_a_free_phase_that_swings_is_said_once_with_what_to_change() -> None:
    network = EquilibriumNetwork([4, 5, 3], step_size=1.0)
    for synapses, value in zip(network.synapses, (0.0, -4.0), strict=True):
        synapses.kernel.assign(np.full(synapses.kernel.shape, value))
        synapses.bias.assign(np.full(synapses.bias.shape, 2.0))
    network.compile(keras.optimizers.SGD(1e-6))
    with pytest.warns(UserWarning, match="rises in the free phase.*a smaller `step_size`") as seen:
        network.fit(X, Y, epochs=2, verbose=0)
    assert sum("free phase" in str(each.message) for each in seen) == 1


class OnAnotherProcessor(PredictiveCodingNetwork):
    """Has energies with the rounding of one whose products are not the same at every call."""

    def energy(self, inputs: Any, states: Any) -> Any:
        energy = super().energy(inputs, states)
        return energy + 1e-12 * keras.ops.arange(len(energy), dtype="float32")


@pytest.mark.slow
def test_a_network_that_is_at_rest_is_left_alone() -> None:
    """Predictive coding without labels: the errors are rounding, whatever the step."""
    network = OnAnotherProcessor([4, 50, 50, 3], steps=50, step_size=1.0)
    network.compile(keras.optimizers.SGD(1e-6))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        network.fit(X, Y, epochs=2, verbose=0)
