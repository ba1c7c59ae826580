"""How the step size depends on the epoch and on a unit's weights."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local.plasticity import ConstantRate, LinearDecay, NormDistance, RatePolicy
from tests.oracles_plasticity import unit_lengths
from tests.support import array, probe

ALL = [ConstantRate(), LinearDecay(), NormDistance()]


def scaled(rate: RatePolicy, change: np.ndarray, kernel: np.ndarray, **options: Any) -> np.ndarray:
    convert = keras.ops.convert_to_tensor
    return array(rate.scale(convert(change), convert(kernel), **options))


@pytest.mark.parametrize("epochs", [1, 2, 7, 1000])
def test_linear_decay_ends_above_zero(epochs: int) -> None:
    factors = [LinearDecay().at(epoch, epochs) for epoch in range(epochs)]
    assert factors[0] == 1.0
    assert factors[-1] == pytest.approx(1.0 / epochs, rel=1e-12)
    np.testing.assert_allclose(np.diff(factors), -1.0 / epochs, rtol=1e-9)


@pytest.mark.parametrize("rate", [ConstantRate(), NormDistance()])
def test_rates_that_do_not_know_the_epoch(rate: RatePolicy) -> None:
    assert [rate.at(epoch, 5) for epoch in range(5)] == [1.0] * 5


@pytest.mark.parametrize("rate", [ConstantRate(), LinearDecay()])
def test_rates_that_do_not_know_the_units(rate: RatePolicy) -> None:
    change = probe((4, 3))
    np.testing.assert_array_equal(scaled(rate, change, probe((4, 3), 1)), change)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_norm_distance(power: float) -> None:
    change, kernel = probe((4, 3)), probe((4, 3), 1)
    kernel[:, 0] *= 0.1  # Inside the sphere as well as outside of it.
    expected = change * np.abs(unit_lengths(kernel) - 1.0) ** power
    np.testing.assert_allclose(scaled(NormDistance(power), change, kernel), expected, rtol=1e-5)
    transposed = scaled(NormDistance(power), change.T.copy(), kernel.T.copy(), unit_axis=0)
    np.testing.assert_allclose(transposed, expected.T, rtol=1e-5)


def test_a_unit_of_norm_one_rests() -> None:
    kernel = np.array([[0.6, 2.0], [0.8, 0.0]], "float32")
    result = scaled(NormDistance(1.0), np.ones((2, 2), "float32"), kernel)
    np.testing.assert_allclose(result, [[0.0, 1.0], [0.0, 1.0]], atol=1e-6)


@pytest.mark.parametrize("rate", [*ALL, NormDistance(0.125)])
def test_round_trip(rate: RatePolicy) -> None:
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(rate))
    assert type(restored) is type(rate)
    assert restored.get_config() == rate.get_config()


@pytest.mark.parametrize("power", [0.0, -1.0, float("nan"), float("inf"), "1", None])
def test_bad_power(power: Any) -> None:
    with pytest.raises(ValueError, match=r"`power` must be a finite number.*Received") as error:
        NormDistance(power)
    assert repr(power) in str(error.value)
