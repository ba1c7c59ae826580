"""What is trained on one device and on several, as one table: a rule or network joins by its row.

The rows are those of the batteries of layers and networks, and beside them stock layers, all
aliases of feedback rules, pretraining and readouts. All of them make the same number of steps.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_local import callbacks, feedback, layers, models, plasticity
from tests.battery import cells
from tests.battery.rows import Row
from tests.battery.table import ROWS as LAYERS
from tests.distribute import services
from tests.dynamics import table as networks
from tests.support import BACKEND, compile_options, weights_of

STEPS = 20
"""Of every training."""


@dataclass(frozen=True)
class Case:
    """One training.

    Attributes:
        make: Builds and compiles, in the scope of the strategy if there is one.
        train: Trains what was made; what it returns has to be equal, wherever it was trained.
        data: The samples, and labels or None.
        resume: Trains in a directory, from where a killed process was, with callbacks.
        rate: Learning rate.
        draws: Whether it draws random numbers while it learns.
    """

    make: Callable[[], Any]
    train: Callable[[Any], list[np.ndarray]]
    data: Callable[[], tuple[np.ndarray, Any]]
    resume: Callable[[Any, Path, Sequence[Any]], Any]
    rate: float = 0.02
    draws: bool = False


def resumed(data: Callable[[], tuple[np.ndarray, Any]], batch: int) -> Callable[..., Any]:
    """Three epochs of `resume_fit`, written down behind each batch."""

    def resume(model: Any, folder: Path, watching: Sequence[Any]) -> Any:
        x, y = data()
        return callbacks.resume_fit(
            model,
            x,
            y,
            directory=folder,
            every=1,
            batch_size=batch,
            epochs=3,
            shuffle=False,
            verbose=0,
            callbacks=list(watching),
        )

    return resume


def layer(row: Row, steps: int) -> Case:
    """A row of the battery of layers and rules."""

    def data() -> tuple[np.ndarray, Any]:
        return cells.data(row)

    def make() -> keras.Model:
        model = cells.build(row)
        cells.compiled(model, row, **compile_options())
        return model

    def train(model: keras.Model) -> list[np.ndarray]:
        losses = cells.fit(model, row, steps * cells.BATCH // cells.SAMPLES)
        return [*weights_of(model), np.asarray(losses)]

    return Case(make, train, data, resumed(data, cells.BATCH), row.rate, row.draws)


IN_DOUBLE = ("contrastive_hebbian-sigmoid",)
"""Networks that are trained in double precision here, on TensorFlow.

Weights learn from the difference of two phases over a power of `gamma`, which enlarges rounding.
"""


def network(row: networks.Row, steps: int) -> Case:
    """A row of the battery of networks, with what it remembers."""

    def data() -> tuple[np.ndarray, Any]:
        return networks.data(row)

    def make() -> keras.Model:
        made = row.make()
        if row.id in IN_DOUBLE and BACKEND == "tensorflow":
            made = type(made).from_config({**made.get_config(), "dtype": "float64"})
        networks.start(made, row)
        made.compile(row.optimizer(row.rate), **compile_options())
        return made

    def train(made: keras.Model) -> list[np.ndarray]:
        inputs, labels = networks.data(row)
        epochs = steps * networks.BATCH // networks.SAMPLES
        made.fit(inputs, labels, batch_size=networks.BATCH, epochs=epochs, shuffle=False, verbose=0)
        return weights_of(made)

    return Case(make, train, data, resumed(data, networks.BATCH), row.rate, row.draws)


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


def pretraining(
    rule: Callable[[], Any], steps: int, greedy: bool = True, stddev: float = 1.5
) -> Case:
    """Both layers of an encoder, one after the other or at once."""

    def train(model: keras.Model, epochs: int = steps, **options: Any) -> list[np.ndarray]:
        # All samples in one batch: Keras shuffles arrays.
        models.pretrain(
            model,
            images()[0],
            epochs=epochs,
            batch_size=SAMPLES,
            step_size=0.02,
            greedy=greedy,
            verbose=0,
            **options,
        )
        return weights_of(model)

    def resume(model: keras.Model, folder: Path, watching: Sequence[Any]) -> Any:
        return train(model, 6, resume_from=folder, callbacks=list(watching))

    return Case(lambda: encoder(rule(), stddev), train, lambda: (images()[0], None), resume)


def head(make: Callable[[keras.Model], keras.Model], steps: int) -> Case:
    """A readout of an encoder: its weights, and what it says of data."""

    def train(model: keras.Model) -> list[np.ndarray]:
        x, y = images()
        model.fit(x, y, batch_size=8, epochs=-(-steps * 8 // SAMPLES), shuffle=False, verbose=0)
        said = model.predict(x, batch_size=8, verbose=0)
        return [*weights_of(model), said]

    below = plasticity.KrotovHopfield
    return Case(lambda: make(encoder(below())), train, images, resumed(images, 8), 0.1)


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
    draws=True,
)

BATCHWISE = Row(
    "batchwise-sign_symmetry",
    lambda: [
        layers.FeedbackDense(units, "tanh", feedback=feedback.SignSymmetry("batchwise"))
        for units in (7, 6)
    ],
    (8,),
    draws=True,
)

NOISE = (
    "layer-dense-weight_mirror",
    "layer-dense-noisy_updates",
    "layer-dense-noisy-matched_norm-symmetric_alignment",
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


def cases(steps: int) -> dict[str, Case]:
    """All layers with all rules, pretraining, readouts and networks, trained for so many steps."""
    of_names = typing.get_args(feedback.FeedbackAlias)
    pretrained: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
        "krotov": (lambda: plasticity.KrotovHopfield(p=3, rank=3), {}),
        "krotov-p2": (lambda: plasticity.KrotovHopfield(p=2), {}),
        "soft_hebb": (plasticity.SoftHebb, {}),
        "oja": (plasticity.Oja, {"stddev": 0.3}),
        "bcm": (plasticity.BCM, {}),
        "together": (lambda: plasticity.KrotovHopfield(p=3), {"greedy": False}),
    }
    return {
        **{row.id: layer(row, steps) for row in (STOCK, CENTRED, UNIFORM, BATCHWISE)},
        **{f"alias-{name}": layer(alias(name), steps) for name in of_names},
        **{
            f"pretrain-{name}": pretraining(rule, steps, **options)
            for name, (rule, options) in pretrained.items()
        },
        "readout": head(lambda below: models.readout(below, 3), steps),
        "hebbian_readout": head(lambda below: models.hebbian_readout(below, 3), steps),
        **{f"layer-{row.id}": layer(row, steps) for row in LAYERS},
        **{f"network-{row.id}": network(row, steps) for row in networks.ROWS},
    }


def with_services(make: Callable[[], Any], train: Callable[[Any], list[np.ndarray]]) -> Case:
    """A training with what stands around one."""

    def data() -> tuple[np.ndarray, Any]:
        return services.X, services.Y

    return Case(make, train, data, resumed(data, services.BATCH))


CASES: dict[str, Case] = {
    **cases(STEPS),
    "services-stock": with_services(services.stock, services.plain),
    "services-interrupted": with_services(
        services.feedback, services.interrupted(services.feedback)
    ),
}
