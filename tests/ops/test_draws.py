"""Random numbers with a row for each sample: laws, and the rows of replicas."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import ops
from tests.support import array, tensorflow_only, two_replicas


@pytest.mark.parametrize("law", ["normal", "uniform"])
def test_law(law: Any) -> None:
    found = array(ops.random_rows((400, 100), 0.5, law, seed=1))
    assert found.std() == pytest.approx(0.5, rel=0.01)
    assert abs(found.mean()) < 0.01
    largest = np.abs(found).max()
    assert largest <= 0.5 * 3.0**0.5 if law == "uniform" else largest > 1.5


def test_one_device_draws_what_keras_draws() -> None:
    found = array(ops.random_rows((4, 3), 0.5, dtype="float32", seed=1))
    np.testing.assert_array_equal(found, array(keras.random.normal((4, 3), stddev=0.5, seed=1)))


@tensorflow_only
@pytest.mark.parametrize("law", ["normal", "uniform"])
@pytest.mark.parametrize("columns", [3, 4])
def test_replicas_take_the_rows_of_one_draw(law: Any, columns: int) -> None:
    """In a graph and without one; the generator of all replicas goes on as that of one device."""
    import tensorflow as tf

    strategy = two_replicas()
    with strategy.scope():
        generator = keras.random.SeedGenerator(3)
    alone = keras.random.SeedGenerator(3)

    def draw() -> Any:
        return ops.random_rows((5, columns), 2.0, law, "float32", generator)

    for run in (tf.function(lambda: strategy.run(draw)), lambda: strategy.run(draw)):
        found = np.concatenate([array(each) for each in run().values])
        wanted = array(ops.random_rows((10, columns), 2.0, law, "float32", alone))
        np.testing.assert_allclose(found, wanted, atol=1e-6)


@tensorflow_only
def test_rows_and_means_of_all_replicas() -> None:
    strategy = two_replicas()
    rows = np.arange(12.0, dtype="float32").reshape(4, 3)

    def both() -> Any:
        first = ops.replica_index() * 2
        own = keras.ops.convert_to_tensor(rows)[first : first + 2]
        return ops.replica_rows(own), ops.replica_mean(own)

    whole, mean = strategy.run(both)
    for each in whole.values:
        np.testing.assert_array_equal(array(each), rows)
    for each in mean.values:
        np.testing.assert_array_equal(array(each), rows.mean(axis=0))
