"""Small runs of every kind that can be resumed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_local import dynamics, layers, models, plasticity
from keras_local.callbacks import resume_fit

SAMPLES = 250


@dataclass(frozen=True)
class Case:
    """A run: how its model is made, and how it is trained in a directory.

    Attributes:
        make: Function that returns a new model, with weights of its own.
        train: Function of the model, a directory and callbacks.
    """

    make: Callable[[], Any]
    train: Callable[[Any, Path, Sequence[keras.callbacks.Callback]], Any]


def images() -> np.ndarray:
    return np.random.default_rng(0).random((SAMPLES, 20)).astype("float32")


def labels() -> np.ndarray:
    return np.arange(SAMPLES) % 3


def fits(make: Callable[[], Any], epochs: int = 12, **options: Any) -> Case:
    """A case of `resume_fit`."""

    def train(model: Any, folder: Path, callbacks: Sequence[Any]) -> Any:
        arguments = {"every": 3, "batch_size": 16, "epochs": epochs, "verbose": 0, **options}
        return resume_fit(
            model, images(), labels(), directory=folder, callbacks=list(callbacks), **arguments
        )

    return Case(make, train)


def pretrains(make: Callable[[], Any], epochs: int = 12, **options: Any) -> Case:
    """A case of `pretrain`."""

    def train(model: Any, folder: Path, callbacks: Sequence[Any]) -> Any:
        arguments = {"batch_size": 16, "step_size": 0.05, "verbose": 0, **options}
        return models.pretrain(
            model, images(), epochs, resume_from=folder, callbacks=list(callbacks), **arguments
        )

    return Case(make, train)


def feedback_net() -> keras.Model:
    """Noise of a rule, dropout, a metric, moments."""
    model = keras.Sequential(
        [
            keras.Input((20,)),
            layers.FeedbackDense(16, "tanh", feedback="weight_mirror"),
            keras.layers.Dropout(0.2),
            layers.FeedbackDense(3, feedback="kolen_pollack"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    return model


def encoder() -> keras.Model:
    krotov = plasticity.KrotovHopfield(p=3, rank=3)
    between = keras.layers.BatchNormalization()
    lower, upper = layers.HebbianDense(24, krotov), layers.HebbianDense(8, "soft_hebb")
    return keras.Sequential([keras.Input((20,)), lower, between, upper])


def two_krotov_layers() -> keras.Model:
    first = layers.HebbianDense(24, plasticity.KrotovHopfield(p=3, rank=3))
    return keras.Sequential([keras.Input((20,)), first, layers.HebbianDense(8)])


def linear_readout() -> keras.Model:
    return models.readout(keras.Sequential([keras.Input((20,)), layers.HebbianDense(12)]), 3)


def persistent_network() -> keras.Model:
    network = dynamics.EquilibriumNetwork([20, 12, 3], free_steps=5, persistent=SAMPLES)
    network.compile(
        keras.optimizers.SGD(0.1, momentum=0.9), metrics=["accuracy"], jit_compile=False
    )
    return network


CASES = {
    "feedback": fits(feedback_net),
    "pretraining": pretrains(encoder),
    "at_once": pretrains(two_krotov_layers, epochs=24, greedy=False),
    "readout": fits(linear_readout),
    "persistent": fits(persistent_network, shuffle=False),
}
