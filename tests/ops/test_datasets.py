"""An order of samples without a state: a run may begin anywhere in it."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, islice
from typing import Any

import keras
import numpy as np
import pytest

from keras_local.ops.datasets import Order, OrderedBatches, ordered

X = np.arange(26.0).reshape(13, 2)
Y = np.arange(13)


def labels(order: Order, count: int) -> list[list[int]]:
    """The labels of the first batches; `fit` sees them so too."""
    stream: Any = ordered(({"x": X}, Y), order)
    if isinstance(stream, keras.utils.PyDataset):
        batches = [stream[index] for index in range(count)]
    else:
        batches = list(islice(stream, count))
    for inputs, y in batches:
        np.testing.assert_array_equal(np.asarray(inputs["x"]), X[np.asarray(y)])
        assert np.asarray(inputs["x"]).dtype == "float32"
    return [np.asarray(y).tolist() for _, y in batches]


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("seed", [(1, 2), None])
def test_begins_anywhere(seed: Any, drop: bool) -> None:
    order = Order(13, 4, seed, drop)
    assert order.steps == (3 if drop else 4)
    whole = labels(order, 3 * order.steps)
    for start in range(2 * order.steps):
        epoch, batch = divmod(start, order.steps)
        assert labels(replace(order, epoch=epoch, batch=batch), 3) == whole[start : start + 3]


def test_each_epoch_has_an_order_of_its_own() -> None:
    order = Order(13, 4, (1,))
    whole = labels(order, 8)
    epochs = [list(chain(*whole[start : start + 4])) for start in (0, 4)]
    assert [sorted(each) for each in epochs] == [list(range(13))] * 2
    assert epochs[0] != epochs[1]
    assert list(chain(*labels(Order(13, 4, (2,)), 4))) != epochs[0]
    assert list(chain(*labels(Order(13, 4, None), 8))) == [*range(13), *range(13)]


def test_batches_may_be_asked_for_in_any_order() -> None:
    """As a process that loads ahead does, on the backends that take a `PyDataset`."""
    order = Order(13, 4, (1,), epoch=1, batch=2)
    batches = OrderedBatches((X, Y), order)
    for index in (5, 0, 9, 1):
        epoch, batch = divmod(2 + index, order.steps)
        chosen = order.of_epoch(1 + epoch)[4 * batch : 4 * batch + 4]
        x, y = batches[index]
        np.testing.assert_array_equal(y, Y[chosen])
        np.testing.assert_array_equal(x, X[chosen])
