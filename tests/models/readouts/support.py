"""Images, encoders and readouts that the tests of the linear readout share."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_local import layers
from keras_local.models import readout
from keras_local.plasticity import KrotovHopfield
from tests.support import array, probe

UNITS, SAMPLES = 9, 60
NEVER_WON = 4
"""The unit of `encoder` that still has its large initial weights."""


def samples(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images in [0, 1] of very different contrast, and their three classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, SAMPLES)
    centres = np.random.default_rng(7).random((3, 20))
    images = np.clip(centres[labels] + rng.normal(0.0, 0.15, (SAMPLES, 20)), 0.0, None)
    return (images * rng.uniform(0.05, 1.0, (SAMPLES, 1))).astype("float32"), labels


X, Y = samples()
XE, YE = samples(1)


def unit_kernel(p: float = 2.0) -> np.ndarray:
    """Units on the Lp sphere, as after pretraining, but for one."""
    kernel = np.abs(probe((20, UNITS), 5))
    kernel /= np.sum(kernel**p, axis=0) ** (1.0 / p)
    kernel[:, NEVER_WON] *= 6.0
    return kernel.astype("float32")


def encoder(p: float = 2.0, kernel: np.ndarray | None = None, **options: Any) -> keras.Sequential:
    layer = layers.HebbianDense(UNITS, KrotovHopfield(p), name="hebbian", **options)
    model = keras.Sequential([keras.Input((20,)), layer])
    layer.kernel.assign(unit_kernel(p) if kernel is None else kernel)
    return model


def fitted(**options: Any) -> Any:
    model = readout(encoder(), classes=3)
    model.fit(X, Y, **{"epochs": 2, "batch_size": 20, "verbose": 0, **options})
    return model


def features(
    images: np.ndarray, kernel: np.ndarray, power: float, used: np.ndarray, of: np.ndarray = X
) -> np.ndarray:
    """`RePU(W v / |v|) / RMS`, the RMS that of the used units over the images `of`."""

    def raw(v: np.ndarray) -> np.ndarray:
        v = v.reshape(len(v), -1).astype("float64")
        unit = v / np.sqrt(np.sum(v**2, axis=1))[:, None]
        return np.maximum(unit @ kernel.astype("float64"), 0.0) ** power

    rms = np.sqrt(np.mean(raw(of)[:, used] ** 2))
    return raw(images) * used / rms


USED = np.arange(UNITS) != NEVER_WON


def scores_kernel(model: Any) -> Any:
    return model.get_layer("head").get_layer("scores").kernel


def scale_of(model: Any) -> np.ndarray:
    return array(model.get_layer("head").get_layer("feature_scale").scale)


def dataset(x: np.ndarray, y: np.ndarray, batch: int = 20) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, y)).batch(batch)


def with_nan(position: tuple[int, int] = (50, 3)) -> np.ndarray:
    x = X.copy()
    x[position] = np.nan
    return x


def label(value: float, index: int = 50) -> np.ndarray:
    y = Y.astype("float32")
    y[index] = value
    return y
