"""What the layers that touch few rows of a weight ask of a backend."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local.ops.backend import backend
from tests.support import BACKEND, array, probe

tensor = keras.ops.convert_to_tensor

# 2000 = 125 groups of 16; 1999 is prime; for 60 it does not pay; 7 of 14 would be every group.
CASES = [(2000, 7), (2000, 1), (1999, 7), (60, 7), (14, 7), (5, 5), (512, 2)]


@pytest.mark.parametrize(("count", "k"), CASES)
def test_the_largest_and_their_places(count: int, k: int) -> None:
    values = probe((30, count))
    largest, places = backend.top_k(tensor(values), k)
    expected = np.argsort(-values, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(array(places), expected)
    np.testing.assert_array_equal(array(largest), np.take_along_axis(values, expected, 1))


@pytest.mark.skipif(BACKEND == "torch", reason="keeps no order among equals")
@pytest.mark.parametrize("levels", [1, 3, 40])
def test_the_first_among_equals(levels: int) -> None:
    values = np.random.default_rng(levels).integers(0, levels, (50, 2000)).astype("float32")
    _, places = backend.top_k(tensor(values), 7)
    expected = np.argsort(-values, axis=1, kind="stable")[:, :7]
    np.testing.assert_array_equal(array(places), expected)


@pytest.mark.skipif(BACKEND != "jax", reason="XLA on JAX")
def test_no_whole_row_is_sorted() -> None:
    """If few of the largest are used, XLA's own simplification would sort all of each row."""
    import jax
    from keras import ops

    def few(values: Any) -> Any:
        largest = backend.top_k(values, 7)
        return tuple(ops.stack([each[..., 0], each[..., -1]], axis=-1) for each in largest)

    values = tensor(probe((30, 2000)).astype("float32"))
    program = jax.jit(few).lower(values).compile().as_text()
    assert " sort(" not in program
    expected = np.argsort(-array(values), axis=1, kind="stable")[:, :7:6]
    np.testing.assert_array_equal(array(jax.jit(few)(values)[1]), expected)


def test_matrix_of_few_entries() -> None:
    places, values = np.array([[0, 2], [1, 0], [1, 2]]), np.array([2.0, -1.0, 3.0], "float32")
    matrix = backend.matrix_of_few(tensor(places, "int32"), tensor(values), (2, 4))
    other = probe((2, 3)).astype("float32")
    whole = np.zeros((2, 4), "float32")
    whole[tuple(places.T)] = values
    product = backend.matmul(matrix, tensor(other), transpose_a=True)
    np.testing.assert_allclose(array(product), whole.T @ other, rtol=1e-6)


@pytest.mark.parametrize("indices", [[4, 1, 4, 0, 1], [3], [2, 2, 2]])
def test_distinct(indices: list[int]) -> None:
    values, places = backend.distinct(tensor(np.array(indices, "int32")))
    np.testing.assert_array_equal(array(values)[array(places)], indices)
    used = np.unique(array(places))
    assert len(used) == len(set(indices)), "one place for each"


def test_rows_are_written() -> None:
    """Reading the whole in between; what was read remains as it was, save on Torch."""
    initial = probe((5, 3))
    variable = keras.Variable(initial)
    for turn in range(3):
        before = backend.read_in_place(variable)
        expected = array(before).copy()
        rows, values = np.array([3, turn], "int32"), probe((2, 3), turn + 1)
        backend.write_rows(variable, tensor(rows), tensor(values))
        if BACKEND != "torch":
            np.testing.assert_array_equal(array(before), expected)
        expected[rows] = values
        np.testing.assert_array_equal(array(backend.read_in_place(variable)), expected)
    assert np.all(array(variable)[4] == initial[4])
