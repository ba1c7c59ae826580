"""Second part of the demo: features that learn without labels, and readouts of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_local import layers, losses, models, plasticity, plots
from keras_local.reproduce.figures import error_figure
from keras_local.reproduce.images import Data
from keras_local.reproduce.progress import Stage, Stages
from keras_local.reproduce.results import Pretrained, Trained
from keras_local.reproduce.rows import curve_of, row_of, say_error
from keras_local.reproduce.settings import DemoSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_POINTS = 20  # of a learning curve
_STEPS_AT_ONCE = 100


def pretrain(
    settings: DemoSettings, data: Data, seed: int, stages: Stages, figures: dict[str, Figure]
) -> tuple[keras.Model, Pretrained]:
    """Train the encoder without labels."""
    chosen = settings.encoder
    initializers = {
        "uniform": keras.initializers.RandomUniform(0.0, 1.0),
        "normal": keras.initializers.RandomNormal(stddev=1.0),
    }
    with stages("Hebbian units, no labels") as stage:
        keras.utils.set_random_seed(seed)
        layer = layers.HebbianDense(
            chosen.units,
            plasticity=plasticity.KrotovHopfield(chosen.p, chosen.rank, chosen.delta),
            kernel_initializer=initializers[chosen.initial],
            name="hebbian",
        )
        encoder = encoder_of(data, layer)
        start = time.perf_counter()
        history = models.pretrain(
            encoder,
            data.x_train,
            epochs=chosen.epochs,
            batch_size=chosen.batch_size,
            step_size=chosen.step_size,
            verbose=0,
            callbacks=[stage.callback()],
        )["hebbian"]
        pretrained = Pretrained(
            units=chosen.units,
            steps=len(data.x_train) // chosen.batch_size * chosen.epochs,
            seconds=time.perf_counter() - start,
            **history.report,
        )
        figures["receptive_fields"] = plots.receptive_fields(layer, shape=data.shape)
        stage.say(f"{pretrained.won:.0%} of the units won")
    return encoder, pretrained


def encoder_of(data: Data, *encoding: keras.layers.Layer) -> keras.Model:
    """Return a Sequential model from images to the outputs of the layers."""
    return keras.Sequential([keras.Input(data.shape), keras.layers.Flatten(), *encoding])


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """A model that is trained on the labels, and how the report names it."""

    key: str
    label: str
    detail: str
    build: Callable[[], keras.Model]
    softmax: bool  # the loss; else it is the power loss of the readout


def features(
    settings: DemoSettings,
    data: Data,
    seed: int,
    stages: Stages,
    encoder: keras.Model,
    figures: dict[str, Figure],
) -> tuple[list[Trained], keras.Model]:
    """Train the readout of the encoder and the models that it is compared with."""
    rows = []
    trained = {}
    for candidate in _candidates(settings, data, encoder):
        with stages(candidate.label) as stage:
            keras.utils.set_random_seed(seed)
            model = trained[candidate.key] = candidate.build()
            start = time.perf_counter()
            curve = fit(settings, data, model, stage, candidate.softmax)
            seconds = time.perf_counter() - start
            rows.append(
                row_of(
                    candidate.key, candidate.label, candidate.detail, model, data, seconds, curve
                )
            )
            say_error(stage, rows[-1])
    figures["readout_curves"] = error_figure(rows, "passes over the training images")
    return rows, trained["hebbian"]


def _candidates(settings: DemoSettings, data: Data, encoder: keras.Model) -> list[_Candidate]:
    units, power = settings.encoder.units, settings.readout.power

    def readout(encoder: keras.Model, power: float) -> keras.Model:
        return models.readout(encoder, data.classes, power)

    return [
        _Candidate(
            "hebbian",
            "Hebbian features, linear readout",
            f"{units} units that learned without labels, power {power:g}",
            lambda: readout(encoder, power),
            softmax=False,
        ),
        _Candidate(
            "random",
            "Random features, same readout",
            f"{units} frozen units of normal weights, power {power:g}",
            lambda: readout(_random(data, units), power),
            softmax=False,
        ),
        _Candidate(
            "random_softmax",
            "Random ReLU features, softmax",
            f"the same {units} units, power 1, softmax cross-entropy",
            lambda: readout(_random(data, units), 1.0),
            softmax=True,
        ),
        _Candidate(
            "pixels",
            "Raw pixels, same readout",
            "the image itself, scaled to unit norm",
            lambda: readout(encoder_of(data), 1.0),
            softmax=False,
        ),
        _Candidate(
            "pixels_softmax",
            "Raw pixels, softmax",
            "the same, softmax cross-entropy",
            lambda: readout(encoder_of(data), 1.0),
            softmax=True,
        ),
        _Candidate(
            "end_to_end",
            "Backpropagation, end to end",
            f"{units} ReLU units and the class units, softmax cross-entropy",
            lambda: _end_to_end(data, units),
            softmax=True,
        ),
    ]


def _random(data: Data, units: int) -> keras.Model:
    """Return an encoder of frozen random units."""
    initializer = keras.initializers.RandomNormal(stddev=float(np.prod(data.shape)) ** -0.5)
    layer = keras.layers.Dense(
        units, use_bias=False, kernel_initializer=initializer, trainable=False
    )
    return encoder_of(data, layer)


def _end_to_end(data: Data, units: int) -> keras.Model:
    """Return a network of one hidden layer, all of which is trained by backpropagation."""
    hidden = keras.layers.Dense(units, activation="relu")
    return encoder_of(data, hidden, keras.layers.Dense(data.classes))


def fit(
    settings: DemoSettings, data: Data, model: keras.Model, stage: Stage, softmax: bool
) -> dict[str, list[float]]:
    """Train with Adam and a cosine decay of the step size; return the curve of test errors."""
    chosen = settings.softmax if softmax else settings.readout
    # To start an epoch costs more time than a hundred steps of such a small model. Therefore one
    # epoch of Keras is several passes over the images here.
    passes = max(1, chosen.passes // _POINTS)
    epochs = -(-chosen.passes // passes)
    steps = -(-len(data.x_train) * passes // chosen.batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(chosen.learning_rate, steps * epochs)
    model.compile(
        keras.optimizers.Adam(schedule),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        if softmax
        else losses.PowerLoss(settings.readout.loss_power, settings.readout.beta),
        metrics=["accuracy"],
        jit_compile=False,
        steps_per_execution=min(steps, _STEPS_AT_ONCE),
    )
    history = model.fit(
        _repeated(data.x_train, passes),
        _repeated(data.y_train, passes),
        validation_data=(data.x_test, data.y_test),
        batch_size=chosen.batch_size,
        epochs=epochs,
        verbose=0,
        callbacks=[stage.callback()],
    )
    return curve_of(history, passes)


def _repeated(array: np.ndarray, times: int) -> np.ndarray:
    return array if times == 1 else np.concatenate([array] * times)
