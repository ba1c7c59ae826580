"""Measures of what units learn from images: fields of photographs, norms, reconstructions."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_local import _validation as check
from keras_local import dynamics, layers, models, plasticity
from keras_local.reproduce.measures.plasticity_rules import kernel_of, learned
from keras_local.reproduce.outcome import Outcome, Run


def natural_fields(
    run: Run,
    rule: Any,
    units: int,
    size: int,
    epochs: int,
    whiten: bool = True,
    step_size: float = 0.02,
) -> Outcome:
    """Learn from patches of photographs; the result is how sparse units respond.

    Args:
        run: The run, with its data.
        rule: The plasticity rule.
        units: Number of units.
        size: Side of the patches, cut out of the middle.
        epochs: Passes over the patches.
        whiten: Whether the patches are whitened, without the smallest components.
        step_size: Step size in the first epoch.
    """
    if run.arrays is None:
        raise ValueError(check.refusal("data", "given", "none"))
    patches = _patches(run.arrays.train[0], size)
    if whiten:
        patches = _whitened(patches)
    else:
        patches /= patches.std()
    start = {"name": "RandomNormal", "stddev": 1.0 / size}
    layer = learned(run, rule, patches, units, epochs, 200, step_size, kernel_initializer=start)
    kernel = kernel_of(layer)
    responses = patches @ kernel
    responses /= responses.std(axis=0)
    kurtosis = np.mean(responses**4, axis=0) - 3.0
    arrays = {"receptive_fields": kernel.T[:100].astype("float16")} if run.fields else {}
    return Outcome({"kurtosis": float(kurtosis.mean())}, arrays=arrays)


def _patches(images: np.ndarray, size: int) -> np.ndarray:
    """Return logarithms of grey levels as rows, without the means of patches and of pixels."""
    most = images.shape[1]
    check.require(0 < size <= most, "size", f"from 1 to {most}", size)
    first = (most - size) // 2
    window = slice(first, first + size)
    grey = np.log1p(255.0 * images[:, window, window].astype("float64"))
    rows = grey.reshape(len(grey), -1)
    centred = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(centred - centred.mean(axis=0))


def _whitened(patches: np.ndarray, kept: float = 0.95) -> np.ndarray:
    """Return patches of variance 1 in the components that hold most of the variance."""
    values, vectors = np.linalg.eigh(np.cov(patches.T))
    values, vectors = values[::-1], vectors[:, ::-1]
    most = int(np.searchsorted(np.cumsum(values) / values.sum(), kept)) + 1
    whitening = vectors[:, :most] / np.sqrt(values[:most]) @ vectors[:, :most].T
    return np.asarray(patches @ whitening)


def on_sphere(
    run: Run, p: float, units: int, epochs: int, step_size: float, delta: float = 0.4
) -> Outcome:
    """Let competing units learn images; how many of the winning units end on the unit sphere?

    Args:
        run: The run, with its data.
        p: Lebesgue norm of the rule.
        units: Number of units.
        epochs: Passes over the images; 0 for units as they start.
        step_size: Step size in the first epoch.
        delta: Strength of anti-Hebbian learning.
    """
    if run.arrays is None:
        raise ValueError(check.refusal("data", "given", "none"))
    images = run.arrays.train[0]
    keras.utils.set_random_seed(run.seed)
    layer = layers.HebbianDense(
        units,
        plasticity=plasticity.KrotovHopfield(p, rank=2, delta=delta),
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.6),
    )
    encoder = keras.Sequential([keras.Input(images.shape[1:]), layer])
    if epochs:
        models.pretrain(
            encoder,
            images,
            epochs=epochs,
            step_size=step_size,
            verbose=0,
            callbacks=run.callbacks("pretrain"),
        )
    kernel = kernel_of(layer)
    currents = images @ (np.sign(kernel) * np.abs(kernel) ** (p - 1.0))
    winners = np.unique(np.argmax(currents, axis=1))
    norms = np.sum(np.abs(kernel[:, winners]) ** p, axis=0)
    inside = (norms > 0.98) & (norms < 1.05)
    final = {"on_sphere": float(inside.mean()), "winners": len(winners) / units}
    return Outcome(final)


def recirculation(run: Run, epochs: int, tied: bool = False, regression: float = 0.75) -> Outcome:
    """Encode four patterns in two units by recirculation; the result is the reconstruction's error.

    Args:
        run: The run, for its seed.
        epochs: Passes over 25 copies of the patterns; 0 for the network as it starts.
        tied: Whether the way back has the weights of the way up.
        regression: As in `RecirculationAutoencoder`.
    """
    keras.utils.set_random_seed(run.seed + 1)
    patterns = np.tile(np.eye(4, dtype="float32"), (25, 1))
    network = dynamics.RecirculationAutoencoder(4, 2, regression, tied=tied)
    network.compile(keras.optimizers.SGD(2.5 / (1.0 - regression)))
    curve = [float(network.evaluate(patterns[:4], verbose=0))]
    if epochs:
        history = network.fit(
            patterns,
            batch_size=4,
            epochs=epochs,
            shuffle=False,
            verbose=0,
            callbacks=run.callbacks("train"),
        )
        curve = [float(each) for each in history.history["loss"]]
    return Outcome({"loss": float(network.evaluate(patterns[:4], verbose=0))}, {"loss": curve})
