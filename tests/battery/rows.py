"""The form of a row of the battery."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

Part = Callable[[], list[keras.layers.Layer]]


def momentum(rate: float) -> keras.optimizers.Optimizer:
    """The optimizer of a row that names no other."""
    return keras.optimizers.SGD(rate, momentum=0.9)


def _same(model: keras.Model) -> keras.Model:
    return model


@dataclass(frozen=True)
class Row:
    """One thing that is put through all cells.

    Attributes:
        id: Name of the row in the report.
        part: Makes the layers, at least two where an error has to pass through one.
        input_shape: Shape of one sample.
        twin: Makes the stock Keras layers to which a cell compares, if there are any.
        supervised: Whether a readout and labels are added; else the layers learn by themselves
            from `fit(x)`.
        optimizer: Of the learning rate.
        rate: Learning rate.
        fixed: Names of weights that no training may change.
        memory: Names of weights that follow the activity, whatever the learning rate.
        readout: Whether a readout is added where there are labels.
        draws: Whether it learns with random numbers; XLA draws others.
        falls: Whether the loss has to fall.
        around: Makes the model that trains, from the model of the layers; by default the same.
        thorough: Whether the row waits for `tox -e thorough`; else it is gone through daily.
    """

    id: str
    part: Part
    input_shape: tuple[int, ...]
    twin: Part | None = None
    supervised: bool = True
    optimizer: Callable[[float], Any] = momentum
    rate: float = 0.02
    fixed: tuple[str, ...] = ()
    memory: tuple[str, ...] = ()
    readout: bool = True
    draws: bool = False
    falls: bool = True
    around: Callable[[keras.Model], keras.Model] = _same
    thorough: bool = False


def plain_sgd(rate: float) -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(rate)
