"""Recirculation against NumPy loops, and the limits in which it is gradient descent."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from keras_local.dynamics import RecirculationAutoencoder
from tests.oracles_dynamics import relative_error, sigmoid
from tests.support import BACKEND, array, largest_difference, weights_of

double = pytest.mark.skipif(BACKEND == "jax", reason="JAX has no float64 unless asked for")

VISIBLE, HIDDEN = 6, 3


def problem(symmetric: bool = False, **arguments: Any) -> tuple[Any, ...]:
    """A network in float64, its `W`, `V`, `b` and `c`, and samples."""
    rng = np.random.default_rng(5)
    network = RecirculationAutoencoder(VISIBLE, HIDDEN, dtype="float64", **arguments)
    W = 0.5 * rng.normal(size=(VISIBLE, HIDDEN))
    V = W if symmetric or network.tied else 0.5 * rng.normal(size=W.shape)
    b, c = 0.3 * rng.normal(size=HIDDEN), 0.3 * rng.normal(size=VISIBLE)
    network.synapses.kernel.assign(W)
    if not network.tied:
        network.synapses.feedback_kernel.assign(V)
    if network.use_bias:
        network.synapses.bias.assign(b)
        network.visible_bias.assign(c)
    return network, (W, V, b, c), rng.random((5, VISIBLE))


def changes_of(network: Any, inputs: np.ndarray) -> dict[str, np.ndarray]:
    x = ops.convert_to_tensor(inputs)
    share = ops.full((len(inputs),), 1 / len(inputs), dtype="float64")
    changes = network.changes(x, x, network.free_phase(x), share)
    return {weight.name: array(change) for weight, change in changes}


@double
@pytest.mark.parametrize("tied", [False, True])
def test_changes_are_those_of_the_oracle(tied: bool) -> None:
    network, (W, V, b, c), inputs = problem(regression=0.6, tied=tied)
    wanted = {"kernel": np.zeros(W.shape), "feedback_kernel": np.zeros(W.shape)}
    wanted |= {"bias": np.zeros(HIDDEN), "visible_bias": np.zeros(VISIBLE)}
    for v0 in inputs:
        h1 = sigmoid(W.T @ v0 + b)
        v2 = 0.6 * v0 + 0.4 * sigmoid(V @ h1 + c)
        h3 = 0.6 * h1 + 0.4 * sigmoid(W.T @ v2 + b)
        wanted["kernel"] += np.outer(v2, h1 - h3) / 5
        wanted["feedback_kernel"] += np.outer(v0 - v2, h1) / 5
        wanted["bias"] += (h1 - h3) / 5
        wanted["visible_bias"] += (v0 - v2) / 5
    if tied:
        wanted["kernel"] += wanted.pop("feedback_kernel")
    found = changes_of(network, inputs)
    assert found.keys() == wanted.keys()
    for name, change in wanted.items():
        np.testing.assert_allclose(found[name], change, atol=1e-15)
        assert np.abs(change).max() > 1e-4


def loss_gradients(
    activation: str, W: np.ndarray, V: np.ndarray, inputs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of the loss of `W` and of `V`, downwards, by central differences.

    The loss is half the squared distance of linear units, and the cross-entropy of sigmoid ones.
    """

    def loss(W: np.ndarray, V: np.ndarray) -> float:
        if activation == "linear":
            return float(0.5 * np.sum((inputs @ W @ V.T - inputs) ** 2) / len(inputs))
        found = sigmoid(sigmoid(inputs @ W) @ V.T)
        bits = inputs * np.log(found) + (1 - inputs) * np.log(1 - found)
        return float(-np.sum(bits) / len(inputs))

    found = []
    for which in range(2):
        gradient = np.zeros(W.shape)
        for place in np.ndindex(W.shape):
            bump = np.zeros(W.shape)
            bump[place] = 1e-5
            there = [(W + way * bump, V) if which == 0 else (W, V + way * bump) for way in (1, -1)]
            gradient[place] = (loss(*there[1]) - loss(*there[0])) / 2e-5
        found.append(gradient)
    return found[0], found[1]


both = pytest.mark.parametrize("activation", ["linear", "sigmoid"])


@double
@both
@pytest.mark.parametrize("symmetric", [False, True])
def test_the_decoder_descends_the_loss(symmetric: bool, activation: str) -> None:
    """REC-1: exactly, whatever the regression."""
    for regression in (0.0, 0.75, 0.99):
        network, (W, V, _, _), inputs = problem(
            symmetric, regression=regression, activation=activation, use_bias=False
        )
        _, gradient = loss_gradients(activation, W, V, inputs)
        found = changes_of(network, inputs)["feedback_kernel"] / (1 - regression)
        assert relative_error(found, gradient) < 1e-7


@double
@both
def test_the_encoder_descends_the_loss_where_little_changes(activation: str) -> None:
    """REC-1: half the share of the reconstruction, half the distance; `V = W` is needed."""
    distances: dict[bool, list[float]] = {}
    for symmetric in (True, False):
        for new in (0.5, 0.25, 0.125, 0.0625):
            network, (W, V, _, _), inputs = problem(
                symmetric, regression=1.0 - new, activation=activation, use_bias=False
            )
            gradient, _ = loss_gradients(activation, W, V, inputs)
            found = changes_of(network, inputs)["kernel"] / new**2
            distances.setdefault(symmetric, []).append(relative_error(found, gradient))
    for one, half in zip(distances[True], distances[True][1:], strict=False):
        # Exactly linear in the share for linear units, and to first order for the others.
        assert one / half == pytest.approx(2.0, rel=1e-4 if activation == "linear" else 0.1)
    assert distances[True][-1] < 0.1
    assert min(distances[False]) > 0.5


@double
def test_nothing_changes_where_samples_are_reconstructed() -> None:
    rng = np.random.default_rng(6)
    network = RecirculationAutoencoder(
        VISIBLE, VISIBLE, activation="linear", use_bias=False, dtype="float64"
    )
    rotation, _ = np.linalg.qr(rng.normal(size=(VISIBLE, VISIBLE)))
    network.synapses.kernel.assign(rotation)
    network.synapses.feedback_kernel.assign(rotation)
    for change in changes_of(network, rng.random((5, VISIBLE))).values():
        assert np.abs(change).max() < 1e-15
    network.synapses.feedback_kernel.assign(0.9 * rotation)
    for change in changes_of(network, rng.random((5, VISIBLE))).values():
        assert np.abs(change).max() > 1e-3


def encoder(**arguments: Any) -> Any:
    """4-2-4, of weights that no backend draws otherwise."""
    rng = np.random.default_rng(0)
    network = RecirculationAutoencoder(4, 2, **arguments)
    for weight in network.trainable_variables:
        weight.assign(rng.uniform(-1, 1, weight.shape))
    return network


@pytest.mark.few(1)
@pytest.mark.parametrize("tied", [False, True])
def test_it_learns_to_encode_four_patterns_in_two_units(tied: bool) -> None:
    network = encoder(tied=tied)
    network.compile(keras.optimizers.SGD(3.0 if tied else 10.0))
    patterns = np.eye(4, dtype="float32")
    before = network.evaluate(patterns, verbose=0)
    network.fit(np.tile(patterns, (1000, 1)), batch_size=4, shuffle=False, verbose=0)
    after = network.evaluate(patterns, verbose=0)
    assert before > 0.3
    assert after < 0.05
    found = array(network(patterns))
    assert np.abs(found - patterns).max() < 0.3
    codes = array(network.encode(patterns))
    assert codes.shape == (4, 2)
    np.testing.assert_allclose(array(network.decode(codes)), found, rtol=1e-6)


def test_samples_are_their_own_targets() -> None:
    network = encoder()
    network.compile("sgd", metrics=["mse"])
    samples = np.random.default_rng(1).random((8, 4)).astype("float32")
    logs = network.evaluate(samples, return_dict=True, verbose=0)
    distance = np.mean((network.predict(samples, verbose=0) - samples) ** 2)
    assert logs["mse"] == pytest.approx(distance, rel=1e-5)
    assert logs["loss"] == pytest.approx(2.0 * distance, rel=1e-5)
    logs = network.fit(samples, validation_data=(samples,), verbose=0).history
    assert {"loss", "mse", "val_loss", "val_mse"} == set(logs)
    assert network.train_on_batch(samples)[0] == pytest.approx(logs["val_loss"][0], rel=1e-4)
    begin = weights_of(network)
    for method in (network.fit, network.evaluate):
        with pytest.raises(ValueError, match="`y` must be left out"):
            method(samples, samples, verbose=0)
        with pytest.raises(ValueError, match="`sample_weight` must be left out"):
            method(samples, sample_weight=np.ones(8), verbose=0)
    with pytest.raises(ValueError, match=r"`validation_data` must be `\(x,\)`.*labels or weights"):
        network.fit(samples, validation_data=(samples, samples), verbose=0)
    with pytest.raises(ValueError, match=r"`validation_data` must be `\(x,\)`.*weights of samples"):
        network.fit(samples, validation_data=(samples, None, np.ones(8)), verbose=0)
    assert largest_difference(begin, weights_of(network)) == 0.0


def test_codes_and_samples_of_another_size_are_refused() -> None:
    network = encoder()
    with pytest.raises(ValueError, match="`inputs` must be of shape"):
        network.encode(np.eye(2))
    with pytest.raises(ValueError, match="`codes` must be of shape"):
        network.decode(np.eye(4))


BAD: list[tuple[str, dict[str, Any]]] = [
    ("visible", {"visible": 1}),
    ("hidden", {"hidden": 0}),
    ("regression", {"regression": 1.0}),
    ("regression", {"regression": -0.1}),
    ("activation", {"activation": "relu"}),
]


@pytest.mark.parametrize(("argument", "arguments"), BAD)
def test_bad_arguments(argument: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"`{argument}` must be"):
        RecirculationAutoencoder(**{"visible": 4, "hidden": 2, **arguments})
