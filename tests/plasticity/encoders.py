"""Small encoders with known weights, and the oracle that belongs to each."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_local import layers, plasticity
from tests.oracles_plasticity import Krotov
from tests.support import compile_options, probe

# Learning runs in another precision than its oracle: below this gap the two may rank differently.
CLEAR = 1e-5


def krotov(oracle: Krotov, **options: Any) -> plasticity.KrotovHopfield:
    """The package's rule with the settings of an oracle."""
    return plasticity.KrotovHopfield(oracle.p, oracle.rank, oracle.delta, **options)


def hebbian(kernel: np.ndarray, rule: Any, **options: Any) -> keras.Sequential:
    """A model of one layer with the given kernel `(inputs, units)`."""
    layer = layers.HebbianDense(kernel.shape[1], rule, **options)
    model = keras.Sequential([keras.Input((len(kernel),)), layer])
    layer.kernel.assign(kernel)
    return model


def problem(
    units: int, inputs: int = 30, batch: int = 12, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """A batch and a kernel of order one."""
    return probe((batch, inputs), seed), probe((inputs, units), seed + 1)


def fit_steps(
    model: keras.Model, inputs: np.ndarray, step_size: float, batch_size: int, **options: Any
) -> None:
    """One epoch of plain `fit` in a fixed order, without labels or loss."""
    model.compile(keras.optimizers.SGD(step_size), **{**compile_options(), **options})
    model.fit(inputs, batch_size=batch_size, shuffle=False, verbose=0)


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Every entry is right to `tolerance` of the largest."""
    worst = np.max(np.abs(np.asarray(actual, "float64") - expected))
    assert worst <= tolerance * np.max(np.abs(expected)), worst / np.max(np.abs(expected))
