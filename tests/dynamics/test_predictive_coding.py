"""Predictive coding against NumPy loops, and where it is backpropagation and where not."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from keras_local.dynamics import PredictiveCodingNetwork
from tests.oracles_dynamics import relative_error
from tests.oracles_predictive_coding import PredictiveCoding
from tests.support import BACKEND, array, weights_of

double = pytest.mark.skipif(BACKEND == "jax", reason="JAX has no float64 unless asked for")

SIZES = [6, 8, 7, 4]

FUNCTIONS = {
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "sigmoid": (
        lambda x: 1 / (1 + np.exp(-x)),
        lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2,
    ),
    "relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0).astype(float)),
    "linear": (lambda x: x, np.ones_like),
}


def problem(activation: str = "tanh", **arguments: Any) -> tuple[Any, ...]:
    """A network in float64, its oracle, samples and targets as rows."""
    rng = np.random.default_rng(0)
    network = PredictiveCodingNetwork(SIZES, activation=activation, dtype="float64", **arguments)
    W = [rng.normal(size=(b, a)) / np.sqrt(a) for a, b in pairwise(SIZES)]
    b = [0.1 * rng.normal(size=size) for size in SIZES[1:]]
    for k, synapses in enumerate(network.synapses):
        synapses.kernel.assign(W[k].T)
        synapses.bias.assign(b[k])
    oracle = PredictiveCoding(W, b, *FUNCTIONS[activation], network.output_variance)
    return network, oracle, rng.normal(size=(5, 6)), np.eye(4)[rng.integers(0, 4, 5)]


def changes_of(network: Any, inputs: np.ndarray, targets: np.ndarray) -> list[np.ndarray]:
    """The changes of the kernels, transposed as in the specification."""
    x, y = ops.convert_to_tensor(inputs), ops.convert_to_tensor(targets)
    share = ops.full((len(inputs),), 1 / len(inputs), dtype="float64")
    changes = network.changes(x, y, network.free_phase(x), share)
    assert all(np.abs(array(change)).max() < 1e3 for _, change in changes)
    return [array(change).T for _, change in changes[::2]]


@double
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu", "linear"])
def test_values_and_changes_are_those_of_the_oracle(activation: str) -> None:
    network, oracle, inputs, targets = problem(
        activation, output_variance=2.0, steps=4, step_size=0.2
    )
    values = oracle.settle(inputs.T, targets.T, 4, 0.2)
    states = network.trajectories(inputs, targets)
    for found, wanted in zip(states, values, strict=True):
        np.testing.assert_allclose(array(found)[-1].T, wanted, atol=1e-13)
    energy = network.energy(inputs, [layer[-1] for layer in states])
    np.testing.assert_allclose(array(energy), oracle.energy(inputs.T, values), atol=1e-12)
    wanted = oracle.changes(inputs.T, values)
    for one, other in zip(changes_of(network, inputs, targets), wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
        assert np.abs(other).max() > 1e-3


@double
def test_weak_clamping_is_backpropagation_and_a_small_error_is_not() -> None:
    """PC-1: ten times the variance, a tenth of the distance; a nearby target does not help."""
    errors = []
    for variance in (100.0, 1000.0):
        network, oracle, inputs, targets = problem(
            output_variance=variance, steps=150, step_size=0.2
        )
        pairs = zip(
            changes_of(network, inputs, targets),
            oracle.backprop(inputs.T, targets.T),
            strict=True,
        )
        errors.append([relative_error(a, b) for a, b in pairs])
    np.testing.assert_allclose(np.divide(*errors), 10.0, rtol=0.1)
    assert max(errors[1]) < 0.01
    network, oracle, inputs, targets = problem(steps=150, step_size=0.2)
    outputs = array(network(inputs))
    for small in (1e-2, 1e-4):
        near = outputs + small * (targets - outputs)
        pairs = zip(
            changes_of(network, inputs, near), oracle.backprop(inputs.T, near.T), strict=True
        )
        assert min(relative_error(a, b) for a, b in pairs) > 0.2


@double
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu"])
def test_zil_is_backpropagation(activation: str) -> None:
    """PC-2."""
    network, oracle, inputs, targets = problem(activation, inference="zil")
    wanted = oracle.backprop(inputs.T, targets.T)
    for one, other in zip(changes_of(network, inputs, targets), wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-14)
        assert np.abs(other).max() > 1e-2


@double
def test_fixed_predictions_are_backpropagation_at_rest() -> None:
    """With a step of 1 after one step for each hidden layer, else in the limit."""
    for steps, size, tolerance in ((2, 1.0, 1e-14), (300, 0.2, 1e-12)):
        network, oracle, inputs, targets = problem(
            inference="fixed_prediction", steps=steps, step_size=size, output_variance=3.0
        )
        wanted = oracle.backprop(inputs.T, targets.T)
        for one, other in zip(changes_of(network, inputs, targets), wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=tolerance)
    network, oracle, inputs, targets = problem(inference="fixed_prediction", steps=1, step_size=1.0)
    assert np.all(changes_of(network, inputs, targets)[0] == 0)


@double
def test_the_energy_never_rises_with_labels_and_is_zero_without() -> None:
    network, _, inputs, targets = problem(steps=30)
    states = network.trajectories(inputs, targets)
    energies = np.stack(
        [array(network.energy(inputs, [layer[t] for layer in states])) for t in range(31)]
    )
    assert np.diff(energies, axis=0).max() <= 1e-13
    assert np.ptp(energies, axis=0).min() > 1e-2
    free = network.trajectories(inputs)
    assert np.abs(array(network.energy(inputs, [layer[-1] for layer in free]))).max() < 1e-25


@double
@pytest.mark.parametrize("inference", ["settle", "fixed_prediction", "zil"])
def test_nothing_is_learned_where_the_output_is_the_target(inference: str) -> None:
    network, _, inputs, _ = problem(inference=inference)
    changes = changes_of(network, inputs, array(network(inputs)))
    assert max(np.abs(change).max() for change in changes) < 1e-13


@pytest.mark.slow
def test_a_phase_with_labels_that_diverges_is_noticed() -> None:
    """The loss of the free phase is finite, the changes are not; nothing is changed."""
    network = PredictiveCodingNetwork([4, 5, 5, 3], "linear", steps=400, step_size=1.0)
    for synapses in network.synapses:
        synapses.kernel.assign(9.0 * np.ones(synapses.kernel.shape))
    network.compile(keras.optimizers.SGD(0.1))
    before = weights_of(network)
    with pytest.raises(ValueError, match=r"`loss` must be finite.*Try a smaller `step_size`"):
        network.fit(np.eye(4), np.array([0, 1, 2, 0]), verbose=0)
    for weight, kept in zip(weights_of(network), before, strict=True):
        np.testing.assert_array_equal(weight, kept)


BAD: list[tuple[str, dict[str, Any]]] = [
    ("activation", {"activation": "softmax"}),
    ("inference", {"inference": "exact"}),
    ("output_variance", {"output_variance": 0.0}),
    ("steps", {"steps": 0}),
    ("step_size", {"step_size": 1.5}),
]


@pytest.mark.parametrize(("argument", "arguments"), BAD)
def test_bad_arguments(argument: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"`{argument}` must be"):
        PredictiveCodingNetwork(**{"sizes": [4, 3, 2], **arguments})


@double
def test_steps_are_halved_where_the_energy_rises() -> None:
    """Of the sample whose weights are steep, and not of the one that is at rest."""
    network = PredictiveCodingNetwork([2, 3, 2], "linear", step_size=0.5, dtype="float64", steps=80)
    network.synapses[0].kernel.assign(np.ones((2, 3)))
    network.synapses[1].kernel.assign(np.array([[3.0, 0.0], [0.0, 3.0], [0.0, 0.0]]))
    inputs = np.array([[1.0, 0.0], [0.0, 0.0]])
    x, y = ops.convert_to_tensor(inputs), ops.convert_to_tensor(np.array([[1.0, 0.0], [0.0, 0.0]]))
    weights = [synapses.read() for synapses in network.synapses]
    values, size, energy = network._paced(network.free_phase(x), y)
    step, energies = network._careful(weights, x, y), []
    for _ in range(network.steps):
        values, size, energy = step((values, size, energy))
        energies.append(array(energy)[0, 0])
    # 1 + 9 is the largest curvature: steps of 0.5 and 0.25 overshoot, 0.125 settles.
    np.testing.assert_array_equal(array(size), [[0.125], [0.5]])
    assert max(energies) > energies[0]
    # At rest e_1 = -3 e_2 in the first two hidden units, and x = 1 + e_1, y = 3 x + e_2.
    np.testing.assert_allclose(array(values[0])[0, :2], [0.4, 0.1], atol=1e-9)
    trained = network.trajectories(inputs, np.array([0, 0]))
    assert np.isfinite(array(trained[0])).all()
    with pytest.raises(ValueError, match="`y` must be one-hot rows"):
        network.trajectories(inputs, np.array([[1.0, 0.0], [0.0, 0.0]]))
