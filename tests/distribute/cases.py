"""What is trained on one device and on several, as one table: a rule or network joins by its row.

The rows are those of the batteries of layers and networks, and beside them stock layers, all
aliases of feedback rules, pretraining and readouts. All of them make the same number of steps.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_local import feedback, layers, models, plasticity
from tests.battery import cells
from tests.battery.rows import Row
from tests.battery.table import ROWS as LAYERS
from tests.distribute import services
from tests.dynamics import table as networks
from tests.support import compile_options, weights_of

STEPS = 20
"""Of every training."""


@dataclass(frozen=True)
class Case:
    """One training.

    Attributes:
        make: Builds and compiles, in the scope of the strategy if there is one.
        train: Trains what was made; what it returns has to be equal, wherever it was trained.
    """

    make: Callable[[], Any]
    train: Callable[[Any], list[np.ndarray]]


def layer(row: Row) -> Case:
    """A row of the battery of layers and rules."""

    def make() -> keras.Model:
        model = cells.build(row)
        cells.compiled(model, row, **compile_options())
        return model

    def train(model: keras.Model) -> list[np.ndarray]:
        losses = cells.fit(model, row, STEPS * cells.BATCH // cells.SAMPLES)
        return [*weights_of(model), np.asarray(losses)]

    return Case(make, train)


def network(row: networks.Row) -> Case:
    """A row of the battery of networks, with what it remembers."""

    def make() -> keras.Model:
        made = row.make()
        networks.start(made, row)
        made.compile(row.optimizer(row.rate), **compile_options())
        return made

    def train(made: keras.Model) -> list[np.ndarray]:
        inputs, labels = networks.data(row)
        epochs = STEPS * networks.BATCH // networks.SAMPLES
        made.fit(inputs, labels, batch_size=networks.BATCH, epochs=epochs, shuffle=False, verbose=0)
        return weights_of(made)

    return Case(make, train)


def alias(name: str) -> Row:
    """A net with the feedback rule of this name."""

    def part() -> list[keras.layers.Layer]:
        return [layers.FeedbackDense(units, "tanh", feedback=name) for units in (7, 6)]

    return Row(f"alias-{name}", part, (8,))


SAMPLES, INPUTS = 24, 10


def images() -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels of pretraining and readouts."""
    rng = np.random.default_rng(0)
    return rng.random((SAMPLES, INPUTS)).astype("float32"), rng.integers(0, 3, SAMPLES)


def encoder(rule: Any, stddev: float = 1.5) -> keras.Model:
    """Two layers that learn without labels."""
    spread = keras.initializers.RandomNormal(stddev=stddev, seed=3)
    plastic = [
        layers.HebbianDense(units, rule, kernel_initializer=spread, activation="relu")
        for units in (8, 6)
    ]
    return keras.Sequential([keras.Input((INPUTS,)), *plastic])


def pretraining(rule: Callable[[], Any], greedy: bool = True, stddev: float = 1.5) -> Case:
    """Both layers of an encoder, one after the other or at once."""

    def train(model: keras.Model) -> list[np.ndarray]:
        # All samples in one batch: Keras shuffles arrays.
        models.pretrain(
            model,
            images()[0],
            epochs=STEPS,
            batch_size=SAMPLES,
            step_size=0.02,
            greedy=greedy,
            verbose=0,
        )
        return weights_of(model)

    return Case(lambda: encoder(rule(), stddev), train)


def head(make: Callable[[keras.Model], keras.Model]) -> Case:
    """A readout of an encoder: its weights, and what it says of data."""

    def train(model: keras.Model) -> list[np.ndarray]:
        x, y = images()
        model.fit(x, y, batch_size=8, epochs=-(-STEPS * 8 // SAMPLES), shuffle=False, verbose=0)
        said = model.predict(x, batch_size=8, verbose=0)
        return [*weights_of(model), said]

    return Case(lambda: make(encoder(plasticity.KrotovHopfield())), train)


STOCK = Row("stock-dense", lambda: [keras.layers.Dense(units, "tanh") for units in (7, 6)], (8,))

CENTRED = Row(
    "centred-activation_alignment",
    lambda: [
        layers.FeedbackDense(
            units, "tanh", feedback=feedback.ActivationAlignment(0.5, 0.5, centre=True)
        )
        for units in (7, 6)
    ],
    (8,),
)

UNIFORM = Row(
    "uniform-activation_alignment",
    lambda: [
        layers.FeedbackDense(
            units,
            "tanh",
            feedback=feedback.ActivationAlignment(
                0.5, 0.5, noise=feedback.Noise(1.0, "uniform"), respond=True
            ),
        )
        for units in (7, 6)
    ],
    (8,),
)

BATCHWISE = Row(
    "batchwise-sign_symmetry",
    lambda: [
        layers.FeedbackDense(units, "tanh", feedback=feedback.SignSymmetry("batchwise"))
        for units in (7, 6)
    ],
    (8,),
)

NOISE = (
    "layer-dense-weight_mirror",
    "layer-dense-noisy_updates",
    "layer-noisy-matched_norm-symmetric_alignment",
    "centred-activation_alignment",
    "uniform-activation_alignment",
    "batchwise-sign_symmetry",
    "network-difference_target",
    "network-forward_forward",
)
"""What draws random numbers, or takes means over the batch."""

FEW = (
    "stock-dense",
    "alias-kolen_pollack",
    "layer-dense-weight_mirror",
    "layer-hebbian-p3",
    "pretrain-krotov",
    "network-equilibrium",
)
"""What is tested each time: one of each kind."""

CASES: dict[str, Case] = {
    **{row.id: layer(row) for row in (STOCK, CENTRED, UNIFORM, BATCHWISE)},
    **{f"alias-{name}": layer(alias(name)) for name in typing.get_args(feedback.FeedbackAlias)},
    "pretrain-krotov": pretraining(lambda: plasticity.KrotovHopfield(p=3, rank=3)),
    "pretrain-krotov-p2": pretraining(lambda: plasticity.KrotovHopfield(p=2)),
    "pretrain-soft_hebb": pretraining(plasticity.SoftHebb),
    "pretrain-oja": pretraining(plasticity.Oja, stddev=0.3),
    "pretrain-bcm": pretraining(plasticity.BCM),
    "pretrain-together": pretraining(lambda: plasticity.KrotovHopfield(p=3), greedy=False),
    "readout": head(lambda below: models.readout(below, 3)),
    "hebbian_readout": head(lambda below: models.hebbian_readout(below, 3)),
    "services-stock": Case(services.stock, services.plain),
    "services-interrupted": Case(services.feedback, services.interrupted(services.feedback)),
    **{f"layer-{row.id}": layer(row) for row in LAYERS},
    **{f"network-{row.id}": network(row) for row in networks.ROWS},
}
