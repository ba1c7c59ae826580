"""Checks of batches inside the graph of a `tf.data.Dataset`, on every backend."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import keras
import numpy as np

from keras_local.ops.abilities import FEEDS_FROM_PIPELINES


def asserted(
    dataset: Any,
    sample_shape: tuple[int | None, ...],
    limit: float,
    expected: Any,
    argument: str,
    parts: int,
) -> Any:
    """Return a dataset that stops with an error at a batch that does not fit.

    The message of the error contains `Refused: ` and what was refused.

    Args:
        dataset: A `tf.data.Dataset` of batches.
        sample_shape: Shape of one sample; None for a size that may be any.
        limit: Largest absolute value of an input.
        expected: The targets, a `keras_local._targets.Expected`; None if they do not matter.
        argument: Name of the dataset in messages.
        parts: Number of parts (inputs, labels, weights) of an element.
    """
    # A TensorFlow dataset may be used on another backend, but then TensorFlow is installed.
    tensorflow = import_module("keras_local.ops._tensorflow_data")
    return tensorflow.asserted(dataset, sample_shape, limit, expected, argument, parts)


@dataclass(frozen=True)
class Order:
    """The order of the samples in a run, a function of the epoch without state.

    Therefore a run can start at any place, and continues like a run that started at the beginning.

    Attributes:
        samples: Number of samples.
        batch_size: Samples in each batch.
        seed: Numbers from which the order is drawn; None for the order of the data.
        drop_remainder: Whether samples that do not fill a batch are left out, others each time.
        epoch: Epoch in which to start.
        batch: First batch in that epoch.
    """

    samples: int
    batch_size: int
    seed: tuple[int, ...] | None
    drop_remainder: bool = False
    epoch: int = 0
    batch: int = 0

    @property
    def steps(self) -> int:
        """The number of batches in an epoch."""
        rest = 0 if self.drop_remainder else self.batch_size - 1
        return (self.samples + rest) // self.batch_size

    def of_epoch(self, epoch: int) -> np.ndarray:
        """Return the numbers of the samples in the order of an epoch."""
        places: np.ndarray = np.arange(self.samples)
        if self.seed is not None:
            sequence = np.random.SeedSequence([*self.seed, int(epoch)])
            np.random.Generator(np.random.PCG64(sequence)).shuffle(places)
        return places


def ordered(arrays: Any, order: Order) -> Any:
    """Return batches of arrays in an order, without an end, for `fit` with `steps_per_epoch`.

    Args:
        arrays: A tuple of inputs, or of inputs, labels and weights; each a structure of arrays.
        order: The order, with the place to start.
    """
    floatx = keras.config.floatx()
    arrays = keras.tree.map_structure(lambda array: _fed(array, floatx), arrays)
    if FEEDS_FROM_PIPELINES:
        return import_module("keras_local.ops._tensorflow_data").ordered(arrays, order)
    return OrderedBatches(arrays, order)


class OrderedBatches(keras.utils.PyDataset):
    """Batches of arrays in an order, for backends other than TensorFlow."""

    def __init__(self, arrays: Any, order: Order) -> None:
        super().__init__()
        self.arrays, self.order = arrays, order
        self._drawn: tuple[int, np.ndarray] = (-1, np.empty(0))

    @property
    def num_batches(self) -> None:
        """None, because there is no end."""
        return None

    def __getitem__(self, index: int) -> Any:
        epoch, batch = divmod(self.order.batch + index, self.order.steps)
        epoch += self.order.epoch
        if self._drawn[0] != epoch:
            self._drawn = (epoch, self.order.of_epoch(epoch))
        first = batch * self.order.batch_size
        chosen = self._drawn[1][first : first + self.order.batch_size]
        return keras.tree.map_structure(lambda array: array[chosen], self.arrays)


def _fed(array: Any, floatx: str) -> np.ndarray:
    """Return an array in the precision that Keras uses for it."""
    fed: np.ndarray = np.asarray(array)
    return fed.astype(floatx) if fed.dtype.kind == "f" and fed.dtype != floatx else fed
