"""`compile()` without arguments learns; a network that has saturated is warned of."""

from __future__ import annotations

import warnings
from collections.abc import Callable
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


def digits(flatten: bool = True) -> Any:
    pytest.importorskip("sklearn")
    return kl.datasets.load("digits", flatten=flatten)


def accuracy(make: Callable[[], keras.Model], data: Any, seed: int, *compiled: Any) -> float:
    """The accuracy on the test images after 40 epochs."""
    keras.utils.set_random_seed(seed)
    model = make()
    model.compile(*compiled, metrics=["accuracy"])
    model.fit(*data[0], epochs=40, verbose=0)
    return float(model.evaluate(*data[1], verbose=0)[1])


def backpropagation(layers: Callable[[], list[Any]], data: Any, seed: int) -> float:
    """The accuracy of such layers under a softmax."""

    def make() -> keras.Model:
        made = [*layers(), keras.layers.Dense(10, "softmax")]
        return keras.Sequential([keras.Input(data[0][0].shape[1:]), *made])

    return accuracy(make, data, seed, "adam", "sparse_categorical_crossentropy")


@pytest.mark.thorough
@pytest.mark.parametrize("name", NETWORKS)
def test_within_three_points_of_backpropagation(name: str) -> None:
    """Nothing is tuned: `compile()` alone, three seeds, as many epochs for both."""
    data = digits()
    for seed in range(3):
        expected = backpropagation(lambda: [keras.layers.Dense(64, "tanh")], data, seed)
        found = accuracy(lambda: getattr(dynamics, name)([64, 64, 10]), data, seed)
        assert found > expected - 0.03


def convolutions() -> list[Any]:
    """The layers of a network with the filters 16 and 32, and its activation function."""
    layers: list[Any] = []
    for filters in (16, 32):
        layers.append(keras.layers.Conv2D(filters, 3, padding="same"))
        layers.append(keras.layers.MaxPooling2D())
        layers.append(keras.layers.Activation(lambda u: keras.ops.clip(0.5 * u, 0.0, 1.0)))
    return [*layers, keras.layers.Flatten()]


@pytest.mark.thorough
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(3, 6))
def test_convolutions_within_three_points_of_backpropagation(seed: int) -> None:
    """The seeds are others than those by which the default was chosen."""
    data = digits(flatten=False)
    network = accuracy(lambda: dynamics.ConvEquilibriumNetwork((8, 8, 1), (16, 32), 10), data, seed)
    assert network > backpropagation(convolutions, data, seed) - 0.03


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
    convolutional = dynamics.ConvEquilibriumNetwork((4, 4, 1), (2,), 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convolutional.compile()
    assert isinstance(convolutional.optimizer, keras.optimizers.Adam)
    assert float(convolutional.optimizer.learning_rate) == pytest.approx(0.01)
    published = dynamics.ConvEquilibriumNetwork.preset(filters=(4, 4, 4, 4))
    published.compile()
    assert float(published.optimizer.learning_rate) == 1.0
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


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_a_microcircuit_at_chance_is_warned_of(rate: float) -> None:
    """At the smaller rate the outputs still differ a little, but name one class."""
    (train, labels), _ = digits(flatten=True)
    keras.utils.set_random_seed(0)
    network = dynamics.MicrocircuitNetwork([64, 64, 10])
    network.compile(keras.optimizers.SGD(rate))
    with pytest.warns(UserWarning, match="saturated"):
        network.fit(train[:800], labels[:800], epochs=8, verbose=0)
    assert len(np.unique(np.argmax(network.predict(train[800:1000], verbose=0), axis=1))) == 1


@pytest.mark.slow
def test_saturated_convolutions_are_warned_of() -> None:
    (train, labels), _ = digits(flatten=False)
    keras.utils.set_random_seed(0)
    network = dynamics.ConvEquilibriumNetwork((8, 8, 1), (8, 8), 10)
    network.compile(keras.optimizers.SGD(5.0))
    with pytest.warns(UserWarning, match="saturated"):
        network.fit(train[:320], labels[:320], epochs=2, verbose=0)
