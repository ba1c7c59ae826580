"""How a row is built and trained, and the run to which every cell compares."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tests.battery.rows import Part, Row
from tests.battery.table import ROWS
from tests.support import weights_of

SAMPLES, BATCH, EPOCHS = 32, 8, 3
SEED = 20190404
"""Of what the reference draws while it learns; that of `tests/conftest.py`."""


def data(row: Row) -> tuple[np.ndarray, np.ndarray | None]:
    """Samples, and the labels that a random linear map gives them."""
    generator = np.random.default_rng(11)
    inputs = generator.normal(size=(SAMPLES, *row.input_shape)).astype("float32")
    if not row.supervised:
        return inputs, None
    teacher = generator.normal(size=(int(np.prod(row.input_shape)), 3))
    return inputs, np.argmax(inputs.reshape(SAMPLES, -1) @ teacher, axis=-1)


def build(row: Row, part: Part | None = None) -> keras.Model:
    """The row's layers (or those of `part`) with a readout, if it has one."""
    wanted = row.supervised and row.readout
    readout = [keras.layers.Flatten(), keras.layers.Dense(3)] if wanted else []
    model = keras.Sequential([keras.Input(row.input_shape), *(part or row.part)(), *readout])
    return model if part is not None else row.around(model)


def compiled(model: keras.Model, row: Row, rate: float | None = None, **options: Any) -> None:
    """Compile in graph mode unless `options` say otherwise."""
    model.compile(
        row.optimizer(row.rate if rate is None else rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True) if row.supervised else None,
        **{"jit_compile": False, **options},
    )


def fit(model: keras.Model, row: Row, epochs: int = EPOCHS) -> list[float]:
    """Even batches in a fixed order; the loss of each epoch."""
    inputs, labels = data(row)
    history = model.fit(inputs, labels, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0)
    return [float(loss) for loss in history.history["loss"]]


@dataclass
class Run:
    """One training: where it began, how it went, where it ended."""

    model: keras.Model
    start: list[np.ndarray]
    losses: list[float]
    end: list[np.ndarray]

    @property
    def way(self) -> float:
        """Length of the way from start to end."""
        return distance(self.start, self.end)


def distance(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    """Euclidean distance of two lists of weights, taken as points."""
    return float(
        np.sqrt(
            sum(
                np.sum((a.astype("float64") - b.astype("float64")) ** 2)
                for a, b in zip(first, second, strict=True)
            )
        )
    )


def run(
    row: Row,
    start: list[np.ndarray] | None = None,
    part: Part | None = None,
    rate: float | None = None,
    **options: Any,
) -> Run:
    """Build, begin at `start` and train; rules that draw draw the same in each run."""
    keras.utils.set_random_seed(SEED)
    model = build(row, part)
    if start is not None:
        model.set_weights(start)
    start = weights_of(model)
    compiled(model, row, rate, **options)
    losses = fit(model, row)
    return Run(model, start, losses, weights_of(model))


def start_anew(model: keras.Model, start: list[np.ndarray]) -> None:
    """Give a trained model its first weights, and its optimizer the memory of a new one."""
    model.set_weights(start)
    optimizer = model.optimizer
    for variable in optimizer.variables:
        if variable is not optimizer.learning_rate:
            variable.assign(np.zeros(variable.shape, variable.dtype))


@functools.cache
def reference(row_id: str) -> Run:
    """The row trained once in graph mode, float32, on one device.

    Its model may be trained further by a cell: the numbers of the run are copies.
    """
    return run(find(row_id))


@functools.cache
def stock_reference(row_id: str) -> Run:
    """The same run of the row's stock twin, from the row's kernels."""
    row = find(row_id)
    return run(row, part=row.twin)


def find(row_id: str) -> Row:
    return next(row for row in ROWS if row.id == row_id)
