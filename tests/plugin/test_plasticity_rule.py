"""A plasticity rule of the user's, whose units settle and have a memory, takes every path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import keras_local as kl
from tests.plugin import trips
from tests.plugin.package.plasticity import Foldiak
from tests.support import (
    BACKEND,
    array,
    largest_difference,
    tensorflow_only,
    two_replicas,
    weights_of,
)

pytestmark = [pytest.mark.daily, pytest.mark.filterwarnings("ignore:Only .* have converged")]

START = keras.initializers.RandomUniform(0.0, 0.5, seed=3)
INPUTS, LABELS = trips.data((6,))
INPUTS = (INPUTS > 0.0).astype("float32")


def settled(sums: np.ndarray, lateral: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """The units at rest, in NumPy."""
    active = np.zeros_like(sums)
    for _ in range(15):
        field = sums + active @ lateral - threshold
        active = active + 0.5 * (1.0 / (1.0 + np.exp(-10.0 * field)) - active)
    return (active > 0.5).astype("float64")


def formula(pre: np.ndarray, kernel: np.ndarray, *own: np.ndarray) -> np.ndarray:
    """The change of the kernel, summed over samples."""
    y = settled(pre @ kernel, *own)
    return pre.T @ y - kernel * y.sum(axis=0)


def encoder(*units: int) -> keras.Model:
    layers = [kl.layers.HebbianDense(n, Foldiak(), kernel_initializer=START) for n in units]
    return keras.Sequential([keras.Input((6,)), *layers])


def trained(units: int = 5, epochs: int = 3) -> keras.Model:
    model = trips.compiled(encoder(units), loss=None)
    trips.fit(model, INPUTS, epochs=epochs)
    return model


def test_the_checker() -> None:
    kl.testing.check_plasticity_rule(Foldiak(), formula)


def test_the_layer_fires_or_does_not() -> None:
    model = trained()
    layer = model.layers[0]
    kernel, lateral, threshold = (array(w).astype("float64") for w in layer.weights)
    assert np.any(lateral < 0.0)
    assert np.all(np.diag(lateral) == 0.0)
    assert np.any(threshold != 0.0)
    outputs = model.predict(INPUTS, verbose=0)
    np.testing.assert_array_equal(outputs, settled(INPUTS @ kernel, lateral, threshold))
    assert set(np.unique(outputs)) == {0.0, 1.0}


@pytest.mark.parametrize("way", ["fit", "pretrain"])
def test_one_step_is_the_formula(way: str) -> None:
    model = encoder(5)
    layer = model.layers[0]
    kernel = array(layer.kernel).astype("float64")
    own = np.zeros((5, 5)), np.zeros(5)
    if way == "fit":
        model.compile(keras.optimizers.SGD(0.1), **trips.compile_options())
        model.fit(INPUTS, batch_size=len(INPUTS), verbose=0)
    else:
        kl.models.pretrain(
            model, INPUTS, epochs=1, batch_size=len(INPUTS), step_size=0.1, verbose=0
        )
    wanted = kernel + 0.1 * formula(INPUTS, kernel, *own) / len(INPUTS)
    np.testing.assert_allclose(array(layer.kernel), wanted, rtol=1e-5, atol=1e-6)
    y = settled(INPUTS @ kernel, *own)
    lateral = np.minimum(-0.1 * (y.T @ y / len(y) - 0.25**2), 0.0) * (1.0 - np.eye(5))
    np.testing.assert_allclose(array(layer.weights[1]), lateral, atol=1e-6)
    np.testing.assert_allclose(array(layer.weights[2]), 0.05 * (y.mean(0) - 0.25), atol=1e-6)


def test_pretraining_feeds_the_next_layer_with_what_is_put_out() -> None:
    model = encoder(5, 4)
    kl.models.pretrain(model, INPUTS, epochs=2, batch_size=8, step_size=0.1, verbose=0)
    alone = keras.Sequential([keras.Input((5,)), kl.layers.HebbianDense(4, Foldiak())])
    other = encoder(5, 4)
    alone.layers[0].set_weights(other.layers[1].get_weights())
    features = keras.Sequential(model.layers[:1]).predict(INPUTS, verbose=0)
    assert set(np.unique(features)) <= {0.0, 1.0}
    kl.models.pretrain(alone, features, epochs=1, batch_size=16, step_size=0.1, verbose=0)
    assert np.all(np.isfinite(model.get_weights()[3]))


@tensorflow_only
def test_it_becomes_plain(tmp_path: Path) -> None:
    trips.becomes_plain(trained(), INPUTS, tmp_path)


def test_save_and_go_on(tmp_path: Path) -> None:
    trips.saves_and_goes_on(trained(), INPUTS, None, tmp_path)


@tensorflow_only
@pytest.mark.parametrize("make", [kl.models.readout, kl.models.hebbian_readout])
def test_readouts(make: Any, tmp_path: Path) -> None:
    model = make(trained(8), 3)
    model.fit(INPUTS, LABELS, verbose=0)
    scores = model.predict(INPUTS, verbose=0)
    assert scores.shape == (len(INPUTS), 3)
    assert np.all(np.isfinite(scores))
    model.save(tmp_path / "readout.keras")
    restored = keras.saving.load_model(tmp_path / "readout.keras")
    np.testing.assert_allclose(restored.predict(INPUTS, verbose=0), scores, rtol=1e-5, atol=1e-6)


def test_monitors_and_figures() -> None:
    """Convergence has no meaning for the rule, so that nobody reports it."""
    model = trips.compiled(encoder(5), loss=None)
    monitor = kl.callbacks.ConvergenceMonitor(data=INPUTS)
    with pytest.warns(UserWarning, match="ConvergenceMonitor has nothing to report"):
        history = model.fit(INPUTS, epochs=2, verbose=0, callbacks=[monitor])
    assert not any("converged" in name for name in history.history)
    with pytest.raises(ValueError, match="norm_exponent"):
        kl.metrics.convergence_report(model.layers[0])
    kl.metrics.win_counts(model.layers[0], INPUTS)
    pytest.importorskip("matplotlib")
    kl.plots.receptive_fields(model.layers[0], shape=(2, 3))
    kl.plots.norm_histogram(model.layers[0])


@tensorflow_only
@pytest.mark.parametrize("way", ["fit", "pretrain"])
def test_two_replicas(way: str) -> None:
    def run(model: keras.Model) -> None:
        if way == "fit":
            trips.fit(model, INPUTS, epochs=2)
        else:
            kl.models.pretrain(model, INPUTS, 2, batch_size=8, step_size=0.1, verbose=0)

    single = trips.compiled(encoder(5), loss=None)
    run(single)
    with two_replicas().scope():
        double = trips.compiled(encoder(5), loss=None)
    run(double)
    assert largest_difference(weights_of(double), weights_of(single)) < 2e-6


def test_in_a_convolution_and_under_a_trace(tmp_path: Path) -> None:
    layer = kl.layers.HebbianConv2D(4, 3, plasticity=Foldiak(), kernel_initializer=START)
    images = np.random.default_rng(0).random((8, 5, 5, 2)).astype("float32")
    model = trips.compiled(keras.Sequential([keras.Input((5, 5, 2)), layer]), loss=None)
    trips.fit(model, images)
    assert set(np.unique(model.predict(images, verbose=0))) <= {0.0, 1.0}
    inputs = keras.Input((6,))
    traced = kl.layers.HebbianDense(
        5, kl.plasticity.EligibilityRule(Foldiak(), tau=2.0), kernel_initializer=START
    )
    model = keras.Model(inputs, traced(inputs, modulator=keras.ops.mean(inputs, axis=1)))
    before = weights_of(model)
    trips.fit(trips.compiled(model, loss=None), INPUTS)
    assert set(np.unique(model.predict(INPUTS, verbose=0))) <= {0.0, 1.0}
    for old, new in zip(before, weights_of(model), strict=True):
        assert np.any(old != new)
    assert BACKEND
