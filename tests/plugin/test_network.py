"""A network of the user's takes every path that ours take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import keras_local as kl
from tests.plugin import trips
from tests.plugin.package.network import TwoPasses
from tests.support import array, largest_difference, tensorflow_only, two_replicas, weights_of

pytestmark = [pytest.mark.daily, tensorflow_only]

INPUTS, LABELS = trips.data((4,))


def net(**options: Any) -> TwoPasses:
    return TwoPasses([4, 6, 3], **options)


def test_one_step_is_the_formula() -> None:
    network = trips.compiled(net(), loss=None, rate=0.5)
    w1, b1 = (array(w) for w in network.below.weights)
    w2, b2, back = (array(w) for w in network.above.weights)
    network.train_on_batch(INPUTS, LABELS)
    hidden = np.tanh(INPUTS @ w1 + b1)
    error = (np.eye(3)[LABELS] - hidden @ w2 - b2) / len(INPUTS)
    step = INPUTS.T @ (error @ back.T * (1.0 - hidden**2))
    np.testing.assert_allclose(array(network.below.kernel), w1 + 0.5 * step, atol=1e-6)
    np.testing.assert_allclose(array(network.above.kernel), w2 + 0.5 * hidden.T @ error, atol=1e-6)


def test_it_learns_and_goes_on(tmp_path: Path) -> None:
    network = trips.compiled(net(gain=0.5), loss=None)
    losses = trips.fit(network, INPUTS, LABELS, epochs=5)
    assert losses[-1] < losses[0]
    assert float(array(network.learned)) == 10.0
    trips.saves_and_goes_on(network, INPUTS, LABELS, tmp_path)


def test_with_no_part_trainable_nothing_changes() -> None:
    network = net()
    network.trainable = False
    before = weights_of(network)
    trips.compiled(network, loss=None)
    trips.fit(network, INPUTS, LABELS)
    assert largest_difference(before, weights_of(network)) == 0.0


def test_evaluate_datasets_and_weights() -> None:
    import tensorflow as tf

    network = net()
    network.compile("sgd", metrics=["accuracy"], jit_compile=False)
    data = tf.data.Dataset.from_tensor_slices((INPUTS, LABELS)).batch(8)
    network.fit(data, validation_data=data, verbose=0)
    network.fit(INPUTS, LABELS, sample_weight=np.ones(len(INPUTS)), verbose=0)
    np.testing.assert_allclose(
        network.evaluate(data, verbose=0), network.evaluate(INPUTS, LABELS, verbose=0), rtol=1e-5
    )


@pytest.mark.parametrize("labels", [LABELS + 9, LABELS.astype("float32") + 0.5])
def test_bad_labels_are_refused_and_nothing_changes(labels: np.ndarray) -> None:
    import tensorflow as tf

    network = trips.compiled(net(), loss=None)
    trips.fit(network, INPUTS, LABELS)
    before = weights_of(network)
    data = tf.data.Dataset.from_tensor_slices((INPUTS, labels)).batch(8)
    for call in (
        lambda: network.fit(INPUTS, labels, verbose=0),
        lambda: network.train_on_batch(INPUTS, labels),
        lambda: network.evaluate(INPUTS, labels, verbose=0),
        lambda: network.fit(data, verbose=0),
        lambda: network.evaluate(data, verbose=0),
    ):
        with pytest.raises((ValueError, TypeError)):
            call()
    assert largest_difference(before, weights_of(network)) == 0.0


def test_an_optimizer_that_erases_the_rates() -> None:
    class Mine(keras.optimizers.Adam):
        pass

    with pytest.warns(UserWarning, match="no effect"):
        net(gain=0.5).compile(Mine(1e-3))


@pytest.mark.parametrize("way", ["network", "models"])
def test_export(way: str, tmp_path: Path) -> None:
    import tensorflow as tf

    network = net()
    if way == "network":
        network.export(tmp_path / "served", verbose=False)
    else:
        kl.models.export(network, tmp_path / "served")
    served = tf.saved_model.load(tmp_path / "served")
    expected = network.predict(INPUTS, verbose=0)
    np.testing.assert_allclose(array(served.serve(INPUTS)), expected, rtol=1e-5, atol=1e-6)


def test_two_replicas() -> None:
    single = trips.compiled(net(), loss=None)
    start = weights_of(single)
    losses = trips.fit(single, INPUTS, LABELS, 2)
    with two_replicas().scope():
        double = net()
        double.set_weights(start)
        trips.compiled(double, loss=None)
    assert trips.fit(double, INPUTS, LABELS, 2) == pytest.approx(losses, rel=1e-5)
    assert largest_difference(weights_of(double), weights_of(single)) < 2e-6
