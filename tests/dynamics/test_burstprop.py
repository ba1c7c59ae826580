"""Burstprop against NumPy loops, and the limits in which its errors are known ones."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from keras_local.dynamics import BurstpropNetwork
from tests.oracles_dynamics import backpropagation, relative_error, sigmoid
from tests.support import BACKEND, array

double = pytest.mark.skipif(BACKEND == "jax", reason="JAX has no float64 unless asked for")

SIZES = [6, 8, 5, 4]


def problem(scale: float = 1.0, recurrent: float = 0.3, **arguments: Any) -> tuple[Any, ...]:
    """A network in float64, its `W`, `b`, `Y` and `U`, samples and targets."""
    rng = np.random.default_rng(2)
    network = BurstpropNetwork(SIZES, dtype="float64", **arguments)
    shapes = list(pairwise(SIZES))
    W = [rng.normal(size=shape) for shape in shapes]
    b = [0.1 * rng.normal(size=shape[1]) for shape in shapes]
    Y = [scale * rng.normal(size=shape) for shape in shapes]
    U = [recurrent * rng.normal(size=(size, size)) for size in SIZES[1:-1]]
    for k, synapses in enumerate(network.synapses):
        synapses.kernel.assign(W[k])
        synapses.bias.assign(b[k])
        if synapses.feedback_kernel is not None:
            synapses.feedback_kernel.assign(Y[k])
    for synapses, u in zip(network.recurrent, U, strict=True):
        synapses.kernel.assign(u)
    return network, (W, b, Y, U), rng.random((5, 6)), np.eye(4)[rng.integers(0, 4, 5)]


def events(inputs: np.ndarray, W: Any, b: Any) -> list[np.ndarray]:
    layers = [inputs]
    for kernel, bias in zip(W, b, strict=True):
        layers.append(sigmoid(layers[-1] @ kernel + bias))
    return layers


def changes_of(network: Any, inputs: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    x, y = ops.convert_to_tensor(inputs), ops.convert_to_tensor(targets)
    share = ops.full((len(inputs),), 1 / len(inputs), dtype="float64")
    changes = network.changes(x, y, network.free_phase(x), share)
    return {"/".join(weight.path.split("/")[-2:]): array(change) for weight, change in changes}


def published_step(
    weights: Any, inputs: np.ndarray, targets: np.ndarray, p0: float
) -> tuple[list[Any], ...]:
    """One step of the published form, sample by sample: changes of `W`, of `b`, and of `U`.

    The inhibition of a dendrite, `U pre`, is that from before the teacher in both phases.
    """
    W, b, Y, U = weights
    layers = len(W)
    dW, db, dU = ([np.zeros(w.shape) for w in group] for group in (W, b, U))
    for x, t in zip(inputs, targets, strict=True):
        e = [x]
        for kernel, bias in zip(W, b, strict=True):
            e.append(1.0 / (1.0 + np.exp(-(e[-1] @ kernel + bias))))
        top = e[layers]
        p = {layers: np.full(top.shape, p0)}
        taught = {layers: p0 * ((t - top) * (1 - top) + 1)}
        for k in range(layers - 1, 0, -1):
            z, zt = Y[k] @ (p[k + 1] * e[k + 1]), Y[k] @ (taught[k + 1] * e[k + 1])
            pre = e[k] / (1 + np.exp(-z))
            inhibition = pre @ U[k - 1]
            v, vt = z * (1 - e[k]) - inhibition, zt * (1 - e[k]) - inhibition
            p[k], taught[k] = 1 / (1 + np.exp(-v)), 1 / (1 + np.exp(-vt))
            dU[k - 1] += np.outer(pre, v) / len(inputs)
        for k in range(layers):
            moved = (taught[k + 1] - p[k + 1]) * e[k + 1]
            dW[k] += np.outer(e[k], moved) / len(inputs)
            db[k] += moved / len(inputs)
    return dW, db, dU


@double
@pytest.mark.parametrize("recurrent", [0.01, 0.1, 0.5])
def test_changes_are_those_of_the_published_form(recurrent: float) -> None:
    """The inhibition from before the teacher: else 2 % off at weights of .01, and 95 % at .5."""
    factors = (1.0, 2.0, 0.1)
    network, weights, inputs, targets = problem(
        recurrent=recurrent, feedback="learned", recurrent_rate=0.5, rate_factors=factors
    )
    found = changes_of(network, inputs, targets)
    dW, db, dU = published_step(weights, inputs, targets, 0.2)
    for k, factor in enumerate(factors):
        kernel = found[f"synapses_{k + 1}/kernel"]
        assert relative_error(kernel, factor * dW[k]) < 1e-12
        assert relative_error(found[f"synapses_{k + 1}/bias"], factor * db[k]) < 1e-12
        assert np.abs(dW[k]).max() > 1e-4
        if k:
            np.testing.assert_array_equal(found[f"synapses_{k + 1}/feedback_kernel"], kernel)
            assert relative_error(found[f"recurrent_{k}/kernel"], 0.5 * dU[k - 1]) < 1e-12


@double
def test_the_teacher_leaves_the_inhibition_as_it_was() -> None:
    network, _, inputs, targets = problem()
    events_ = network.free_phase(ops.convert_to_tensor(inputs))
    before, after = network.bursts(events_), network.bursts(events_, targets)
    for k in range(2):
        np.testing.assert_array_equal(array(before["pre"][k]), array(after["pre"][k]))
        assert np.abs(array(before["apical"][k]) - array(after["apical"][k])).max() > 1e-4


@double
def test_the_error_of_the_output_is_that_of_sigmoids() -> None:
    """BST-1: half the squared distance, times the probability."""
    network, (W, b, _, _), inputs, targets = problem(burst_probability=0.3)
    e = events(inputs, W, b)
    delta = 0.3 * (targets - e[3]) * e[3] * (1 - e[3])
    found = changes_of(network, inputs, targets)
    np.testing.assert_allclose(found["synapses_3/kernel"], e[2].T @ delta / 5, atol=1e-15)


@double
def test_hidden_errors_are_those_of_feedback_alignment_for_weak_feedback() -> None:
    """BST-2: a tenth of the feedback, a hundredth of the distance."""
    errors = []
    for scale in (0.1, 0.01):
        network, (W, b, Y, _), inputs, targets = problem(scale, recurrent=0.0)
        e = events(inputs, W, b)
        delta = 0.2 * (targets - e[3]) * e[3] * (1 - e[3])
        # p (1 - p) is a quarter where the dendrite is at rest.
        slopes = [0.25 * layer * (1 - layer) for layer in e[1:3]]
        probabilities = [array(p) for p in network.bursts(e[1:])["probability"]]
        slopes[1] = slopes[1] / 0.25 * probabilities[1] * (1 - probabilities[1])
        wanted, _ = backpropagation(e, Y, slopes, delta)
        found = changes_of(network, inputs, targets)["synapses_2/kernel"]
        errors.append(relative_error(found, wanted[1]))
    assert errors[0] / errors[1] == pytest.approx(100.0, rel=0.3)
    assert errors[1] < 1e-5


@double
def test_recurrent_inhibition_brings_dendrites_to_rest() -> None:
    network, _, inputs, targets = problem(2.0, recurrent=0.0, recurrent_rate=1.0)
    x = ops.convert_to_tensor(inputs)
    loud = [np.abs(array(v)).mean() for v in network.bursts(network.free_phase(x))["apical"]]
    for _ in range(100):
        changes = changes_of(network, inputs, targets)
        for k, synapses in enumerate(network.recurrent):
            synapses.kernel.assign_add(0.5 * changes[f"recurrent_{k + 1}/kernel"])
    quiet = [np.abs(array(v)).mean() for v in network.bursts(network.free_phase(x))["apical"]]
    assert np.all(np.array(quiet) < 0.5 * np.array(loud))


@double
def test_nothing_is_taught_where_the_output_is_the_target() -> None:
    network, (W, b, _, _), inputs, _ = problem()
    changes = changes_of(network, inputs, events(inputs, W, b)[-1])
    for path, change in changes.items():
        assert path.startswith("recurrent") or np.all(change == 0), path


def test_optimizers_that_erase_the_factors_are_warned_of() -> None:
    with pytest.warns(UserWarning, match="erases the factors"):
        BurstpropNetwork([4, 3, 2], rate_factors=(1.0, 0.1)).compile("adam")
    BurstpropNetwork([4, 3, 2], recurrent_rate=0.0).compile("adam")
    BurstpropNetwork([4, 3, 2]).compile(keras.optimizers.SGD(0.1))


BAD: list[tuple[str, dict[str, Any]]] = [
    ("burst_probability", {"burst_probability": 0.0}),
    ("burst_probability", {"burst_probability": 0.6}),
    ("feedback", {"feedback": "tied"}),
    ("recurrent_rate", {"recurrent_rate": -1.0}),
    ("rate_factors", {"rate_factors": (1.0,)}),
    ("rate_factors", {"rate_factors": (1.0, -1.0)}),
]


@pytest.mark.parametrize(("argument", "arguments"), BAD)
def test_bad_arguments(argument: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"`{argument}` must be"):
        BurstpropNetwork(**{"sizes": [4, 3, 2], **arguments})
