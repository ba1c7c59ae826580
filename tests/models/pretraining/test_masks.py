"""Pretraining passes masks on: padding of any content changes no weight and no report."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import keras_local as kl
from tests.support import array

RNG = np.random.default_rng(5)
STEPS, FEATURES, SAMPLES, PADDING = 4, 3, 24, -7.0
X = RNG.random((SAMPLES, STEPS, FEATURES)).astype("float32")
LAW = keras.initializers.RandomUniform(0.2, 1.0, seed=1)


def encoder(steps: int, convolution: bool, masked: bool) -> keras.Model:
    first: Any = kl.layers.HebbianDense(5, kernel_initializer=LAW, name="first")
    if convolution:
        first = kl.layers.HebbianConv1D(5, 2, kernel_initializer=LAW, name="first")
    return keras.Sequential(
        [
            keras.Input((steps, FEATURES)),
            *([keras.layers.Masking(PADDING)] if masked else []),
            first,
            kl.layers.HebbianDense(4, "oja", kernel_initializer=LAW, name="second"),
        ]
    )


def pretrained(model: keras.Model, x: np.ndarray) -> tuple[list[np.ndarray], Any]:
    keras.utils.set_random_seed(0)
    histories = kl.models.pretrain(model, x, epochs=3, batch_size=8, step_size=0.1, verbose=0)
    return [array(weight) for weight in model.weights], histories


@pytest.mark.parametrize("convolution", [False, True])
@pytest.mark.filterwarnings("ignore:Only .* of the units")
def test_padding_changes_nothing(convolution: bool) -> None:
    expected, reports = pretrained(encoder(STEPS, convolution, True), X)
    longer = np.concatenate([X, np.full((SAMPLES, 3, FEATURES), PADDING, "float32")], axis=1)
    found, others = pretrained(encoder(STEPS + 3, convolution, True), longer)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert not np.allclose(found[0], array(encoder(STEPS, convolution, True).weights[0]))
    for name, history in others.items():
        assert history.report == pytest.approx(reports[name].report, rel=1e-5)
