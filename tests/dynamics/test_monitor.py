"""What the monitor of settling logs, against the states and energies of the network."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_local.callbacks import SettlingMonitor
from keras_local.dynamics import EquilibriumNetwork
from tests.support import array, weights_of


@pytest.mark.slow
def test_residual_and_energy_are_those_of_the_free_phase() -> None:
    inputs = np.random.default_rng(0).random((5, 4)).astype("float32")
    network = EquilibriumNetwork([4, 6, 3], free_steps=6, step_size=0.2)
    network.synapses[0].bias.assign(0.3 * np.ones(6))
    network.compile(keras.optimizers.SGD(0.1))
    monitor = SettlingMonitor(inputs, tolerance=1e-9)
    history = network.fit(inputs, np.arange(5) % 3, epochs=2, callbacks=[monitor], verbose=0)
    states = [array(layer) for layer in network.trajectories(inputs)]
    moved = np.max([np.abs(s[-1] - s[-2]).max(axis=-1) for s in states], axis=0)
    logs = {name: values[-1] for name, values in history.history.items()}
    assert logs["residual"] == pytest.approx(float(moved.mean()), rel=1e-5)
    assert logs["at_rest"] == 0.0
    energies = [array(network.energy(inputs, [s[t] for s in states])) for t in range(7)]
    assert logs["energy"] == pytest.approx(float(energies[-1].mean()), rel=1e-5)
    assert logs["energy_rise"] == pytest.approx(max(0.0, float(np.diff(energies, axis=0).max())))
    assert set(monitor.initial) == set(logs) - {"loss"}
    assert monitor.initial["energy"] != logs["energy"]
    before = weights_of(network)
    monitor.tolerance = 1e9
    assert monitor.measure()["at_rest"] == 1.0
    for weight, kept in zip(weights_of(network), before, strict=True):
        np.testing.assert_array_equal(weight, kept)


def test_units_that_fall_are_not_at_rest() -> None:
    """The states fall in the last step, all of them."""
    network = EquilibriumNetwork([4, 6, 3], free_steps=3, step_size=0.5, kernel_initializer="zeros")
    for synapses in network.synapses:
        synapses.bias.assign(-np.ones(synapses.bias.shape))
    network.trajectories = lambda inputs: [np.array([[[1.0]], [[0.25]]], "float32")]
    network.energy = lambda inputs, states: None
    monitor = SettlingMonitor(np.eye(4)[:1])
    monitor.set_model(network)
    assert monitor.measure() == {"residual": 0.75, "at_rest": 0.0}


def test_what_has_no_energy_has_a_residual() -> None:
    network = EquilibriumNetwork([4, 6, 3], feedback="separate")
    network.compile("sgd")
    monitor = SettlingMonitor(np.eye(4))
    network.fit(np.eye(4), np.array([0, 1, 2, 0]), callbacks=[monitor], verbose=0)
    assert sorted(monitor.initial) == ["at_rest", "residual"]


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="`tolerance` must be"):
        SettlingMonitor(np.eye(4), tolerance=0.0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"`model` must be a dynamics\.Network"):
        model.fit(np.eye(4), np.eye(4)[:, :2], callbacks=[SettlingMonitor(np.eye(4))], verbose=0)
