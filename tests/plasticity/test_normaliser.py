"""How the size of a change is bounded."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_local.plasticity import MaxAbs, NoNormaliser, Normaliser, RootFanIn, UnitMaxAbs
from tests.support import array, probe

ALL = [NoNormaliser(), MaxAbs(), UnitMaxAbs()]


def normalised(normaliser: Normaliser, change: np.ndarray, unit_axis: int = -1) -> np.ndarray:
    return array(normaliser(keras.ops.convert_to_tensor(change), unit_axis=unit_axis))


def test_none() -> None:
    change = probe((4, 3))
    np.testing.assert_array_equal(normalised(NoNormaliser(), change), change)


@pytest.mark.parametrize("unit_axis", [-1, 0])
def test_largest_of_all(unit_axis: int) -> None:
    change = probe((4, 3)) - 2.0  # The largest size belongs to a negative entry.
    result = normalised(MaxAbs(), change, unit_axis)
    np.testing.assert_allclose(result, change / np.abs(change).max(), rtol=1e-6)
    assert np.abs(result).max() == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("unit_axis", [-1, 0, 1, 2])
def test_largest_of_each_unit(unit_axis: int) -> None:
    change = probe((4, 3, 5)) - 0.5
    units = np.moveaxis(change, unit_axis, 0).reshape(change.shape[unit_axis], -1)
    largest = np.abs(units).max(axis=1)
    shape = [1, 1, 1]
    shape[unit_axis] = -1
    expected = change / largest.reshape(shape)
    np.testing.assert_allclose(normalised(UnitMaxAbs(), change, unit_axis), expected, rtol=1e-6)


def test_units_are_the_last_axis() -> None:
    change = keras.ops.convert_to_tensor(probe((4, 3)))
    expected = array(UnitMaxAbs()(change, unit_axis=1))
    np.testing.assert_array_equal(array(UnitMaxAbs()(change)), expected)


@pytest.mark.parametrize("normaliser", ALL)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_zero_stays_zero(normaliser: Normaliser, dtype: str) -> None:
    change = np.zeros((3, 2), dtype)
    np.testing.assert_array_equal(normalised(normaliser, change), change)


def test_units_without_change_stay() -> None:
    change = probe((4, 3))
    change[:, 1] = 0.0
    result = normalised(UnitMaxAbs(), change)
    np.testing.assert_allclose(np.abs(result).max(axis=0), [1.0, 0.0, 1.0], rtol=1e-6)


@pytest.mark.parametrize("normaliser", [MaxAbs(), UnitMaxAbs()])
@pytest.mark.parametrize(("dtype", "size"), [("float16", 2.0**-13), ("float32", 1e-37)])
def test_small_changes_are_scaled_up(normaliser: Normaliser, dtype: str, size: float) -> None:
    """Where 1e-30 would be zero, and below it."""
    change = (np.array([[1.0, -0.5], [0.25, 1.0]]) * size).astype(dtype)
    result = normalised(normaliser, change)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, change.astype("float64") / size, rtol=2e-3)


@pytest.mark.parametrize("normaliser", ALL)
def test_round_trip(normaliser: Normaliser) -> None:
    config = keras.saving.serialize_keras_object(normaliser)
    assert type(keras.saving.deserialize_keras_object(config)) is type(normaliser)


def test_root_of_the_inputs_of_a_unit() -> None:
    """In a convolution the taps and channels of one filter, and not the number of filters."""
    for shape, axis, inputs in (
        ((7, 5), -1, 7),
        ((3, 2, 4, 5), -1, 24),
        ((3, 2, 4, 5), (0, 1, 3), 4),
        ((5, 7), 0, 7),
    ):
        change = probe(shape)
        result = array(RootFanIn()(keras.ops.convert_to_tensor(change), unit_axis=axis))
        np.testing.assert_allclose(result, change / np.sqrt(inputs), rtol=1e-6)
