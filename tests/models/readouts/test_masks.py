"""Readouts pass masks on: padding changes no feature and no score."""

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
Y = np.arange(SAMPLES) % 2
LONGER = np.concatenate([X, np.full((SAMPLES, 3, FEATURES), PADDING, "float32")], axis=1)


def encoder() -> keras.Model:
    law = keras.initializers.RandomUniform(0.2, 1.0, seed=1)
    return keras.Sequential(
        [
            keras.Input((None, FEATURES)),
            keras.layers.Masking(PADDING),
            kl.layers.HebbianDense(5, "oja", kernel_initializer=law),
            keras.layers.GlobalAveragePooling1D(),
        ]
    )


@pytest.mark.parametrize(
    "make", [kl.models.readout, kl.models.hebbian_readout, kl.models.nearest_neighbours]
)
def test_padding_changes_nothing(make: Any) -> None:
    found = []
    for inputs in (X, LONGER):
        keras.utils.set_random_seed(0)
        model = make(encoder(), 2)
        model.fit(inputs, Y, shuffle=False, verbose=0)
        found.append([array(model.predict(each, verbose=0)) for each in (X, LONGER)])
    for scores in (found[0][1], *found[1]):
        np.testing.assert_allclose(scores, found[0][0], rtol=1e-4, atol=1e-5)
