"""Iterative temporal differencing against NumPy loops, its closed form, and its limits."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from keras_local.dynamics import TemporalDifferenceNetwork
from keras_local.dynamics.temporal_difference import RULES
from tests.oracles_dynamics import backpropagation
from tests.support import BACKEND, array, probe

double = pytest.mark.skipif(BACKEND == "jax", reason="JAX has no float64 unless asked for")

SIZES = [6, 5, 4, 7, 3]
BATCH = 4


def problem(rule: str = "error_difference", cost: str = "mce") -> tuple[Any, ...]:
    """A network in float64, its weights `W`, `b` and `B`, and two batches."""
    rng = np.random.default_rng(6)
    network = TemporalDifferenceNetwork(
        SIZES, rule=rule, cost=cost, batch_size=BATCH, dtype="float64"
    )
    shapes = list(pairwise(SIZES))
    W, B = ([rng.normal(size=shape) / np.sqrt(shape[0]) for shape in shapes] for _ in range(2))
    b = [0.1 * rng.normal(size=shape[1]) for shape in shapes]
    for k, synapses in enumerate(network.synapses):
        synapses.kernel.assign(W[k])
        synapses.bias.assign(b[k])
        if synapses.feedback_kernel is not None:
            synapses.feedback_kernel.assign(B[k])
    batches = [(rng.normal(size=(BATCH, 6)), np.eye(3)[rng.integers(0, 3, BATCH)]) for _ in "12"]
    return network, W, b, B, batches


def signals_of(network: Any, inputs: np.ndarray, targets: np.ndarray) -> list[np.ndarray]:
    """Minus the changes of the biases, sums of the errors over rows, the lowest layer first."""
    return [-change for change in changes_of(network, inputs, targets)[1::2]]


def changes_of(network: Any, inputs: np.ndarray, targets: np.ndarray) -> list[np.ndarray]:
    x, y = ops.convert_to_tensor(inputs), ops.convert_to_tensor(targets)
    share = ops.full((len(inputs),), 1 / len(inputs), dtype="float64")
    return [array(change) for _, change in network.changes(x, y, network.free_phase(x), share)]


def forward(x: np.ndarray, W: list[np.ndarray], b: list[np.ndarray]) -> tuple[Any, np.ndarray]:
    h = [x]
    for k in range(len(W) - 1):
        h.append(np.tanh(h[-1] @ W[k] + b[k]))
    p = np.exp(h[-1] @ W[-1] + b[-1])
    return h, p / p.sum(axis=1, keepdims=True)


@double
@pytest.mark.parametrize("cost", ["mce", "lse"])
def test_the_closed_form(cost: str) -> None:
    """ITD-1: `g_k = (e_t - j e_{t-1}) B_n^T ... B_{k+1}^T`, one more `e_{t-1}` with `"lse"`."""
    network, W, b, B, batches = problem(cost=cost)
    for x, t in batches:
        changes = changes_of(network, x, t)
    (_, p_last), (h, p) = (forward(x, W, b) for x, _ in batches)
    e, last = (p - batches[1][1]) / BATCH, (p_last - batches[0][1]) / BATCH
    extra = 1 if cost == "lse" else 0
    product = np.eye(3)
    for j, k in enumerate(reversed(range(4))):
        g = (e - (j + extra) * last) @ product
        wanted = np.zeros(W[k].shape)
        for row in range(BATCH):
            wanted -= np.outer(h[k][row], g[row])
        np.testing.assert_allclose(changes[2 * k], wanted, atol=1e-13)
        np.testing.assert_allclose(changes[2 * k + 1], -g.sum(axis=0), atol=1e-13)
        assert np.abs(wanted).max() > 1e-3
        product = product @ B[k].T


@double
@pytest.mark.parametrize("cost", ["mce", "lse"])
def test_without_a_memory_it_is_linear_feedback_alignment(cost: str) -> None:
    """ITD-2, bit for bit."""
    network, *_, batches = problem(cost=cost)
    linear, *_ = problem("linear_feedback_alignment", cost)
    first = changes_of(network, *batches[0])
    for one, other in zip(first, changes_of(linear, *batches[0]), strict=True):
        np.testing.assert_array_equal(one, other)
    second = changes_of(network, *batches[1])
    assert np.abs(second[0] - changes_of(linear, *batches[1])[0]).max() > 1e-3
    network.forget()
    for one, other in zip(changes_of(network, *batches[0]), first, strict=True):
        np.testing.assert_array_equal(one, other)


@double
def test_the_same_batch_twice_turns_the_sign_of_lower_layers() -> None:
    """`g_k = (1 - j) e B...`: nothing one layer below the output, and then the other way."""
    network, *_, batches = problem()
    first, second = (signals_of(network, *batches[0]) for _ in range(2))
    for j, (one, other) in enumerate(zip(first[::-1], second[::-1], strict=True)):
        np.testing.assert_allclose(other, (1 - j) * one, atol=1e-14)
        assert np.abs(one).max() > 1e-3


@double
@pytest.mark.parametrize("rule", ["error_product", "activation_product"])
def test_earlier_trials_of_the_author(rule: str) -> None:
    network, W, b, B, batches = problem(rule)
    for x, t in batches:
        changes = changes_of(network, x, t)
    (h_last, p_last), (h, p) = (forward(x, W, b) for x, _ in batches)
    d, q = (p - batches[1][1]) / BATCH, (p_last - batches[0][1]) / BATCH
    for k in reversed(range(4)):
        np.testing.assert_allclose(changes[2 * k], -h[k].T @ d, atol=1e-13)
        assert np.abs(changes[2 * k]).max() > 1e-6
        d, q = d @ B[k].T, q @ B[k].T
        d = d * (d - q) if rule == "error_product" else d * (h[k] - h_last[k])


@double
@pytest.mark.parametrize("rule", ["backprop", "feedback_alignment", "frozen"])
def test_what_it_is_compared_with(rule: str) -> None:
    network, W, b, B, batches = problem(rule)
    x, t = batches[0]
    h, p = forward(x, W, b)
    back = W if rule == "backprop" else B
    slopes = [1 - layer**2 for layer in h[1:]]
    wanted, errors = backpropagation(h, back, slopes, t - p)
    changes = changes_of(network, x, t)
    if rule == "frozen":
        assert len(changes) == len(network.trainable_variables) == 2
        wanted = wanted[-1:]
    for k, change in enumerate(wanted):
        np.testing.assert_allclose(changes[2 * k], change, atol=1e-13)
    if rule == "backprop":
        ends = []
        for sign in (1, -1):
            moved = [w.copy() for w in W]
            moved[0][2, 1] += sign * 1e-5
            ends.append(-np.mean(np.sum(t * np.log(forward(x, moved, b)[1]), axis=1)))
        assert changes[0][2, 1] == pytest.approx(-(ends[0] - ends[1]) / 2e-5, rel=1e-6)
    assert len(errors) == 4


@double
def test_batches_of_other_sizes() -> None:
    """Rows beyond the memory have none; a small batch leaves zeros behind."""
    network, *_, batches = problem()
    linear, *_ = problem("linear_feedback_alignment")
    small = tuple(part[:2] for part in batches[0])
    changes_of(network, *small)
    assert np.all(array(network.memory[0])[2:] == 0)
    assert np.all(np.abs(array(network.memory[0])[:2]).max(axis=1) > 0)
    large = tuple(np.concatenate([a, b]) for a, b in zip(*batches, strict=True))
    network.forget()
    for one, other in zip(changes_of(network, *large), changes_of(linear, *large), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-15)
    assert array(network.memory[0]).shape == (BATCH, 3)


@pytest.mark.parametrize("rule", ["error_difference", "activation_product"])
def test_a_step_that_is_undone_leaves_nothing_in_the_memory(rule: str) -> None:
    """Else what is not a number would come back as the last batch's error, in every step."""
    network = TemporalDifferenceNetwork([6, 5, 3], rule=rule, batch_size=BATCH)
    network.compile(keras.optimizers.SGD(0.1))
    x, y = probe((BATCH, 6)), np.arange(BATCH) % 3
    network.train_on_batch(x, y)
    before, healthy = array(network.memory[0]), array(network.synapses[0].kernel)
    assert np.abs(before).max() > 0.0
    network.synapses[0].kernel.assign(np.full(healthy.shape, np.nan))
    with pytest.raises(ValueError, match="`loss` must be finite"):
        network.train_on_batch(x, y)
    np.testing.assert_array_equal(array(network.memory[0]), before)
    network.synapses[0].kernel.assign(healthy)
    assert np.isfinite(network.train_on_batch(x, y))


def test_costs() -> None:
    scores, targets = np.array([[0.5, 0.25, 0.25]]), np.array([[1.0, 0.0, 0.0]])
    for cost, wanted in (("mce", np.log(2)), ("lse", 0.5 * (0.25 + 2 * 0.0625))):
        network = TemporalDifferenceNetwork([4, 5, 3], cost=cost)
        assert float(network.cost(targets, scores)[0]) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.thorough
def test_the_ranking_on_digits() -> None:
    """Backpropagation, then feedback alignment with and without derivatives, then ITD."""
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = (images[order] / 16).astype("float32"), labels[order]
    images = images - images.mean(axis=0)
    accuracy = {}
    for rule in RULES:
        if rule.endswith("product"):
            continue
        keras.utils.set_random_seed(1)
        network = TemporalDifferenceNetwork([64, 32, 32, 32, 10], rule=rule)
        network.compile(keras.optimizers.SGD(0.01), metrics=["accuracy"], steps_per_execution=100)
        # 5000 batches in one epoch.
        repeated = np.tile(images[:1500], (334, 1)), np.tile(labels[:1500], 334)
        network.fit(*repeated, batch_size=100, verbose=0)
        accuracy[rule] = network.evaluate(images[1500:], labels[1500:], verbose=0)[1]
    assert accuracy["backprop"] > 0.92
    assert accuracy["backprop"] > accuracy["feedback_alignment"]
    linear = accuracy["linear_feedback_alignment"]
    assert abs(accuracy["feedback_alignment"] - linear) < 0.06
    assert 0.5 < accuracy["error_difference"] < linear - 0.05
    assert accuracy["frozen"] - 0.05 < accuracy["error_difference"]


BAD: list[tuple[str, dict[str, Any]]] = [
    ("sizes", {"sizes": [4, 3]}),
    ("cost", {"cost": "mse"}),
    ("rule", {"rule": "itd"}),
    ("batch_size", {"batch_size": 0}),
]


@pytest.mark.parametrize(("argument", "arguments"), BAD)
def test_bad_arguments(argument: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"`{argument}` must be"):
        TemporalDifferenceNetwork(**{"sizes": [4, 3, 2], **arguments})
