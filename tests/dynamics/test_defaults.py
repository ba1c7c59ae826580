"""`compile()` without arguments learns; a network that has saturated is warned of."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
import pytest

import keras_local as kl
from keras_local import dynamics

NETWORKS = [
    "BurstpropNetwork",
    "ContrastiveHebbianNetwork",
    "DifferenceTargetPropagation",
    "EquilibriumNetwork",
    "ForwardForwardNetwork",
    "MicrocircuitNetwork",
    "PredictiveCodingNetwork",
    "SegregatedDendritesNetwork",
    "TemporalDifferenceNetwork",
]
"""All classifiers of dense layers but `LocalBackpropNetwork`."""


def digits() -> Any:
    pytest.importorskip("sklearn")
    return kl.datasets.load("digits", flatten=True)


def backpropagation(train: Any, test: Any, epochs: int, seed: int) -> float:
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(64, "tanh"), keras.layers.Dense(10, "softmax")]
    model = keras.Sequential([keras.Input((64,)), *layers])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*train, epochs=epochs, verbose=0)
    return float(model.evaluate(*test, verbose=0)[1])


@pytest.mark.thorough
@pytest.mark.parametrize("name", NETWORKS)
def test_within_three_points_of_backpropagation(name: str) -> None:
    """Nothing is tuned: `compile()` alone, three seeds, as many epochs for both."""
    train, test = digits()
    for seed in range(3):
        expected = backpropagation(train, test, 40, seed)
        keras.utils.set_random_seed(seed)
        network = getattr(dynamics, name)([64, 64, 10])
        network.compile(metrics=["accuracy"])
        network.fit(*train, epochs=40, verbose=0)
        assert network.evaluate(*test, verbose=0)[1] > expected - 0.03


def test_the_recommended_optimizer() -> None:
    network = dynamics.EquilibriumNetwork([4, 3, 2])
    network.compile()
    assert float(network.optimizer.learning_rate) == pytest.approx(0.2)
    published = dynamics.EquilibriumNetwork.preset("784-500-10", sizes=[4, 3, 2])
    published.compile()
    assert float(published.optimizer.learning_rate) == 1.0
    named = dynamics.EquilibriumNetwork([4, 3, 2])
    named.compile("sgd")
    assert float(named.optimizer.learning_rate) == pytest.approx(0.01)
    # No network shares an optimizer with another one.
    assert network.default_optimizer() is not network.default_optimizer()


@pytest.mark.parametrize("name", [*NETWORKS, "LocalBackpropNetwork"])
def test_every_network_compiles_alone(name: str) -> None:
    network = getattr(dynamics, name)([13, 13, 3] if name[0] != "L" else [13, 3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network.compile()


def saturated(rate: float, targets: Any = None) -> list[str]:
    rng = np.random.default_rng(0)
    x = rng.random((64, 6)).astype("float32")
    y = np.argmax(x[:, :3], axis=1) if targets is None else targets(x)
    keras.utils.set_random_seed(1)
    # Positive weights: clipped outputs are not all zero from the beginning.
    law = keras.initializers.RandomUniform(0.0, 0.3, seed=1)
    network = dynamics.EquilibriumNetwork([6, 8, 3], kernel_initializer=law)
    network.compile(keras.optimizers.SGD(rate))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        network.fit(x, y, batch_size=16, epochs=10, verbose=0)
    return [str(each.message) for each in caught if "saturated" in str(each.message)]


@pytest.mark.slow
def test_a_saturated_network_is_warned_of() -> None:
    (message,) = saturated(10.0)
    assert "EquilibriumNetwork has saturated" in message
    assert "a smaller learning rate" in message
    assert not saturated(0.3)
    # All of one class: that the outputs do not differ is right.
    assert not saturated(10.0, lambda x: np.zeros(len(x), int))
