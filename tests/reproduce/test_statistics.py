"""Statistics of few runs, beside SciPy, tables and enumeration."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from keras_local.reproduce import statistics


@pytest.mark.parametrize(
    ("degrees", "expected"),
    # Two-sided 95 %: the table of any book on statistics.
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (5, 2.5706), (9, 2.2622), (30, 2.0423)],
)
def test_quantiles_of_student_are_those_of_the_table(degrees: int, expected: float) -> None:
    assert statistics.t_quantile(0.975, degrees) == pytest.approx(expected, abs=5e-5)
    assert statistics.t_quantile(0.025, degrees) == pytest.approx(-expected, abs=5e-5)


def test_quantiles_and_intervals_are_those_of_scipy() -> None:
    scipy = pytest.importorskip("scipy.stats")
    for degrees in (*range(1, 12), 99, 100):
        for probability in (1e-6, 0.3, 0.5, 0.9, 0.995, 0.99999):
            expected = scipy.t.ppf(probability, degrees)
            found = statistics.t_quantile(probability, degrees)
            assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    values = np.random.default_rng(3).normal(size=7)
    found = statistics.interval(values, confidence=0.9)
    error = scipy.sem(values)
    low, high = scipy.t.interval(0.9, 6, loc=values.mean(), scale=error)
    np.testing.assert_allclose([found.low, found.high], [low, high], rtol=1e-9)
    expected = scipy.binomtest(7, 397).proportion_ci(0.95, method="wilson")
    found = statistics.wilson(7, 397)
    np.testing.assert_allclose([found.low, found.high], [expected.low, expected.high], rtol=1e-9)


def test_one_value_has_no_interval_and_equal_values_have_an_empty_one() -> None:
    alone = statistics.interval([0.25])
    assert (alone.mean, alone.count) == (0.25, 1)
    assert math.isnan(alone.low)
    assert math.isnan(alone.half)
    equal = statistics.interval([0.25, 0.25])
    assert (equal.low, equal.high, equal.half) == (0.25, 0.25, 0.0)


def test_wilson_stays_between_0_and_1() -> None:
    assert statistics.wilson(0, 397).low == 0.0
    assert 0.0 < statistics.wilson(0, 397).high < 0.02
    assert statistics.wilson(397, 397).high == 1.0


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_sign_flips_are_counted_one_by_one(count: int) -> None:
    differences = np.random.default_rng(count).normal(0.5, 1.0, count).round(1)
    seen = abs(sum(differences))
    signs = list(itertools.product([-1, 1], repeat=count))
    sums = [abs(sum(s * d for s, d in zip(each, differences, strict=True))) for each in signs]
    expected = sum(each >= seen - 1e-9 for each in sums) / len(signs)
    assert statistics.sign_flip(differences) == expected


def test_sign_flips_of_one_sign_give_the_smallest_p() -> None:
    for count in (3, 5, 6, 20):
        assert statistics.sign_flip([0.1] * count) == statistics.smallest_p(count)
    assert statistics.smallest_p(5) > 0.06
    assert statistics.smallest_p(6) < 0.032
    assert statistics.sign_flip([0.1, 0.2, 0.3]) == statistics.sign_flip([-0.1, -0.2, -0.3])


def test_many_differences_are_drawn() -> None:
    clear = statistics.sign_flip([1.0] * 21)
    assert clear == statistics.smallest_p(21) < 1e-5
    differences = np.random.default_rng(0).normal(0.3, 1.0, 25)
    # The sum of flipped signs is nearly normal with so many.
    z = abs(differences.sum()) / math.sqrt((differences**2).sum())
    assert statistics.sign_flip(differences) == pytest.approx(math.erfc(z / math.sqrt(2)), abs=0.02)


def test_holm_multiplies_by_the_number_of_tests_left() -> None:
    assert statistics.holm([]) == []
    assert statistics.holm([0.01]) == [0.01]
    # Holm's own steps: 3 x .01, 2 x .02 and never less than before, at most 1.
    np.testing.assert_allclose(statistics.holm([0.9, 0.01, 0.02]), [0.9, 0.03, 0.04])
    np.testing.assert_allclose(statistics.holm([0.02, 0.021, 0.8]), [0.06, 0.06, 0.8])
    np.testing.assert_allclose(statistics.holm([0.5, 0.6]), [1.0, 1.0])


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: statistics.interval([]), "values"),
        (lambda: statistics.interval("12"), "values"),
        (lambda: statistics.interval([1.0, math.nan]), "values"),
        (lambda: statistics.interval([1.0], confidence=1.0), "confidence"),
        (lambda: statistics.interval([1.0], confidence=True), "confidence"),
        (lambda: statistics.wilson(4, 3), "wrong"),
        (lambda: statistics.wilson(0, 0), "images"),
        (lambda: statistics.sign_flip([]), "differences"),
        (lambda: statistics.smallest_p(0), "count"),
        (lambda: statistics.holm([0.5, 1.5]), "p_values"),
        (lambda: statistics.t_quantile(0.0, 3), "probability"),
        (lambda: statistics.t_quantile(1.0, 3), "probability"),
        (lambda: statistics.t_quantile(0.5, 0), "degrees"),
    ],
)
def test_bad_arguments_are_refused_by_name(call: Any, argument: str) -> None:
    with pytest.raises(ValueError, match=f"`{argument}` must be"):
        call()
