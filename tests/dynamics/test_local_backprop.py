"""Baserdem's network against NumPy loops, its energy, and the limits in which it is backprop."""

from __future__ import annotations

import math
import warnings
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from keras_local.dynamics import LocalBackpropNetwork
from tests.oracles_dynamics import relative_error
from tests.oracles_local_backprop import (
    LocalBackprop,
    classifier_gradients,
    generator_gradients,
    inverse_gradients,
)
from tests.support import BACKEND, array, compiled

double = pytest.mark.skipif(BACKEND == "jax", reason="JAX has no float64 unless asked for")


def problem(
    sizes: list[int],
    gain: float = 1.0,
    threshold: float = 0.05,
    W: list[np.ndarray] | None = None,
    samples: int = 4,
    **arguments: Any,
) -> tuple[Any, LocalBackprop, np.ndarray, np.ndarray]:
    """A network in float64, its oracle, samples (as rows) and targets."""
    rng = np.random.default_rng(4)
    network = LocalBackpropNetwork(sizes, dtype="float64", **arguments)
    inward, upward, thresholds = [], [], []
    for b, units in enumerate(network.sizes[1:]):
        below, above = (sizes[0], *network.error_sizes)[b : b + 2]
        w, a = np.eye(units), np.eye(units)
        if network.inward[b] is not None:
            drawn = gain * rng.normal(size=(units, below)) / np.sqrt(below)
            w = drawn if W is None else W[b]
            network.inward[b].kernel.assign(w.T)
        if network.upward[b] is not None:
            a = rng.normal(size=(above, units)) / np.sqrt(units)
            network.upward[b].kernel.assign(a.T)
        inward.append(w)
        upward.append(a)
        thresholds.append(threshold * rng.random(units))
        network.thresholds[b].assign(thresholds[b])
    oracle = LocalBackprop(
        inward,
        upward,
        thresholds,
        network.steepness,
        math.inf if network.tau is None else network.tau,
        network.activation,
        list(network.precision),
    )
    inputs = rng.normal(size=(samples, sizes[0]))
    return (
        network,
        oracle,
        inputs,
        np.eye(network.classes)[rng.integers(0, network.classes, samples)],
    )


def changes_of(network: Any, inputs: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """The changes by name, sums over samples, `W` and `A` transposed as in the specification."""
    share = ops.ones((len(inputs),), dtype="float64")
    weights: list[Any] = []

    def run(x: Any, y: Any) -> list[Any]:
        weights[:], changes = zip(*network.changes(x, y, (), share), strict=True)
        return list(changes)

    changes = compiled(run)(ops.convert_to_tensor(inputs), ops.convert_to_tensor(targets))
    names = [w.path.split("/")[-2] if w.name == "kernel" else w.name for w in weights]
    return {name: array(change).T for name, change in zip(names, changes, strict=True)}


@double
@pytest.mark.parametrize("kind", ["relu", "resu", "linear"])
@pytest.mark.parametrize("tau", [1.0, None])
def test_states_and_changes_are_those_of_the_oracle(kind: str, tau: float | None) -> None:
    """Few steps, with and without labels: every one counts."""
    network, oracle, inputs, targets = problem(
        [6, 5, 3],
        error_sizes=[4, 3],
        activation=kind,
        tau=tau,
        fix_A=None,
        simulation_time=0.2,
        time_step=0.05,
        precision=(0.5, 1.0, 2.0),
    )
    X, F, D, V = oracle.run(inputs.T, targets.T, 5, 0.05)
    for found, wanted in zip(network.trajectories(inputs, targets), X, strict=True):
        np.testing.assert_allclose(array(found)[-1].T, wanted, atol=1e-13)
    changes = changes_of(network, inputs, targets)
    for b in range(2):
        wanted = {
            f"W_{b + 1}": F[b] @ (oracle.precision[b] * D[b]).T,
            f"A_{b + 1}": -(oracle.precision[b + 1] * D[b + 1]) @ F[b].T,
            f"B_{b + 1}": V[b].sum(axis=1),
        }
        for name, change in wanted.items():
            np.testing.assert_allclose(changes[name], change, atol=1e-12)
            assert np.abs(change).max() > 1e-2
    free, rates, *_ = oracle.run(inputs.T, np.zeros_like(targets.T), 5, 0.05, blocked=True)
    states = network.free_phase(ops.convert_to_tensor(inputs))
    for found, wanted in zip(states, free, strict=True):
        np.testing.assert_allclose(array(found).T, wanted, atol=1e-13)
    scores = array(network.scores(ops.convert_to_tensor(inputs), states))
    np.testing.assert_allclose(scores.T, oracle.A[1] @ rates[1], atol=1e-12)


@pytest.mark.few(2)
@double
@pytest.mark.parametrize("kind", ["relu", "resu", "linear"])
@pytest.mark.parametrize("blocked", [True, False])
def test_the_energy_never_rises(kind: str, blocked: bool) -> None:
    """BAS-1."""
    network, _, inputs, _ = problem(
        [8, 6, 4],
        gain=2.0,
        activation=kind,
        block_feedback=blocked,
        simulation_time=0.5,
        time_step=0.002,
    )
    states = network.trajectories(inputs)
    times, size = states[0].shape[:2]
    rows = [ops.reshape(layer, (times * size, -1)) for layer in states]
    energies = array(network.energy(np.tile(inputs, (times, 1)), rows)).reshape(times, size)
    assert np.diff(energies, axis=0).max() <= 1e-13
    assert np.ptp(energies, axis=0).min() > 0.01


@double
@pytest.mark.parametrize(("kind", "tau"), [("relu", None), ("resu", None), ("relu", 1.0)])
def test_the_changes_are_the_gradient_of_the_relaxed_energy(kind: str, tau: float | None) -> None:
    """BAS-2, by central differences in some places of all weights."""
    network, oracle, inputs, targets = problem(
        [7, 5, 4], activation=kind, tau=tau, fix_A=None, simulation_time=32.0, time_step=0.04
    )
    changes, width = changes_of(network, inputs, targets), 1e-5
    rng = np.random.default_rng(0)
    for name, weights in (("W", oracle.W), ("A", oracle.A)):
        for b, weight in enumerate(weights):
            for _ in range(1):
                place = tuple(rng.integers(0, side) for side in weight.shape)
                ends = []
                for sign in (1, -1):
                    weight[place] += sign * width
                    ends.append(oracle.energy(inputs.T, targets.T, 801, 0.04))
                    weight[place] -= sign * width
                slope = (ends[0] - ends[1]) / (2 * width)
                assert changes[f"{name}_{b + 1}"][place] == pytest.approx(
                    -slope, rel=1e-5, abs=1e-6
                )


@double
@pytest.mark.parametrize("tau", [None, 1.0])
def test_the_equilibrium_of_a_linear_layer(tau: float | None) -> None:
    """BAS-3: the leak is a ridge of `1 / (steepness tau)`."""
    network, oracle, inputs, targets = problem(
        [9, 4], activation="linear", threshold=0.0, tau=tau, simulation_time=4.0, time_step=0.02
    )
    ridge = 0.0 if tau is None else 1 / 10
    W = oracle.W[0]
    wanted = np.linalg.solve((1 + ridge) * np.eye(4) + W @ W.T, W @ inputs.T + targets.T)
    found = 10 * array(network.trajectories(inputs, targets)[0])[-1].T
    np.testing.assert_allclose(found, wanted, atol=1e-11)


LINEAR = {"activation": "linear", "threshold": 0.0, "tau": None, "time_step": 0.03}


@double
@pytest.mark.parametrize("case", ["generator", "inverse", "classifier"])
def test_limits_in_which_it_is_backpropagation(case: str) -> None:
    """BAS-4 (T3, T4, T5): the error falls with the small precision, tenfold for a tenth of it."""
    errors = []
    for small in (1e-3, 1e-4):
        if case == "generator":
            arguments = {"sizes": [9, 6, 4], "precision": (small, 1, 1), "simulation_time": 6.0}
        elif case == "inverse":
            rng = np.random.default_rng(8)
            W = [np.linalg.qr(rng.normal(size=(5, 5)))[0] + 0.1 * rng.normal(size=(5, 5))] * 2
            arguments = {"sizes": [5, 5, 5], "precision": (1, 1, small), "W": W}
            arguments["simulation_time"] = 24.0
        else:
            arguments = {"sizes": [6, 6, 5], "error_sizes": (5, 3), "precision": (1, 1, small)}
            arguments |= {"fix_A": None, "fix_W": True, "simulation_time": 24.0}
        network, oracle, inputs, targets = problem(**LINEAR, **arguments)
        x, y = inputs.T, targets.T
        changes = changes_of(network, inputs, targets)
        if case == "generator":
            wanted = generator_gradients(x, y, oracle.W)
        elif case == "inverse":
            wanted = inverse_gradients(x, y, oracle.W)
        else:
            wanted = classifier_gradients(x, y, oracle.A, "linear")
        name = "A" if case == "classifier" else "W"
        found = [changes[f"{name}_{b + 1}"] / small for b in range(2)]
        errors.append([relative_error(a, b) for a, b in zip(found, wanted, strict=True)])
    np.testing.assert_allclose(np.divide(*errors), 10.0, rtol=0.2)
    assert max(errors[1]) < 0.02


@double
def test_with_relu_it_is_not_backpropagation_unless_gated() -> None:
    """BAS-5: units that are silent hold an error although nothing is wrong."""
    angles, distances = [], []
    for gated in (False, True):
        small = 1e-3
        network, oracle, inputs, targets = problem(
            [6, 6, 8, 7],
            error_sizes=(8, 7, 3),
            activation="relu",
            threshold=0.0,
            tau=None,
            steepness=1.0,
            fix_A=None,
            fix_W=True,
            gated=gated,
            precision=(1, 1, 1, small),
            simulation_time=60.0,
            time_step=0.1,
        )
        inputs = np.abs(inputs)
        wanted = classifier_gradients(inputs.T, targets.T, oracle.A, "relu")
        changes = changes_of(network, inputs, targets)
        for b in range(3):
            change = changes[f"A_{b + 1}"] / small
            norms = np.linalg.norm(change) * np.linalg.norm(wanted[b])
            angles.append(np.sum(change * wanted[b]) / norms)
            distances.append(relative_error(change, wanted[b]))
    assert max(angles[:2]) < 0.5
    assert max(distances[3:]) < 0.02


@double
def test_nudged_minus_free_is_the_gradient_of_the_classification() -> None:
    """T6, for one layer of rectified units: the error falls with the precision of the labels."""
    errors = []
    for small in (1e-2, 1e-3):
        network, oracle, inputs, targets = problem(
            [9, 4],
            gain=3.0,
            threshold=0.0,
            tau=None,
            precision=(1, small),
            simulation_time=15.0,
            time_step=0.01,
        )
        x = inputs.T
        _, F, D, _ = oracle.run(x, targets.T, 1501, 0.01, blocked=True)
        nudged = changes_of(network, inputs, targets)["W_1"]
        found = (nudged - F[0] @ D[0].T) / small

        wanted = []
        for place in ((0, 0), (1, 4), (2, 7), (3, 3)):
            bump = np.zeros((4, 9))
            bump[place] = 1e-5
            ends = []
            for W in (oracle.W[0] + bump, oracle.W[0] - bump):
                free = LocalBackprop([W], oracle.A, [np.zeros(4)], 10.0, math.inf, "relu")
                top = free.run(x, targets.T, 1501, 0.01, blocked=True)[1][0]
                ends.append(0.5 * float(np.sum((top - targets.T) ** 2)))
            wanted.append((ends[0] - ends[1]) / 2e-5)
        picked = np.array([found[0, 0], found[1, 4], found[2, 7], found[3, 3]])
        errors.append(relative_error(-picked, np.array(wanted)))
    assert errors[0] / errors[1] == pytest.approx(10.0, rel=0.3)
    assert errors[1] < 0.05


@double
def test_the_equilibrium_does_not_depend_on_steepness_or_thresholds() -> None:
    """Without a leak and with identities, the energy has one minimum."""
    found = []
    for steepness, threshold, time in ((10.0, 0.0, 24.0), (5.0, 0.0, 48.0), (10.0, 0.3, 24.0)):
        network, _, inputs, targets = problem(
            [7, 5, 4],
            threshold=threshold,
            tau=None,
            steepness=steepness,
            simulation_time=time,
            time_step=0.05,
        )
        run = compiled(network.trajectories)
        states = run(ops.convert_to_tensor(inputs), ops.convert_to_tensor(targets))
        found.append([array(rate) for rate in network._rates([layer[-1] for layer in states])])
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
            assert np.abs(one).max() > 0.1


@double
def test_the_block_keeps_the_label_units_from_the_highest_layer_alone() -> None:
    """Layers wake one after the other: the third step is the first in which they are not zero."""
    states = []
    for blocked in (True, False):
        network, _, inputs, _ = problem(
            [7, 5, 4], threshold=0.0, block_feedback=blocked, simulation_time=0.03, time_step=0.01
        )
        states.append([array(layer) for layer in network.trajectories(inputs)])
    np.testing.assert_array_equal(states[0][0], states[1][0])
    np.testing.assert_array_equal(states[0][1][:3], states[1][1][:3])
    assert np.abs(states[0][1][3] - states[1][1][3]).max() > 1e-4


@double
def test_rates_of_resu_stay_below_the_steepness() -> None:
    network, _, inputs, targets = problem(
        [7, 4], gain=3.0, activation="resu", steepness=0.8, time_step=0.02
    )
    rates = network._rates(
        [array(layer[-1]) for layer in network.trajectories(9 * inputs, targets)]
    )
    assert array(rates[0]).min() == 0.0
    assert array(rates[0]).max() == 0.8


@double
def test_nothing_is_learned_where_nothing_is_mispredicted() -> None:
    network, oracle, _, _ = problem([7, 4], **{**LINEAR, "simulation_time": 6.0})
    targets = np.random.default_rng(0).normal(size=(3, 4))
    changes = changes_of(network, targets @ oracle.W[0], targets)
    assert max(np.abs(change).max() for change in changes.values()) < 1e-12


def test_an_unstable_step_is_warned_of() -> None:
    network = LocalBackpropNetwork([5, 3], simulation_time=0.1)
    network.inward[0].kernel.assign(8.0 * np.eye(5, 3))
    number = 0.007 * (10 * 65 + 1)
    assert f"is {number:.3g}" in network.instability()
    network.compile(keras.optimizers.SGD(0.0))
    with pytest.warns(
        UserWarning, match="Euler's method oscillates from 2 on. Try a smaller `time"
    ):
        network.fit(np.zeros((2, 5), "float32"), np.array([0, 1]), verbose=0)
    network.inward[0].kernel.assign(5.0 * np.eye(5, 3))
    assert network.instability() is None
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        network.fit(np.zeros((2, 5), "float32"), np.array([0, 1]), verbose=0)


def test_fixed_weights_are_no_trainable_ones() -> None:
    network = LocalBackpropNetwork([6, 5, 3], fix_A="last", learn_bias=False)
    trainable = [weight.path.split("/")[-2] for weight in network.trainable_variables]
    assert trainable == ["W_1", "W_2"]
    frozen = [weight.path.split("/")[-2] for weight in network.non_trainable_variables]
    assert "A_1" in frozen
    assert "A_2" not in frozen


@pytest.mark.daily
def test_ten_digits_are_learned_without_an_error() -> None:
    """The first experiment of the slides, on scikit-learn's digits."""
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    images = ((images - images.mean()) / images.std()).astype("float32")
    ten = [int(np.argmax(labels == digit)) for digit in range(10)]
    network = LocalBackpropNetwork([64, 10], simulation_time=1.0)
    network.compile(keras.optimizers.SGD(0.3), metrics=["accuracy"])
    history = network.fit(images[ten], labels[ten], batch_size=10, epochs=8, verbose=0).history
    assert history["accuracy"][0] < 0.9
    assert history["accuracy"][-1] == 1.0


BAD: list[tuple[str, dict[str, Any]]] = [
    ("activation", {"activation": "tanh"}),
    ("steepness", {"steepness": 0.0}),
    ("tau", {"tau": 0.0}),
    ("simulation_time", {"simulation_time": -1.0}),
    ("time_step", {"time_step": 0.0}),
    ("fix_A", {"fix_A": "first"}),
    ("error_sizes", {"error_sizes": [3, 3]}),
    ("error_sizes", {"error_sizes": [5], "fix_A": None}),
    ("sizes", {"fix_W": True}),
    ("precision", {"precision": (1.0, 1.0)}),
    ("precision", {"precision": (1.0, 1.0, -1.0)}),
    ("gated", {"gated": True}),
    ("init_scale", {"init_scale": -0.1}),
]


@pytest.mark.parametrize(("argument", "arguments"), BAD)
def test_bad_arguments(argument: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"`{argument}` must be"):
        LocalBackpropNetwork(**{"sizes": [4, 3, 2], **arguments})
