"""Real handwritten digits: 64 Hebbian units and a linear readout, beside simpler baselines."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest

from keras_local import datasets, layers
from keras_local.losses import PowerLoss
from keras_local.models import pretrain, readout
from tests.support import BACKEND

pytestmark = [
    pytest.mark.daily,
    pytest.mark.skipif(BACKEND != "tensorflow", reason="long runs on one backend only"),
]

EPOCHS, BATCH = 250, 100
"""Of every linear layer here: 3500 steps."""


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    (x, y), (xe, ye) = datasets.load("digits", flatten=True)
    assert (len(x), len(xe)) == (1400, 397)
    return x, y, xe, ye


def error(model: keras.Model, loss: keras.losses.Loss) -> float:
    """Percent of the test images; the settings are the same for all."""
    x, y, xe, ye = digits()
    steps = len(x) // BATCH
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.05, EPOCHS * steps))
    # An epoch in one call: the steps are small.
    model.compile(optimizer, loss, steps_per_execution=steps, jit_compile=False)
    model.fit(x, y, epochs=EPOCHS, batch_size=BATCH, verbose=0)
    return float(100.0 * np.mean(np.argmax(model.predict(xe, verbose=0), axis=1) != ye))


def readout_error(features: keras.Model) -> float:
    model = readout(features, classes=10, power=4.5)
    return error(model, model.loss)


def encoder(start: keras.initializers.Initializer) -> keras.Model:
    layer = layers.HebbianDense(64, kernel_initializer=start, name="hebbian")
    return keras.Sequential([keras.Input((64,)), layer])


@functools.cache
def hebbian_error(seed: int) -> float:
    """4004 steps without labels, then the readout."""
    keras.utils.set_random_seed(seed)
    model = encoder(keras.initializers.RandomUniform(0.0, 1.0, seed=seed))
    history = pretrain(model, digits()[0], epochs=286, batch_size=100, verbose=0)["hebbian"]
    assert history.report["dead"] < 0.1
    assert history.report["converged"] > 0.5
    return readout_error(model)


@functools.cache
def raw_pixel_error() -> float:
    """A linear layer on the images themselves, of unit norm, trained in the same way."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.UnitNormalization(), keras.layers.Dense(10)]
    )
    return error(model, PowerLoss(6.0, 0.3))


@functools.cache
def random_feature_error() -> float:
    """The same readout on units that have learned nothing."""
    keras.utils.set_random_seed(0)
    kernel = np.random.default_rng(0).normal(size=(64, 64))
    model = encoder(keras.initializers.RandomUniform(0.0, 1.0))
    model.layers[0].kernel.assign(kernel / np.linalg.norm(kernel, axis=0))
    return readout_error(model)


def test_readout_of_hebbian_features() -> None:
    assert hebbian_error(0) <= 2.3


@pytest.mark.thorough
def test_better_than_random_features() -> None:
    assert hebbian_error(0) < 0.5 * random_feature_error()


@pytest.mark.thorough
def test_better_than_raw_pixels() -> None:
    assert hebbian_error(0) < raw_pixel_error()


@pytest.mark.thorough
def test_mean_of_three_seeds() -> None:
    errors = [hebbian_error(seed) for seed in range(3)]
    assert np.mean(errors) <= 2.0, errors
