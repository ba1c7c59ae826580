"""Difference target propagation: the losses of its layers, and where it is backpropagation."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from keras_local.dynamics import DifferenceTargetPropagation
from tests.oracles_dynamics import backpropagation, relative_error
from tests.support import BACKEND, array, weights_of

double = pytest.mark.skipif(BACKEND == "jax", reason="JAX has no float64 unless asked for")

SIZES = [6, 8, 5, 7, 4]
SQUARE = [6, 5, 5, 5, 4]


def linear(u: np.ndarray) -> np.ndarray:
    return u


def softmax(u: np.ndarray) -> np.ndarray:
    powers = np.exp(u)
    return powers / powers.sum(axis=-1, keepdims=True)


def problem(sizes: list[int] = SIZES, **arguments: Any) -> tuple[Any, ...]:
    """A network in float64, its `W`, `b`, `V` and `c`, samples and targets."""
    rng = np.random.default_rng(2)
    network = DifferenceTargetPropagation(sizes, dtype="float64", **arguments)
    shapes = list(pairwise(sizes))
    W = [rng.normal(size=shape) / np.sqrt(shape[0]) for shape in shapes]
    b = [0.1 * rng.normal(size=shape[1]) for shape in shapes]
    V = [rng.normal(size=shape) / np.sqrt(shape[1]) for shape in shapes]
    c = [0.1 * rng.normal(size=shape[0]) for shape in shapes]
    give(network, W, b, V, c)
    x, t = rng.normal(size=(5, sizes[0])), np.eye(4)[rng.integers(0, 4, 5)]
    return network, (W, b, V, c), x, t


def give(network: Any, W: Any, b: Any, V: Any, c: Any) -> None:
    for k, synapses in enumerate(network.synapses):
        synapses.kernel.assign(W[k])
        synapses.bias.assign(b[k])
        if synapses.feedback_kernel is not None:
            synapses.feedback_kernel.assign(V[k])
    for k, bias in enumerate(network.inverse_biases):
        bias.assign(c[k + 1])


def rates_of(inputs: np.ndarray, W: Any, b: Any, f: Callable[..., Any]) -> list[np.ndarray]:
    """Inputs, rates of the hidden layers, probabilities."""
    layers = [inputs]
    for kernel, bias in zip(W[:-1], b[:-1], strict=True):
        layers.append(f(layers[-1] @ kernel + bias))
    return [*layers, softmax(layers[-1] @ W[-1] + b[-1])]


def targets_of(h: Any, W: Any, V: Any, c: Any, f: Any, t: np.ndarray, rate: float) -> Any:
    """Targets of layers 1 to M - 1, at their numbers; loops over samples."""
    top = len(W) - 1
    found = {k: h[k].copy() for k in range(1, top + 1)}
    for sample in range(len(t)):
        found[top][sample] -= rate * W[top] @ (h[top + 1][sample] - t[sample])
        for k in range(top, 1, -1):
            there = f(V[k - 1] @ found[k][sample] + c[k - 1])
            here = f(V[k - 1] @ h[k][sample] + c[k - 1])
            found[k - 1][sample] = h[k - 1][sample] + there - here
    return found


def slope(loss: Callable[[], float], weight: np.ndarray, width: float = 1e-6) -> np.ndarray:
    """Central differences of a loss at a weight that it reads."""
    found = np.zeros(weight.shape)
    for place in np.ndindex(weight.shape):
        kept = weight[place]
        weight[place] = kept + width
        up = loss()
        weight[place] = kept - width
        found[place] = (up - loss()) / (2 * width)
        weight[place] = kept
    return found


def changes_of(network: Any, inputs: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    x, y = ops.convert_to_tensor(inputs), ops.convert_to_tensor(targets)
    share = ops.full((len(inputs),), 1 / len(inputs), dtype=network.working_dtype)
    changes = network.changes(x, y, network.free_phase(x), share)
    return {"/".join(weight.path.split("/")[-2:]): array(change) for weight, change in changes}


def at(found: dict[str, np.ndarray], name: str) -> np.ndarray:
    return next(change for path, change in found.items() if path.endswith(name))


@double
@pytest.mark.parametrize(("activation", "f"), [("tanh", np.tanh), ("linear", linear)])
def test_forward_weights_descend_the_distance_of_their_layer_from_its_target(
    activation: str, f: Any
) -> None:
    network, (W, b, V, c), x, t = problem(target_rate=0.4, activation=activation)
    h = rates_of(x, W, b, f)
    wanted = targets_of(h, W, V, c, f, t, 0.4)
    states = network.free_phase(ops.convert_to_tensor(x))
    for k, found in enumerate(network.layer_targets(states, ops.convert_to_tensor(t)), start=1):
        np.testing.assert_allclose(array(found), wanted[k], atol=1e-14)
        assert np.abs(wanted[k] - h[k]).max() > 1e-2
    changes = changes_of(network, x, t)
    for k in range(1, 4):

        def local(k: int = k) -> float:
            return float(((f(h[k - 1] @ W[k - 1] + b[k - 1]) - wanted[k]) ** 2).sum() / len(x))

        for weight, name in ((W[k - 1], "kernel"), (b[k - 1], "bias")):
            found = changes[f"synapses_{k}/{name}"]
            np.testing.assert_allclose(found, -slope(local, weight), atol=1e-9)
            assert np.abs(found).max() > 1e-2


@double
def test_the_output_descends_the_cross_entropy() -> None:
    network, (W, b, _, _), x, t = problem()
    h = rates_of(x, W, b, np.tanh)

    def cost() -> float:
        return -float((t * np.log(softmax(h[3] @ W[3] + b[3]))).sum() / len(x))

    changes = changes_of(network, x, t)
    np.testing.assert_allclose(changes["synapses_4/kernel"], -slope(cost, W[3]), atol=1e-9)
    np.testing.assert_allclose(changes["synapses_4/bias"], -slope(cost, b[3]), atol=1e-9)
    assert np.abs(changes["synapses_4/kernel"]).max() > 1e-2
    loss = array(network.cost(ops.convert_to_tensor(t), ops.convert_to_tensor(h[4])))
    assert loss.mean() == pytest.approx(cost())


@double
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_inverse_weights_descend_the_distance_of_what_they_bring_back(noise: float) -> None:
    network, (W, b, V, c), x, t = problem(noise=noise, inverse_rate=0.5, seed=4)
    h = rates_of(x, W, b, np.tanh)
    changes = changes_of(network, x, t)
    draws = keras.random.SeedGenerator(4)
    for k in (2, 3):
        start = h[k - 1]
        if noise:
            drawn = keras.random.normal(start.shape, 0.0, noise, "float64", seed=draws)
            start = start + array(drawn)

        def local(k: int = k, start: np.ndarray = start) -> float:
            above = np.tanh(start @ W[k - 1] + b[k - 1])
            back = np.tanh(above @ V[k - 1].T + c[k - 1])
            return float(((back - start) ** 2).sum() / len(x))

        found = changes[f"synapses_{k}/feedback_kernel"]
        np.testing.assert_allclose(found, -0.5 * slope(local, V[k - 1]), atol=1e-9)
        assert np.abs(found).max() > 1e-2
        wanted = -0.5 * slope(local, c[k - 1])
        np.testing.assert_allclose(at(changes, f"inverse_bias_{k}"), wanted, atol=1e-9)


@double
def test_the_noise_is_normal_and_of_that_deviation() -> None:
    """Of linear units the mean change is known: noise adds its covariance to that of rates."""
    network, (W, b, V, c), x, _ = problem(noise=1.0, activation="linear", inverse_rate=1.0, seed=1)
    x, t = np.repeat(x[:1], 20000, axis=0), np.repeat(np.eye(4)[:1], 20000, axis=0)
    found = changes_of(network, x, t)["synapses_2/feedback_kernel"]
    h = rates_of(x[:1], W, b, linear)[1]

    def wanted(variance: float) -> np.ndarray:
        above = h @ W[1] + b[1]
        second = above.T @ above + variance * W[1].T @ W[1]
        kernel = V[1] @ second + np.outer(c[1], above)
        return 2 * (h.T @ above + variance * W[1] - kernel)

    assert relative_error(found, wanted(1.0)) < 0.03
    assert relative_error(wanted(0.5), wanted(1.0)) > 0.1


@double
def test_an_orthogonal_linear_network_with_exact_inverses_is_backpropagation() -> None:
    """DTP-1: distances from targets are its errors, times the rate of the targets."""
    network, (W, b, V, c), x, t = problem(SQUARE, target_rate=0.7, activation="linear", noise=0.0)
    for k in (1, 2):
        W[k] = np.linalg.qr(W[k])[0]
        V[k] = W[k]
        c[k] = -b[k] @ W[k].T
    give(network, W, b, V, c)
    h = rates_of(x, W, b, linear)
    delta = t - h[4]
    ones = [np.ones_like(layer) for layer in h[1:4]]
    wanted, errors = backpropagation(h[:4], W, ones, delta)
    states = network.free_phase(ops.convert_to_tensor(x))
    targets = network.layer_targets(states, ops.convert_to_tensor(t))
    for k in range(3):
        difference = array(targets[k]) - h[k + 1]
        np.testing.assert_allclose(difference, 0.7 * errors[k], atol=1e-14)
        assert np.abs(difference).max() > 1e-2
    changes = changes_of(network, x, t)
    for k in range(3):
        found = changes[f"synapses_{k + 1}/kernel"]
        np.testing.assert_allclose(found, 2 * 0.7 * wanted[k], atol=1e-13)
    np.testing.assert_allclose(changes["synapses_4/kernel"], wanted[3], atol=1e-14)
    # The inverses are exact: they have nothing to learn.
    for k in (2, 3):
        assert np.abs(changes[f"synapses_{k}/feedback_kernel"]).max() < 1e-13


@double
def test_exact_inverses_of_other_linear_maps_are_not_transposes() -> None:
    """A layer at its target brings the one above to its own; the error is another."""
    network, (W, b, V, c), x, t = problem(SQUARE, activation="linear")
    for k in (1, 2):
        V[k] = np.linalg.inv(W[k]).T
        c[k] = -b[k] @ V[k].T
    give(network, W, b, V, c)
    h = rates_of(x, W, b, linear)
    states = network.free_phase(ops.convert_to_tensor(x))
    targets = [array(each) for each in network.layer_targets(states, ops.convert_to_tensor(t))]
    for k in (1, 2):
        np.testing.assert_allclose(targets[k - 1] @ W[k] + b[k], targets[k], atol=1e-12)
        assert np.abs(targets[k] - h[k + 1]).max() > 1e-2
    ones = [np.ones_like(layer) for layer in h[1:4]]
    _, errors = backpropagation(h[:4], W, ones, t - h[4])
    assert relative_error(targets[0] - h[1], network.target_rate * errors[0]) > 0.3


@double
def test_targets_are_carried_by_the_slope_of_the_inverse_for_small_steps() -> None:
    """Half the rate of the targets, half the distance from the linear map."""
    errors = []
    for rate in (1e-3, 5e-4):
        network, (W, b, V, c), x, t = problem(target_rate=rate)
        h = rates_of(x, W, b, np.tanh)
        step = -rate * (h[4] - t) @ W[3].T
        for k in (3, 2):
            back = np.tanh(h[k] @ V[k - 1].T + c[k - 1])
            step = (step @ V[k - 1].T) * (1 - back**2)
        states = network.free_phase(ops.convert_to_tensor(x))
        targets = network.layer_targets(states, ops.convert_to_tensor(t))
        errors.append(relative_error(array(targets[0]) - h[1], step))
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.05)
    assert errors[1] < 1e-3


def trained(phase: str, optimizer: Any) -> tuple[Any, list[np.ndarray]]:
    network = DifferenceTargetPropagation([6, 8, 5, 4], phase=phase, seed=1)
    before = weights_of(network)
    network.compile(optimizer)
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(20, 6)).astype("float32")
    network.fit(inputs, np.arange(20) % 4, batch_size=10, verbose=0)
    return network, before


def pairs(network: Any, before: list[np.ndarray]) -> list[tuple[Any, np.ndarray]]:
    """All weights but the state of the noise, and where they began."""
    both = zip(network.weights, before, strict=True)
    return [(weight, start) for weight, start in both if weight.name != "seed_generator_state"]


def is_inverse(weight: Any) -> bool:
    return weight.name == "feedback_kernel" or weight.name.startswith("inverse_bias")


@pytest.mark.parametrize("phase", ["forward", "inverse"])
def test_each_loss_teaches_its_own_weights(phase: str) -> None:
    network, before = trained(phase, keras.optimizers.RMSprop(0.01, momentum=0.9))
    assert sum(map(is_inverse, network.weights)) == 2
    for weight, start in pairs(network, before):
        moved = np.abs(array(weight) - start).max()
        mine = is_inverse(weight) == (phase == "inverse")
        assert moved > 1e-3 if mine else moved == 0.0, weight.path


@pytest.mark.slow
def test_epochs_of_the_two_kinds_alternate() -> None:
    """Each with an optimizer of its own, which remembers its moments; nothing traced stays."""
    optimizers = {"inverse": keras.optimizers.SGD(0.05, momentum=0.9)}
    network, _ = trained("inverse", optimizers["inverse"])
    optimizers["forward"] = keras.optimizers.SGD(0.01, momentum=0.9)
    inputs = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")
    for phase in ("forward", "inverse"):
        before = weights_of(network)
        network.phase = phase
        network.compile(optimizers[phase])
        network.fit(inputs, np.arange(20) % 4, batch_size=10, verbose=0)
        for weight, start in pairs(network, before):
            moved = np.abs(array(weight) - start).max()
            mine = is_inverse(weight) == (phase == "inverse")
            assert moved > 1e-4 if mine else moved == 0.0, weight.path
    assert int(array(optimizers["inverse"].iterations)) == 4
    # Without compiling anew, too.
    before = weights_of(network)
    network.phase = "forward"
    network.fit(inputs, np.arange(20) % 4, batch_size=10, verbose=0)
    moved = [np.abs(array(w) - start).max() > 1e-4 for w, start in pairs(network, before)]
    assert moved[0]
    with pytest.raises(ValueError, match="`phase` must be one of"):
        network.phase = "backward"
    assert network.phase == "forward"


def test_noise_follows_from_the_seed_and_goes_on_after_saving(tmp_path: Path) -> None:
    """Between two batches of the same samples only noise makes a difference."""
    inputs, labels = np.random.default_rng(0).normal(size=(20, 6)), np.arange(20) % 4
    networks = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(0)
        network = DifferenceTargetPropagation([6, 8, 5, 4], seed=seed)
        network.compile(keras.optimizers.SGD(0.1))
        network.train_on_batch(inputs, labels)
        networks.append(network)
    first, same, other = (array(network.synapses[1].feedback_kernel) for network in networks)
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 1e-3
    np.testing.assert_array_equal(*(array(networks[k].synapses[1].kernel) for k in (0, 2)))
    networks[0].save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    for network in (networks[0], loaded):
        network.train_on_batch(inputs, labels)
    taught = [array(network.synapses[1].feedback_kernel) for network in (networks[0], loaded)]
    np.testing.assert_array_equal(*taught)
    assert np.abs(taught[0] - first).max() > 1e-3


def test_inverses_that_do_not_learn_are_no_trainable_weights() -> None:
    network = DifferenceTargetPropagation([6, 8, 5, 4], inverse_rate=0.0)
    assert len(network.trainable_variables) == 6
    network.compile("adam")
    before = weights_of(network)
    network.fit(np.ones((4, 6), "float32"), np.arange(4), verbose=0)
    for weight, start in pairs(network, before):
        moved = np.abs(array(weight) - start).max()
        assert moved == 0.0 if is_inverse(weight) else moved > 1e-5, weight.path


@pytest.mark.parametrize("sizes", [[6, 4], [6, 8, 4]])
def test_without_inverses_it_is_backpropagation(sizes: list[int]) -> None:
    """One hidden layer at most: there is no layer whose target an inverse would have to carry."""
    rng = np.random.default_rng(0)
    network = DifferenceTargetPropagation(sizes, target_rate=0.5)
    x, t = rng.normal(size=(5, 6)).astype("float32"), np.eye(4, dtype="float32")[[0, 1, 2, 3, 0]]
    W = [array(synapses.kernel) for synapses in network.synapses]
    h = rates_of(x, W, [np.zeros(size) for size in sizes[1:]], np.tanh)
    wanted, _ = backpropagation(h[:-1], W, [1 - layer**2 for layer in h[1:-1]], t - h[-1])
    changes = changes_of(network, x, t)
    assert len(changes) == 2 * len(W)
    for k, change in enumerate(wanted):
        factor = 1.0 if k == len(W) - 1 else 2 * 0.5
        found = changes[f"synapses_{k + 1}/kernel"]
        np.testing.assert_allclose(found, factor * change, atol=1e-6)
        assert np.abs(found).max() > 1e-2


def test_optimizers_that_erase_the_rate_are_warned_of() -> None:
    with pytest.warns(UserWarning, match="`inverse_rate` has no effect"):
        DifferenceTargetPropagation([4, 3, 3, 2], inverse_rate=0.1).compile("adam")
    DifferenceTargetPropagation([4, 3, 3, 2], inverse_rate=1.0).compile("adam")
    DifferenceTargetPropagation([4, 3, 3, 2], inverse_rate=0.1, phase="inverse").compile("adam")
    DifferenceTargetPropagation([4, 3, 2], inverse_rate=0.1).compile("adam")
    DifferenceTargetPropagation([4, 3, 3, 2]).compile(keras.optimizers.SGD(0.1))


BAD: list[tuple[str, dict[str, Any]]] = [
    ("target_rate", {"target_rate": 0.0}),
    ("noise", {"noise": -0.1}),
    ("inverse_rate", {"inverse_rate": -1.0}),
    ("activation", {"activation": "relu"}),
    ("phase", {"phase": "backward"}),
    ("seed", {"seed": -1}),
    ("seed", {"seed": 0.5}),
]


@pytest.mark.parametrize(("argument", "arguments"), BAD)
def test_bad_arguments(argument: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"`{argument}` must be"):
        DifferenceTargetPropagation(**{"sizes": [4, 3, 2], **arguments})
