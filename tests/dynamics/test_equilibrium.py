"""Equilibrium propagation against NumPy loops, and against the gradient that it stands for."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from keras_local.dynamics import EquilibriumNetwork
from tests.dynamics import phases
from tests.oracles_dynamics import Equilibrium, relative_error, steep_sigmoid
from tests.support import BACKEND, array, tensorflow_only, two_replicas

pytestmark = pytest.mark.skipif(BACKEND == "jax", reason="JAX has no float64 unless asked for")

SIZES = [8, 10, 6, 3]
STEPS = 80


def hopfield(s: np.ndarray, u: np.ndarray) -> np.ndarray:
    return np.clip(s + 0.5 * (u - s), 0, 1)


def prototypical(s: np.ndarray, u: np.ndarray) -> np.ndarray:
    return steep_sigmoid(u)


def problem(gain: float = 0.5, shift: float = 0.0, **arguments: Any) -> tuple[Any, ...]:
    """A network in float64, its oracle, samples and targets."""
    rng = np.random.default_rng(5)
    network = EquilibriumNetwork(SIZES, dtype="float64", **arguments)
    kernels = [gain * rng.normal(size=(a, b)) / np.sqrt(a) for a, b in pairwise(SIZES)]
    biases = [shift + 0.1 * rng.normal(size=b) for b in SIZES[1:]]
    for synapses, kernel, bias in zip(network.synapses, kernels, biases, strict=True):
        synapses.kernel.assign(kernel)
        synapses.bias.assign(bias)
    move = hopfield if network.form == "hopfield" else prototypical
    oracle = Equilibrium(kernels, biases, move, network.cost_name)
    inputs, targets = rng.random((5, 8)), np.eye(3)[rng.integers(0, 3, 5)]
    return network, oracle, inputs, targets


def free_and_changes(network: Any, inputs: np.ndarray, targets: np.ndarray) -> tuple[Any, Any]:
    """The free states, and the changes by the weights' names."""
    steps = network.free_steps + network.nudged_steps
    free, changes = phases.free_and_changes(network, inputs, targets, steps)
    return free, {weight.path.split("/", 1)[-1]: change for weight, change in changes}


def kernels_of(changes: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [change for path, change in changes.items() if path.endswith("/kernel")]


@pytest.mark.parametrize("form", ["hopfield", "prototypical"])
@pytest.mark.parametrize("cost", ["mse", "cross_entropy"])
def test_states_and_changes_are_those_of_the_oracle(form: str, cost: str) -> None:
    """Short phases: every step counts."""
    network, oracle, inputs, targets = problem(
        1.0, 0.3, form=form, cost=cost, nudging="one_sided", nudge=0.5, free_steps=7, nudged_steps=3
    )
    free, changes = free_and_changes(network, inputs, targets)
    expected = oracle.settle(inputs, 7)
    for found, wanted in zip(free, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-13)
    nudged = oracle.settle(inputs, 3, targets, 0.5, start=expected)
    before, after = oracle.correlations(inputs, expected), oracle.correlations(inputs, nudged)
    for k in range(len(free)):
        for kind, name in enumerate(("kernel", "bias")):
            wanted = (after[kind][k] - before[kind][k]) / 0.5
            found = changes[f"synapses_{k + 1}/{name}"]
            np.testing.assert_allclose(found, wanted, atol=1e-13)
            assert np.abs(wanted).max() > 1e-3
    if cost == "cross_entropy":
        error = targets - oracle.output(expected)
        wanted = expected[-1].T @ error / len(inputs)
        np.testing.assert_allclose(changes["synapses_3/kernel"], wanted, atol=1e-13)


@pytest.mark.parametrize("cost", ["mse", "cross_entropy"])
def test_orders_of_convergence(cost: str) -> None:
    """Half the nudge, half the error if one-sided, a quarter if centred: EP-1 and EP-2."""
    network, oracle, inputs, targets = problem(form="prototypical", cost=cost)
    network.free_steps, network.nudged_steps = 3 * STEPS, 3 * STEPS
    gradient = oracle.gradient(inputs, targets, STEPS)
    errors: dict[str, list[list[float]]] = {}
    for nudging in ("one_sided", "centred"):
        network.nudging = nudging
        for nudge in (0.125, 0.0625):
            network.nudge = nudge
            changes = kernels_of(free_and_changes(network, inputs, targets)[1])
            pairs = zip(changes, gradient, strict=True)
            errors.setdefault(nudging, []).append([relative_error(-c, g) for c, g in pairs])
    settled = slice(None) if cost == "mse" else slice(0, 2)
    assert max(errors["one_sided"][1]) < 0.25
    ratios = np.divide(*errors["one_sided"])[settled]
    np.testing.assert_allclose(ratios, 2.0, rtol=0.25)
    ratios = np.divide(*errors["centred"])[settled]
    np.testing.assert_allclose(ratios, 4.0, rtol=0.15)
    # Above the states, the change is the gradient itself.
    if cost == "cross_entropy":
        assert errors["centred"][0][2] < 1e-8


def test_the_gradient_is_that_of_the_equilibrium_not_of_the_feedforward_network() -> None:
    """EP-3: the distance to the gradient of the network without feedback does not shrink."""
    network, oracle, inputs, targets = problem(form="prototypical", nudging="centred")
    network.free_steps, network.nudged_steps = 3 * STEPS, 3 * STEPS
    right = oracle.gradient(inputs, targets, STEPS)
    wrong = feedforward_gradient(oracle, inputs, targets)
    for nudge in (0.0625, 0.03125):
        network.nudge = nudge
        changes = kernels_of(free_and_changes(network, inputs, targets)[1])
        near = [relative_error(-c, g) for c, g in zip(changes, right, strict=True)]
        far = [relative_error(-c, g) for c, g in zip(changes, wrong, strict=True)]
        assert max(near) < 0.02
        assert min(far) > 0.1


@pytest.mark.few(1)
@pytest.mark.parametrize("cost", ["mse", "cross_entropy"])
def test_holomorphic_nudges(cost: str) -> None:
    """Two points are the centred estimate; with four, half the nudge, a sixteenth of the error."""
    arguments = {"form": "prototypical", "cost": cost}
    centred, oracle, inputs, targets = problem(nudging="centred", **arguments)
    network, *_ = problem(nudging="holomorphic", points=2, **arguments)
    _, wanted = free_and_changes(centred, inputs, targets)
    _, found = free_and_changes(network, inputs, targets)
    for path, change in wanted.items():
        np.testing.assert_allclose(found[path], change, atol=1e-12)
        assert np.abs(change).max() > 1e-4
    network.free_steps, network.nudged_steps, network.points = 3 * STEPS, 3 * STEPS, 4
    gradient = oracle.gradient(inputs, targets, STEPS)
    errors = []
    for network.nudge in (0.125, 0.0625):
        changes = kernels_of(free_and_changes(network, inputs, targets)[1])
        pairs = list(zip(changes, gradient, strict=True))[: 3 if cost == "mse" else 2]
        errors.append([relative_error(-c, g) for c, g in pairs])
    np.testing.assert_allclose(np.divide(*errors), 16.0, rtol=0.35)
    assert max(errors[1]) < 1e-3


@pytest.mark.parametrize("nudging", ["one_sided", "centred", "holomorphic"])
def test_the_published_readout_learns_where_the_states_are_nudged(nudging: str) -> None:
    """The mean over the nudged phases of the gradient of the cross-entropy, sample by sample."""
    nudge, points = 1.0, 6
    arguments = {"form": "prototypical", "cost": "cross_entropy", "nudging": nudging}
    arguments |= {"nudge": nudge, "points": points, "free_steps": 9, "nudged_steps": 4}
    network, oracle, inputs, targets = problem(1.0, readout_phase="nudged", **arguments)
    _, found = free_and_changes(network, inputs, targets)
    turns = {"one_sided": [1.0], "centred": [1.0, -1.0]}.get(
        nudging, np.exp(2j * np.pi * np.arange(points) / points)
    )
    kernel, bias = np.zeros((6, 3), complex), np.zeros(3, complex)
    rest = oracle.settle(inputs, 9)
    for turn in turns:
        start = [layer.astype(complex) for layer in rest]
        states = oracle.settle(inputs, 4, targets, nudge * turn, start=start, dtype=complex)
        for top, output, label in zip(states[-1], oracle.output(states), targets, strict=True):
            kernel += np.outer(top, label - output) / (len(turns) * len(inputs))
            bias += (label - output) / (len(turns) * len(inputs))
    assert np.abs(kernel.imag).max() < 1e-12
    assert relative_error(found["synapses_3/kernel"], kernel.real) < 1e-10
    assert relative_error(found["synapses_3/bias"], bias.real) < 1e-10
    # The other form differs, and so do nudges of none of the phases.
    other, *_ = problem(1.0, **arguments)
    at_rest = free_and_changes(other, inputs, targets)[1]
    assert relative_error(at_rest["synapses_3/kernel"], kernel.real) > 1e-3
    for path, change in at_rest.items():
        if not path.startswith("synapses_3"):
            np.testing.assert_array_equal(found[path], change)


def test_the_published_readout_follows_the_random_sign() -> None:
    arguments = {"form": "prototypical", "cost": "cross_entropy", "nudge": 1.0}
    arguments |= {"readout_phase": "nudged", "free_steps": 9, "nudged_steps": 4}
    network, oracle, inputs, targets = problem(1.0, nudging="random_sign", **arguments)
    signs = []
    rest = oracle.settle(inputs, 9)
    for _ in range(8):
        found = free_and_changes(network, inputs, targets)[1]["synapses_3/bias"]
        for sign in (1.0, -1.0):
            states = oracle.settle(inputs, 4, targets, sign, start=rest)
            if np.allclose(found, (targets - oracle.output(states)).mean(axis=0), atol=1e-12):
                signs.append(sign)
    assert len(signs) == 8
    assert set(signs) == {1.0, -1.0}


def feedforward_gradient(oracle: Equilibrium, inputs: np.ndarray, targets: np.ndarray) -> Any:
    """Backpropagation through the same weights, without those back."""
    layers = [inputs]
    for kernel, bias in zip(oracle.kernels, oracle.biases, strict=True):
        layers.append(steep_sigmoid(layers[-1] @ kernel + bias))
    error, found = layers[-1] - targets, []
    for k in reversed(range(len(oracle.kernels))):
        error = error * 4 * layers[k + 1] * (1 - layers[k + 1])
        found.insert(0, layers[k].T @ error / len(inputs))
        error = error @ oracle.kernels[k].T
    return found


@pytest.mark.few(3)
@pytest.mark.parametrize("nudging", ["one_sided", "random_sign", "centred"])
@pytest.mark.parametrize("form", ["hopfield", "prototypical"])
def test_nothing_is_learned_where_the_output_is_the_target(form: str, nudging: str) -> None:
    network, _, inputs, targets = problem(form=form, nudging=nudging)
    network.free_steps = 4 * STEPS
    free, _ = free_and_changes(network, inputs, targets)
    _, changes = free_and_changes(network, inputs, free[-1])
    assert max(np.abs(change).max() for change in changes.values()) < 1e-12
    _, changes = free_and_changes(network, inputs, targets)
    assert min(np.abs(change).max() for change in changes.values()) > 1e-4


def test_the_energy_never_rises_in_the_free_phase() -> None:
    network, oracle, inputs, _ = problem(1.0, 0.3, free_steps=60, step_size=0.2)
    states = network.trajectories(inputs)
    energies = np.stack(
        [array(network.energy(inputs, [layer[t] for layer in states])) for t in range(61)]
    )
    assert np.diff(energies, axis=0).max() <= 1e-14
    assert np.ptp(energies, axis=0).min() > 0.1
    s = [array(layer[-1])[0] for layer in states]
    wanted = 0.5 * sum(np.sum(layer**2) for layer in s)
    for below, kernel, bias, layer in zip(
        [inputs[0], *s], oracle.kernels, oracle.biases, s, strict=False
    ):
        wanted -= (below @ kernel + bias) @ layer
    assert energies[-1, 0] == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("activation", ["unit_clip", "half_clip", "steep_sigmoid", "tanh"])
def test_the_rates_are_stationary_points_of_the_energy(activation: str) -> None:
    """Finite differences of the energy at the equilibrium, at units that are not clipped."""
    network, _, inputs, _ = problem(0.5, 0.3, form="prototypical", activation=activation)
    network.free_steps = 3 * STEPS
    states = [array(layer) for layer in network.free_phase(ops.convert_to_tensor(inputs))]
    checked = 0
    for layer in states:
        for unit in range(layer.shape[1]):
            if not 0.01 < abs(layer[0, unit]) < 0.99:
                continue
            ends, value = [], layer[0, unit]
            for sign in (1, -1):
                layer[0, unit] = value + sign * 1e-5
                ends.append(array(network.energy(inputs, states))[0])
            layer[0, unit] = value
            assert abs(ends[0] - ends[1]) / 2e-5 < 1e-8
            checked += 1
    assert checked > 5


def test_separate_feedback() -> None:
    """Equal weights make it the tied network; the two kernels get the same changes."""
    tied, _, inputs, targets = problem(form="prototypical", nudging="centred")
    apart, *_ = problem(form="prototypical", nudging="centred", feedback="separate")
    free, _ = free_and_changes(apart, inputs, targets)
    assert np.abs(free[0] - free_and_changes(tied, inputs, targets)[0][0]).max() > 1e-3
    for synapses in apart.synapses[1:]:
        synapses.feedback_kernel.assign(synapses.kernel)
    _, wanted = free_and_changes(tied, inputs, targets)
    _, found = free_and_changes(apart, inputs, targets)
    for path, change in wanted.items():
        np.testing.assert_allclose(found[path], change, atol=1e-15)
    for k in (2, 3):
        np.testing.assert_array_equal(
            found[f"synapses_{k}/feedback_kernel"], found[f"synapses_{k}/kernel"]
        )
    assert apart.synapses[0].feedback_kernel is None


def test_rate_factors_scale_the_changes_of_the_layers() -> None:
    factors = (2.0, 0.5, 0.0)
    plain, _, inputs, targets = problem(nudging="centred")
    scaled, *_ = problem(nudging="centred", rate_factors=factors)
    _, wanted = free_and_changes(plain, inputs, targets)
    _, found = free_and_changes(scaled, inputs, targets)
    for k, factor in enumerate(factors):
        for name in ("kernel", "bias"):
            path = f"synapses_{k + 1}/{name}"
            np.testing.assert_allclose(found[path], factor * wanted[path], atol=1e-15)


def test_optimizers_that_erase_the_factors_are_warned_of() -> None:
    network = EquilibriumNetwork([4, 3, 2], rate_factors=(1.0, 0.1))
    with pytest.warns(UserWarning, match="erases the factors"):
        network.compile("adam")
    network.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    EquilibriumNetwork([4, 3, 2]).compile("adam")


@tensorflow_only
def test_a_step_of_fit_moves_the_weights_by_the_changes() -> None:
    network, _, inputs, targets = problem(nudging="centred")
    inputs = inputs.astype("float32").astype("float64")  # as Keras hands them on
    _, changes = free_and_changes(network, inputs, targets)
    before = {w.path.split("/", 1)[-1]: array(w) for w in network.trainable_variables}
    network.compile(keras.optimizers.SGD(0.5), jit_compile=False)
    network.fit(inputs, targets, batch_size=5, verbose=0)
    for weight in network.trainable_variables:
        path = weight.path.split("/", 1)[-1]
        np.testing.assert_allclose(array(weight) - before[path], 0.5 * changes[path], atol=1e-14)


@pytest.mark.few(1)
@pytest.mark.parametrize("cost", ["mse", "cross_entropy"])
def test_persistent_states_go_on_where_they_were_left(cost: str) -> None:
    """Without a learning rate, an epoch of 3 steps after one is one of 6 steps, in any batches."""
    network, oracle, _, _ = problem(cost=cost, free_steps=3, persistent=7)
    # Keras feeds single precision.
    inputs = np.random.default_rng(1).random((7, 8)).astype("float32")
    labels = np.arange(7) % 3
    network.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    wanted = [np.zeros((7, units)) for units in network.memory.units]
    for _ in range(3):
        wanted = oracle.settle(inputs, 3, start=wanted)
        loss = network.fit(inputs, labels, batch_size=3, shuffle=False, verbose=0).history["loss"]
        for found, states in zip(network.memory.layers, wanted, strict=True):
            np.testing.assert_allclose(array(found), states, atol=1e-13)
    # Prediction begins at zero.
    scores = array(network(inputs))
    fresh = problem(cost=cost, free_steps=3)[0]
    np.testing.assert_allclose(scores, array(fresh(inputs)), atol=1e-13)
    longer = problem(cost=cost, free_steps=9)[0]
    longer.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    assert loss[0] == pytest.approx(longer.evaluate(inputs, labels, verbose=0), rel=1e-6)


def test_persistent_states_need_an_order() -> None:
    network = EquilibriumNetwork([8, 5, 3], persistent=6)
    network.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    inputs, labels = np.random.default_rng(1).random((6, 8)), np.arange(6) % 3
    with pytest.raises(ValueError, match="`shuffle` must be False"):
        network.fit(inputs, labels, verbose=0)
    with pytest.raises(ValueError, match="`x` must be 6 samples"):
        network.fit(inputs[:4], labels[:4], shuffle=False, verbose=0)
    assert not np.any(array(network.memory.layers[0]))
    network.fit(inputs, labels, shuffle=False, batch_size=4, verbose=0)
    assert np.all(np.any(array(network.memory.layers[0]) != 0, axis=1))


def test_persistent_states_begin_with_the_data(tmp_path: Path) -> None:
    """Not where a training that was broken off, or a backup from inside of an epoch, left them."""

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 1:
                raise KeyboardInterrupt

    def make() -> EquilibriumNetwork:
        network = EquilibriumNetwork([8, 5, 3], persistent=7, free_steps=2)
        network.compile(keras.optimizers.SGD(0.1), jit_compile=False)
        return network

    inputs, labels = np.random.default_rng(1).random((7, 8)), np.arange(7) % 3
    fit = partial(EquilibriumNetwork.fit, x=inputs, y=labels, batch_size=3, verbose=0)
    network = make()
    with pytest.raises(KeyboardInterrupt):
        fit(network, shuffle=False, callbacks=[Stop()])
    states = [array(layer) for layer in network.memory.layers]
    assert np.all(np.any(states[0][:6] != 0, axis=1))
    fit(network, shuffle=False, callbacks=[keras.callbacks.LambdaCallback()])
    assert int(array(network.memory.place)) == 0
    backup = partial(keras.callbacks.BackupAndRestore, tmp_path / "backup", save_freq=2)
    broken, resumed = make(), make()
    with pytest.raises(KeyboardInterrupt):
        fit(broken, shuffle=False, callbacks=[backup(), Stop()])
    fit(resumed, shuffle=False, callbacks=[backup()])
    # The epoch was begun anew, with weights and states from inside of it.
    fit(broken, shuffle=False)
    for one, other in zip(resumed.memory.layers, broken.memory.layers, strict=True):
        np.testing.assert_allclose(array(one), array(other), atol=1e-6)


@tensorflow_only
@pytest.mark.daily
def test_persistent_states_of_two_replicas(tmp_path: Path) -> None:
    """Equal to one device's, in each replica and in a file."""
    inputs = np.random.default_rng(1).random((12, 8)).astype("float32")
    labels = np.arange(12) % 3

    def make() -> EquilibriumNetwork:
        network = EquilibriumNetwork([8, 5, 3], persistent=12, free_steps=2)
        network.compile(keras.optimizers.SGD(0.1), jit_compile=False)
        return network

    one = make()
    with two_replicas().scope():
        both = make()
    both.set_weights(one.get_weights())
    for network in (one, both):
        network.fit(inputs, labels, batch_size=4, epochs=3, shuffle=False, verbose=0)
    for found, expected in zip(both.weights, one.weights, strict=True):
        np.testing.assert_allclose(array(found), array(expected), atol=1e-6)
    both.save_weights(tmp_path / "net.weights.h5")
    again = make()
    again.load_weights(tmp_path / "net.weights.h5")
    for layer, expected in zip(both.memory.layers, again.memory.layers, strict=True):
        for replica in layer.value.values:
            np.testing.assert_array_equal(replica.numpy(), array(expected))


def test_presets() -> None:
    network = EquilibriumNetwork.preset("784-500-10")
    assert (network.free_steps, network.nudged_steps, network.nudge) == (20, 4, 0.5)
    assert network.rate_factors == (0.1, 0.05)
    assert network.nudging == "random_sign"
    deep = EquilibriumNetwork.preset("784-500-500-500-10", sizes=[4, 5, 5, 5, 3], nudge=0.5)
    assert (deep.free_steps, deep.nudge, deep.sizes) == (500, 0.5, (4, 5, 5, 5, 3))


BAD: list[tuple[str, dict[str, Any]]] = [
    ("sizes", {"sizes": [4]}),
    ("sizes", {"sizes": 4}),
    ("sizes", {"sizes": [4, 0, 2]}),
    ("sizes", {"sizes": [4, 1]}),
    ("sizes", {"sizes": [4, 2], "cost": "cross_entropy"}),
    ("form", {"form": "spiking"}),
    ("activation", {"activation": "tanh"}),
    ("activation", {"form": "prototypical", "activation": "relu"}),
    ("cost", {"cost": "hinge"}),
    ("nudging", {"nudging": "both"}),
    ("persistent", {"persistent": 0}),
    ("nudge", {"nudge": 0.0}),
    ("nudge", {"nudge": 1.5}),
    ("free_steps", {"free_steps": 0}),
    ("nudged_steps", {"nudged_steps": 2.5}),
    ("step_size", {"step_size": -0.1}),
    ("rate_factors", {"rate_factors": (1.0,)}),
    ("rate_factors", {"rate_factors": (1.0, -1.0)}),
    ("feedback", {"feedback": "random"}),
    ("seed", {"seed": -1}),
    ("points", {"points": 1}),
    ("activation", {"form": "prototypical", "nudging": "holomorphic", "activation": "unit_clip"}),
]


@pytest.mark.parametrize(("argument", "arguments"), BAD)
def test_bad_arguments(argument: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"`{argument}` must be"):
        EquilibriumNetwork(**{"sizes": [4, 3, 2], **arguments})


def test_unknown_preset() -> None:
    with pytest.raises(ValueError, match="`name` must be one of"):
        EquilibriumNetwork.preset("784-10")
