"""Convolutional equilibrium propagation against loops and matrices, and against its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from keras import ops

from keras_local.dynamics import ConvEquilibriumNetwork, ConvSynapses
from keras_local.dynamics.conv_synapses import pool, unpool
from tests.dynamics import phases
from tests.oracles_dynamics import ConvEquilibrium
from tests.support import BACKEND, array

pytestmark = pytest.mark.skipif(BACKEND == "jax", reason="JAX has no float64 unless asked for")

SHAPE = (4, 4, 2)


def problem(cost: str, **arguments: Any) -> tuple[Any, ...]:
    """A network in float64, its weights, samples and targets."""
    rng = np.random.default_rng(2)
    network = ConvEquilibriumNetwork(
        SHAPE, (3, 4), 3, activation="steep_sigmoid", cost=cost, dtype="float64", **arguments
    )
    weights = [
        (0.3 if len(w.shape) == 1 else 0.6 / np.sqrt(np.prod(w.shape[:-1])))
        * rng.normal(size=w.shape)
        for w in network.trainable_variables
    ]
    for weight, value in zip(network.trainable_variables, weights, strict=True):
        weight.assign(value)
    inputs, targets = rng.random((2, *SHAPE)), np.eye(3)[[0, 2]]
    return network, weights, inputs, targets


def oracle(weights: list[np.ndarray], cost: str) -> ConvEquilibrium:
    return ConvEquilibrium(weights[0:4:2], weights[1:4:2], *weights[4:], SHAPE, cost)


def free_and_changes(network: Any, inputs: np.ndarray, targets: np.ndarray) -> tuple[Any, Any]:
    steps = network.free_steps + network.nudged_steps
    free, changes = phases.free_and_changes(network, inputs, targets, steps)
    return free, [change for _, change in changes]


@pytest.mark.parametrize("cost", ["mse", "cross_entropy"])
def test_states_are_those_of_the_oracle(cost: str) -> None:
    """The free phase, and a nudged one behind it, step by step."""
    network, weights, inputs, targets = problem(cost, free_steps=3, nudged_steps=2)
    states = network.trajectories(inputs, targets)
    for sample in range(2):
        there = oracle(weights, cost)
        free = there.settle(inputs[sample], 3)
        nudged = there.settle(inputs[sample], 2, targets[sample], 0.5, start=free)
        for found, before, after in zip(states, free, nudged, strict=True):
            np.testing.assert_allclose(array(found)[3, sample].reshape(-1), before, atol=1e-14)
            np.testing.assert_allclose(array(found)[5, sample].reshape(-1), after, atol=1e-14)
            assert np.abs(after - before).max() > 1e-3


@pytest.mark.parametrize(("nudging", "signs"), [("centred", (1, -1)), ("one_sided", (1,))])
def test_the_published_readout_learns_where_the_states_are_nudged(
    nudging: str, signs: tuple[int, ...]
) -> None:
    """The mean over the nudged phases of the gradient of the cross-entropy, sample by sample."""
    arguments: dict[str, Any] = {"nudging": nudging, "nudge": 1.0}
    arguments |= {"free_steps": 12, "nudged_steps": 3}
    network, weights, inputs, targets = problem(
        "cross_entropy", readout_phase="nudged", **arguments
    )
    _, found = free_and_changes(network, inputs, targets)
    there = oracle(weights, "cross_entropy")
    kernel, bias = np.zeros(weights[4].shape), np.zeros(weights[5].shape)
    for x, y in zip(inputs, targets, strict=True):
        rest = there.settle(x, 12)
        for sign in signs:
            states = there.settle(x, 3, y, float(sign), start=rest)
            error = (y - there.output(states)) / (len(signs) * len(inputs))
            kernel += np.outer(states[-1], error)
            bias += error
    np.testing.assert_allclose(found[4], kernel, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(found[5], bias, rtol=1e-9, atol=1e-14)
    other, *_ = problem("cross_entropy", **arguments)
    _, at_rest = free_and_changes(other, inputs, targets)
    assert np.abs(at_rest[4] - kernel).max() > 1e-3 * np.abs(kernel).max()
    for change, same in zip(found[:4], at_rest[:4], strict=True):
        np.testing.assert_array_equal(change, same)


def test_the_preset_has_the_published_readout() -> None:
    small = {"filters": (4, 4, 4, 4)}
    assert ConvEquilibriumNetwork.preset(**small).readout_phase == "nudged"
    assert ConvEquilibriumNetwork.preset("cifar10-mse", **small).readout_phase == "free"


@pytest.mark.parametrize("cost", ["mse", pytest.param("cross_entropy", marks=pytest.mark.thorough)])
def test_orders_of_convergence(cost: str) -> None:
    """Central differences of the loss at the equilibrium, in three places of each weight."""
    network, weights, inputs, targets = problem(cost, free_steps=60, nudged_steps=60)
    rng, width = np.random.default_rng(0), 1e-5
    places = [
        [tuple(rng.integers(0, side) for side in weight.shape) for _ in range(3)]
        for weight in weights
    ]
    gradient, samples = [], list(zip(inputs, targets, strict=True))
    for index in range(len(weights)):
        for place in places[index]:
            ends = []
            for sign in (1, -1):
                bumped = [w.copy() for w in weights]
                bumped[index][place] += sign * width
                there = oracle(bumped, cost)
                losses = [there.loss(there.settle(x, 40), y) for x, y in samples]
                ends.append(np.mean(losses))
            gradient.append((ends[0] - ends[1]) / (2 * width))
    errors: dict[str, list[float]] = {}
    for nudging in ("one_sided", "centred"):
        network.nudging = nudging
        for nudge in (0.125, 0.0625):
            network.nudge = nudge
            _, changes = free_and_changes(network, inputs, targets)
            found = [-changes[i][place] for i in range(len(weights)) for place in places[i]]
            distance = np.linalg.norm(np.subtract(found, gradient)[:12])
            errors.setdefault(nudging, []).append(distance / np.linalg.norm(gradient[:12]))
    assert np.divide(*errors["one_sided"]) == pytest.approx(2.0, rel=0.25)
    assert np.divide(*errors["centred"]) == pytest.approx(4.0, rel=0.15)
    assert errors["centred"][1] < 0.02


def test_synapses_are_a_convolution_with_pooling() -> None:
    import keras

    layer = ConvSynapses(3, padding="valid", dtype="float64")
    inputs = ops.convert_to_tensor(np.random.default_rng(1).normal(size=(2, 7, 6, 2)))
    found = layer(inputs)
    plain = ops.conv(inputs, layer.kernel, padding="valid") + layer.bias
    wanted = keras.layers.MaxPooling2D(dtype="float64")(plain)
    np.testing.assert_allclose(array(found), array(wanted), atol=1e-14)
    assert tuple(found.shape) == layer.compute_output_shape((2, 7, 6, 2))


@pytest.mark.parametrize("places", [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (0, 1, 2, 3)])
def test_of_equal_maxima_the_first_alone_wins(places: tuple[int, ...]) -> None:
    """Else activity would come back from a window at several places."""
    window = np.zeros(4)
    window[list(places)] = 2.0
    pooled, mask = pool(ops.convert_to_tensor(window.reshape(1, 2, 2, 1)))
    assert array(pooled).reshape(()) == 2.0
    wanted = np.zeros(4)
    wanted[places[0]] = 1.0
    np.testing.assert_array_equal(array(mask).reshape(4), wanted)
    spread = unpool(ops.full((1, 1, 1, 1), 3.0, dtype="float64"), mask, (3, 2))
    np.testing.assert_array_equal(array(spread).reshape(6), [*(3.0 * wanted), 0.0, 0.0])


def test_weight_decay_is_taken_from_the_change() -> None:
    plain, weights, inputs, targets = problem("mse", free_steps=5, nudged_steps=2)
    decayed, *_ = problem("mse", free_steps=5, nudged_steps=2, weight_decay=0.1)
    _, wanted = free_and_changes(plain, inputs, targets)
    _, found = free_and_changes(decayed, inputs, targets)
    for change, other, weight in zip(found, wanted, weights, strict=True):
        np.testing.assert_allclose(change, other - 0.1 * weight, atol=1e-14)


def test_the_preset_takes_a_step_on_the_shapes_of_cifar10() -> None:
    """Its widths and phases cut down, its shapes, paddings and factors as they are."""
    preset = ConvEquilibriumNetwork.preset()
    assert (preset.free_steps, preset.nudged_steps, preset.nudge) == (250, 25, 1.0)
    assert preset.filters == (128, 256, 512, 512)
    assert preset.state_shapes == [(16, 16, 128), (8, 8, 256), (4, 4, 512), (1, 1, 512)]
    network = ConvEquilibriumNetwork.preset(filters=(4, 4, 4, 4), free_steps=6, nudged_steps=2)
    inputs = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32") / 3
    network.compile("sgd")
    before = [array(w) for w in network.trainable_variables]
    assert np.isfinite(network.train_on_batch(inputs, np.array([1, 7])))
    moved = zip(network.trainable_variables, before, strict=True)
    assert max(np.abs(array(weight) - value).max() for weight, value in moved) > 1e-6


BAD: list[tuple[str, dict[str, Any]]] = [
    ("input_shape", {"input_shape": (8, 8)}),
    ("input_shape", {"input_shape": (2, 2, 1)}),
    ("filters", {"filters": ()}),
    ("classes", {"classes": 1}),
    ("kernel_size", {"kernel_size": 0}),
    ("paddings", {"paddings": ("same",)}),
    ("paddings", {"paddings": ("same", "full")}),
    ("readout_phase", {"readout_phase": "both"}),
    ("activation", {"activation": "relu"}),
    ("cost", {"cost": "hinge"}),
    ("nudging", {"nudging": "holomorphic"}),
    ("nudge", {"nudge": 2.0}),
    ("rate_factors", {"rate_factors": (1.0, 1.0)}),
    ("weight_decay", {"weight_decay": -1.0}),
]


@pytest.mark.parametrize(("argument", "arguments"), BAD)
def test_bad_arguments(argument: str, arguments: dict[str, Any]) -> None:
    given = {"input_shape": (8, 8, 1), "filters": (2, 3), "classes": 3}
    with pytest.raises(ValueError, match=f"`{argument}` must be"):
        ConvEquilibriumNetwork(**{**given, **arguments})
