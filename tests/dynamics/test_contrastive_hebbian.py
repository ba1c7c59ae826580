"""Contrastive Hebbian learning against NumPy loops, and against backpropagation."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from keras_local.dynamics import ContrastiveHebbianNetwork
from tests.dynamics import phases
from tests.oracles_dynamics import (
    Contrastive,
    backpropagation,
    feedforward,
    relative_error,
    sigmoid,
)
from tests.support import BACKEND, array

pytestmark = pytest.mark.skipif(BACKEND == "jax", reason="JAX has no float64 unless asked for")

SIZES = [6, 7, 5, 4, 3]


def problem(gamma: float, output: str = "linear", **arguments: Any) -> tuple[Any, ...]:
    """A network in float64, its oracle, samples and targets."""
    rng = np.random.default_rng(3)
    network = ContrastiveHebbianNetwork(
        SIZES, gamma=gamma, output=output, dtype="float64", **arguments
    )
    kernels = [rng.normal(size=(a, b)) / np.sqrt(a) for a, b in pairwise(SIZES)]
    biases = [0.1 * rng.normal(size=b) for b in SIZES[1:]]
    for synapses, kernel, bias in zip(network.synapses, kernels, biases, strict=True):
        synapses.kernel.assign(kernel)
        synapses.bias.assign(bias)
    inputs, targets = rng.normal(size=(4, 6)), np.eye(3)[rng.integers(0, 3, 4)]
    return network, Contrastive(kernels, biases, gamma, output), inputs, targets


def free_and_changes(network: Any, inputs: np.ndarray, targets: np.ndarray) -> tuple[Any, Any]:
    """The free states, and the changes of the kernels and of the biases."""
    steps = network.free_steps + network.clamped_steps
    free, pairs = phases.free_and_changes(network, inputs, targets, steps)
    changes = [change for _, change in pairs]
    return free, (changes[::2], changes[1::2])


@pytest.mark.parametrize("output", ["linear", "sigmoid"])
def test_states_and_changes_are_those_of_the_oracle(output: str) -> None:
    """Short phases: every step counts."""
    network, oracle, inputs, targets = problem(0.3, output, free_steps=4, clamped_steps=3)
    free, (kernels, biases) = free_and_changes(network, inputs, targets)
    start = feedforward(inputs, oracle.kernels, oracle.biases, oracle.rates)
    before = oracle.settle(start, 4, 0.5)
    after = oracle.settle(before, 3, 0.5, targets)
    for found, wanted in zip(free, before[1:], strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-14)
    for k, wanted in enumerate(oracle.changes(after, before)):
        np.testing.assert_allclose(kernels[k], wanted, atol=1e-13)
        moved = 0.3 ** (k + 1 - 4) * np.mean(after[k + 1] - before[k + 1], axis=0)
        np.testing.assert_allclose(biases[k], moved, atol=1e-13)
        assert np.abs(wanted).max() > 1e-3


@pytest.mark.parametrize("output", ["linear", "sigmoid"])
def test_half_the_feedback_halves_the_distance_to_backpropagation(output: str) -> None:
    """CHL-1, in relative error, in angle and in norm: the factors of the layers count."""
    errors, norms = [], []
    for gamma in (0.025, 0.0125):
        network, oracle, inputs, targets = problem(gamma, output, free_steps=90, clamped_steps=90)
        layers = feedforward(inputs, oracle.kernels, oracle.biases, oracle.rates)
        slopes = [1 - layer**2 for layer in layers[1:-1]]
        wanted, _ = backpropagation(layers, oracle.kernels, slopes, targets - layers[-1])
        _, (found, _) = free_and_changes(network, inputs, targets)
        pairs = list(zip(found, wanted, strict=True))
        errors.append([relative_error(a, b) for a, b in pairs])
        norms.append([np.linalg.norm(a) / np.linalg.norm(b) - 1 for a, b in pairs])
    np.testing.assert_allclose(np.divide(*errors), 2.0, rtol=0.15)
    assert max(errors[1]) < 0.2
    assert np.abs(norms[1]).max() < 0.2
    assert np.abs(norms[1]).max() < 0.7 * np.abs(norms[0]).max()


def test_without_feedback_it_is_the_feedforward_network() -> None:
    network, oracle, inputs, _ = problem(0.0)
    layers = feedforward(inputs, oracle.kernels, oracle.biases, oracle.rates)
    free = network.free_phase(ops.convert_to_tensor(inputs))
    for found, wanted in zip(free, layers[1:], strict=True):
        np.testing.assert_allclose(array(found), wanted, atol=1e-15)
    with pytest.raises(ValueError, match="`gamma` must be greater than 0"):
        network.compile("sgd")


@pytest.mark.few(1)
@pytest.mark.parametrize("output", ["linear", "sigmoid"])
def test_nothing_is_learned_where_the_output_is_the_target(output: str) -> None:
    network, _, inputs, targets = problem(0.1, output, free_steps=400)
    free, _ = free_and_changes(network, inputs, targets)
    _, changes = free_and_changes(network, inputs, free[-1])
    assert max(np.abs(change).max() for kind in changes for change in kind) < 1e-11
    _, changes = free_and_changes(network, inputs, targets)
    assert min(np.abs(change).max() for kind in changes for change in kind) > 1e-3


def test_the_loss_of_sigmoid_outputs_is_the_binary_cross_entropy() -> None:
    network, _, inputs, targets = problem(0.3, "sigmoid")
    scores = array(network(inputs))
    wanted = -np.sum(np.log(np.where(targets == 1, scores, 1 - scores)), axis=-1)
    found = array(network.cost(ops.convert_to_tensor(targets), ops.convert_to_tensor(scores)))
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert np.all(scores == pytest.approx(sigmoid(np.log(scores / (1 - scores)))))


def test_the_energy_never_rises_in_the_free_phase() -> None:
    network, _, inputs, _ = problem(0.5, free_steps=40, step_size=0.1)
    states = network.trajectories(inputs)
    energies = np.stack(
        [array(network.energy(inputs, [layer[t] for layer in states])) for t in range(41)]
    )
    assert np.diff(energies, axis=0).max() <= 1e-13
    assert np.ptp(energies, axis=0).min() > 1e-3


def test_optimizers_that_erase_the_factors_are_refused() -> None:
    network = ContrastiveHebbianNetwork([4, 3, 2])
    with pytest.raises(ValueError, match=r"`optimizer` must be one that keeps the factors"):
        network.compile("adam")
    network.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    ContrastiveHebbianNetwork([4, 2]).compile("adam")


BAD: list[tuple[str, dict[str, Any]]] = [
    ("gamma", {"gamma": -0.1}),
    ("gamma", {"gamma": 1e-3, "sizes": [4, 3, 3, 2]}),
    ("activation", {"activation": "relu"}),
    ("output", {"output": "softmax"}),
    ("free_steps", {"free_steps": 0}),
    ("clamped_steps", {"clamped_steps": 1.5}),
    ("step_size", {"step_size": 1.1}),
]


@pytest.mark.parametrize(("argument", "arguments"), BAD)
def test_bad_arguments(argument: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"`{argument}` must be"):
        ContrastiveHebbianNetwork(**{"sizes": [4, 3, 2], **arguments})
