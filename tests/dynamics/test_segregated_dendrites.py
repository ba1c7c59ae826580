"""Segregated dendrites against NumPy loops, and the limits in which their errors are known ones."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from keras_local import datasets
from keras_local.dynamics import SegregatedDendritesNetwork
from tests.oracles_dynamics import relative_error, sigmoid
from tests.support import BACKEND, array

double = pytest.mark.skipif(BACKEND == "jax", reason="JAX has no float64 unless asked for")

SIZES = [6, 8, 5, 4]
TOP = 0.2
K = 0.6 / 0.7


def problem(feedback: float = 1.0, **arguments: Any) -> tuple[Any, ...]:
    """A network in float64, its `W`, `b` and `Y`, samples and targets."""
    rng = np.random.default_rng(2)
    network = SegregatedDendritesNetwork(SIZES, dtype="float64", **arguments)
    W = [4 * rng.normal(size=shape) for shape in pairwise(SIZES)]
    b = [0.5 * rng.normal(size=size) for size in SIZES[1:]]
    Y = [10 * feedback * rng.normal(size=(size, 4)) for size in SIZES[1:-1]]
    for k, synapses in enumerate(network.synapses):
        synapses.kernel.assign(W[k])
        synapses.bias.assign(b[k])
    for synapses, y in zip(network.apical, Y, strict=True):
        synapses.kernel.assign(y)
    return network, (W, b, Y), rng.random((5, 6)), np.eye(4)[rng.integers(0, 4, 5)]


def potentials(x: np.ndarray, W: Any, b: Any, k: float = K) -> list[np.ndarray]:
    """Somatic potentials of all layers, without labels."""
    somata, rates = [], TOP * x
    for kernel, bias in zip(W, b, strict=True):
        somata.append(k * (rates @ kernel + bias))
        rates = TOP * sigmoid(somata[-1])
    return somata


def slope(u: np.ndarray) -> np.ndarray:
    return sigmoid(u) * (1 - sigmoid(u))


def changes_of(network: Any, inputs: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    x, y = ops.convert_to_tensor(inputs), ops.convert_to_tensor(targets)
    share = ops.full((len(inputs),), 1 / len(inputs), dtype=network.working_dtype)
    changes = network.changes(x, y, network.free_phase(x), share)
    return {"/".join(weight.path.split("/")[-2:]): array(change) for weight, change in changes}


@double
def test_changes_are_those_of_the_oracle() -> None:
    """Column vectors and conductances, as in the specification, sample by sample."""
    leak, basal, nudge, reversal = 0.2, 0.5, 0.8, 6.0
    arguments = {"leak": leak, "basal": basal, "nudge": nudge, "reversal": reversal}
    network, (W, b, Y), x, t = problem(**arguments)
    wanted: dict[str, Any] = {}
    k = basal / (leak + basal)
    for sample in range(5):
        rates, basal_potentials = [TOP * x[sample]], []
        for kernel, bias in zip(W, b, strict=True):
            basal_potentials.append(kernel.T @ rates[-1] + bias)
            rates.append(TOP * sigmoid(k * basal_potentials[-1]))
        excited, inhibited = t[sample] * reversal, (1 - t[sample]) * -reversal
        currents = basal * basal_potentials[2] + nudge * (excited + inhibited)
        taught = TOP * sigmoid(currents / (leak + basal + nudge))
        for layer in range(3):
            c = k * basal_potentials[layer]
            if layer == 2:
                scale = (20 / TOP**2) * k * TOP * (taught - TOP * sigmoid(c))
            else:
                plateaus = sigmoid(Y[layer] @ taught) - sigmoid(Y[layer] @ rates[3])
                scale = (20 / TOP) * k * TOP * plateaus
            error = scale * slope(c) / 5
            for name, change in (("kernel", np.outer(rates[layer], error)), ("bias", error)):
                path = f"synapses_{layer + 1}/{name}"
                wanted[path] = wanted.get(path, 0) + change
    found = changes_of(network, x, t)
    assert set(found) == set(wanted)
    for path, change in wanted.items():
        np.testing.assert_allclose(found[path], change, atol=1e-13)
        assert np.abs(change).max() > 1e-3, path


@double
def test_the_output_descends_the_distance_of_rates_with_and_without_labels() -> None:
    network, (W, b, _), x, t = problem()
    somata = potentials(x, W, b)
    below = TOP * sigmoid(somata[1])
    taught = TOP * sigmoid((0.7 * somata[2] + 8 * (2 * t - 1)) / 1.7)

    def distance(kernel: np.ndarray) -> float:
        rates = TOP * sigmoid(K * (below @ kernel + b[2]))
        return float(0.5 * ((rates - taught) ** 2).sum() / len(x))

    gradient = np.zeros(W[2].shape)
    for place in np.ndindex(W[2].shape):
        bump = np.zeros(W[2].shape)
        bump[place] = 1e-6
        gradient[place] = (distance(W[2] + bump) - distance(W[2] - bump)) / 2e-6
    found = changes_of(network, x, t)["synapses_3/kernel"]
    np.testing.assert_allclose(found, -20 / TOP**2 * gradient, atol=1e-7)
    assert np.abs(found).max() > 1e-2


def against_direct_feedback(nudge: float, feedback: float) -> float:
    """How far the change of the first layer is from direct feedback alignment with `s(A)`."""
    network, (W, b, Y), x, t = problem(feedback, nudge=nudge)
    somata = potentials(x, W, b)
    free = TOP * sigmoid(somata[2])
    taught = TOP * sigmoid((0.7 * somata[2] + nudge * 8 * (2 * t - 1)) / (0.7 + nudge))
    delta = ((taught - free) @ Y[0].T) * slope(free @ Y[0].T) * slope(somata[0])
    wanted = 20 * K * (TOP * x).T @ delta / len(x)
    return relative_error(changes_of(network, x, t)["synapses_1/kernel"], wanted)


@double
def test_hidden_errors_are_those_of_direct_feedback_for_small_differences() -> None:
    """Half the conductance of the labels, half the distance; half the feedback, a quarter."""
    errors = [against_direct_feedback(nudge, 1.0) for nudge in (1e-3, 5e-4)]
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.03)
    assert errors[1] < 1e-2
    errors = [against_direct_feedback(1.0, feedback) for feedback in (1e-2, 5e-3)]
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.03)
    assert errors[1] < 1e-3
    # Neither is small.
    assert against_direct_feedback(1.0, 1.0) > 0.05


@double
def test_the_error_of_rates_is_that_of_potentials_for_weak_labels() -> None:
    """What the labels add to a rate: its slope times the distance from the reversal potential."""
    errors = []
    for nudge in (1e-3, 5e-4):
        network, (W, b, _), x, t = problem(nudge=nudge)
        soma = potentials(x, W, b)[2]
        below = TOP * sigmoid(potentials(x, W, b)[1])
        pull = nudge / 0.7 * (8 * (2 * t - 1) - soma) * slope(soma)
        wanted = 20 * K * below.T @ (pull * slope(soma)) / len(x)
        found = changes_of(network, x, t)["synapses_3/kernel"]
        errors.append(relative_error(found, wanted))
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.03)
    assert errors[1] < 1e-2


@double
def test_nothing_is_taught_where_the_target_phase_is_the_forward_phase() -> None:
    """Outputs at their reversal potentials stay there; with another label all layers learn."""
    network, (W, _, _), x, _ = problem()
    t = np.eye(4)[[2] * 5]
    network.synapses[2].kernel.assign(np.zeros(W[2].shape))
    network.synapses[2].bias.assign(8 * (2 * t[0] - 1) / K)
    states = network.free_phase(ops.convert_to_tensor(x))
    for free, taught in zip(
        network.plateaus(states), network.plateaus(states, ops.convert_to_tensor(t)), strict=True
    ):
        np.testing.assert_allclose(array(free), array(taught), atol=1e-14)
    for path, change in changes_of(network, x, t).items():
        assert np.abs(change).max() < 1e-14, path
    for path, change in changes_of(network, x, np.eye(4)[[1] * 5]).items():
        assert np.abs(change).max() > 1e-5, path


@double
def test_apical_dendrites_do_not_reach_the_soma() -> None:
    network, (W, b, Y), x, t = problem()
    scores = array(network(x))
    np.testing.assert_allclose(scores, sigmoid(potentials(x, W, b)[2]), atol=1e-15)
    before = changes_of(network, x, t)
    network.apical[1].kernel.assign(np.zeros(Y[1].shape))
    np.testing.assert_array_equal(array(network(x)), scores)
    after = changes_of(network, x, t)
    assert np.all(after["synapses_2/kernel"] == 0)
    assert np.abs(before["synapses_2/kernel"]).max() > 1e-3
    np.testing.assert_array_equal(after["synapses_1/kernel"], before["synapses_1/kernel"])


@pytest.mark.daily
@pytest.mark.slow
def test_it_aligns_and_learns() -> None:
    """The angle between the changes of hidden weights and the gradient falls as it learns."""
    pytest.importorskip("sklearn")
    (x, labels), _ = datasets.load("digits", flatten=True)
    keras.utils.set_random_seed(0)
    network = SegregatedDendritesNetwork([64, 50, 10])
    network.compile(keras.optimizers.SGD(2.0), metrics=["accuracy"])
    fixed = array(network.apical[0].kernel)

    def angle() -> float:
        images, targets = x[:100].astype("float32"), np.eye(10, dtype="float32")[labels[:100]]
        states = network.free_phase(ops.convert_to_tensor(images))
        taught = array(network.target_phase(states, ops.convert_to_tensor(targets)))
        hidden, outputs = (array(soma) for soma in states)
        above = (sigmoid(taught) - sigmoid(outputs)) * slope(outputs)
        gradient = images.T @ ((above @ array(network.synapses[1].kernel).T) * slope(hidden))
        change = changes_of(network, images, targets)["synapses_1/kernel"]
        cosine = (change * gradient).sum() / np.linalg.norm(change) / np.linalg.norm(gradient)
        return float(np.degrees(np.arccos(cosine)))

    before = angle()
    history = network.fit(x, labels, batch_size=20, epochs=8, verbose=0).history
    assert history["accuracy"][-1] > 0.9
    assert angle() < 50.0 < 75.0 < before
    np.testing.assert_array_equal(array(network.apical[0].kernel), fixed)


BAD: list[tuple[str, dict[str, Any]]] = [
    ("nudge", {"nudge": 0.0}),
    ("reversal", {"reversal": 0.0}),
    ("leak", {"leak": -0.1}),
    ("basal", {"basal": 0.0}),
    ("max_rate", {"max_rate": 0.0}),
    ("max_rate", {"max_rate": float("inf")}),
]


@pytest.mark.parametrize(("argument", "arguments"), BAD)
def test_bad_arguments(argument: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"`{argument}` must be"):
        SegregatedDendritesNetwork(**{"sizes": [4, 3, 2], **arguments})
