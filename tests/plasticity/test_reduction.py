"""Sums and means over the samples of a step. Over replicas: tests/integration."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local.plasticity import Mean, Reduction, Sum
from tests.support import array, probe


def reduced(reduction: Reduction, change: np.ndarray, samples: int) -> Any:
    convert = keras.ops.convert_to_tensor
    return array(reduction(convert(change), convert(np.int32(samples))))


def test_sum_keeps_the_sum_over_samples() -> None:
    change = probe((4, 3))
    np.testing.assert_array_equal(reduced(Sum(), change, 8), change)


@pytest.mark.parametrize("samples", [1, 7, 100])
def test_mean_divides_by_the_number_of_samples(samples: int) -> None:
    change = probe((4, 3))
    np.testing.assert_allclose(reduced(Mean(), change, samples), change / samples, rtol=1e-6)


@pytest.mark.parametrize("reduction", [Sum(), Mean()])
def test_round_trip(reduction: Reduction) -> None:
    config = keras.saving.serialize_keras_object(reduction)
    assert type(keras.saving.deserialize_keras_object(config)) is type(reduction)
