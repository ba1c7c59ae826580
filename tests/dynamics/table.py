"""Every network that learns in phases, as one list: a network joins the battery with one row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_local import dynamics

INPUTS, CLASSES, SAMPLES, BATCH = 6, 3, 16, 8


@dataclass(frozen=True)
class Row:
    """One network that is put through all cells.

    Attributes:
        id: Name of the row in the report.
        make: Makes the network, of `INPUTS` inputs and `CLASSES` classes; takes `dtype`.
        optimizer: Of the learning rate.
        rate: Learning rate.
        epochs: After how many the loss has to have fallen by a tenth.
        fixed: Names of weights that no training moves; state that is no weight of the rule, such as
            a counter, belongs here too.
        separable: Whether a batch learns the mean of what its samples would learn alone.
        inputs: Shape of one sample.
    """

    id: str
    make: Callable[..., dynamics.Network]
    optimizer: Callable[[float], Any] = keras.optimizers.SGD
    rate: float = 0.1
    epochs: int = 6
    fixed: tuple[str, ...] = ()
    separable: bool = True
    inputs: tuple[int, ...] = (INPUTS,)


def momentum(rate: float) -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(rate, momentum=0.9)


def equilibrium(**arguments: Any) -> Callable[..., dynamics.Network]:
    sizes = [INPUTS, 7, 5, CLASSES]
    return lambda **kwargs: dynamics.EquilibriumNetwork(sizes, **arguments, **kwargs)


ROWS = [
    Row("equilibrium", equilibrium(), momentum, fixed=("nudge_count",), rate=0.2),
    Row("equilibrium-one_sided", equilibrium(nudging="one_sided"), fixed=("nudge_count",), rate=1),
    Row(
        "equilibrium-centred",
        equilibrium(form="prototypical", nudging="centred", feedback="separate"),
        keras.optimizers.Adam,
        fixed=("nudge_count",),
        rate=0.01,
    ),
    Row(
        "equilibrium-cross_entropy",
        equilibrium(form="prototypical", nudging="centred", cost="cross_entropy"),
        fixed=("nudge_count",),
        rate=0.5,
    ),
]


def find(row_id: str) -> Row:
    return next(row for row in ROWS if row.id == row_id)


def data(row: Row) -> tuple[np.ndarray, np.ndarray]:
    """Samples from 0 to 1, and the classes that a random linear map gives them."""
    rng = np.random.default_rng(3)
    inputs = rng.random((SAMPLES, *row.inputs)).astype("float32")
    centred = inputs.reshape(SAMPLES, -1) - 0.5
    teacher = rng.normal(size=(centred.shape[1], CLASSES))
    return inputs, np.argmax(centred @ teacher, axis=1)


def start(network: dynamics.Network, seed: int = 7) -> None:
    """Give the weights fixed values that no backend draws otherwise."""
    rng = np.random.default_rng(seed)
    for weight in network.trainable_variables:
        fan_in = int(np.prod(weight.shape[:-1])) if len(weight.shape) > 1 else 100
        weight.assign(rng.normal(size=weight.shape).astype("float32") / np.sqrt(fan_in))
