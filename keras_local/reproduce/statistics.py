"""Statistics of a few runs: intervals of means, a paired test, and its correction for many rules.

NumPy is enough for all of it. Runs are few (three to ten seeds), so that nothing here relies on
large numbers of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from keras_local import _validation as check

_ENUMERATED = 20
"""Up to so many differences all signs are tried."""

_DRAWN = 2**17


@dataclass(frozen=True)
class Interval:
    """A mean and the interval around it; the ends are NaN where one value says nothing of them."""

    mean: float
    low: float
    high: float
    count: int

    @property
    def half(self) -> float:
        """Half the width of the interval, which of Student's t is what stands behind a `±`."""
        return (self.high - self.low) / 2.0


def interval(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> Interval:
    """Return the mean of independent values and Student's t interval of it.

        mean ± t(1 - (1 - confidence) / 2, n - 1) s / sqrt(n),  s^2 = Σ (x - mean)^2 / (n - 1)

    Args:
        values: One value for each run, at least one.
        confidence: How often the interval contains the true mean, if the values are normal.

    Returns:
        The interval; with one value its ends are NaN.

    Raises:
        ValueError: If there are no values, or an argument is not a number in range.

    >>> found = interval([1.0, 2.0, 3.0])
    >>> f"{found.mean:.0f} ± {found.half:.3f}"
    '2 ± 2.484'

    Source: Student 1908.
    """
    numbers = _numbers("values", values)
    confidence = _confidence(confidence)
    mean, count = float(np.mean(numbers)), len(numbers)
    if count == 1:
        return Interval(mean, math.nan, math.nan, 1)
    error = float(np.std(numbers, ddof=1)) / math.sqrt(count)
    half = t_quantile(0.5 + confidence / 2.0, count - 1) * error
    return Interval(mean, mean - half, mean + half, count)


def interval_of_runs(values: Sequence[float] | np.ndarray) -> Interval:
    """Return `interval` of one value a run, or NaN for all of it if a run has diverged."""
    if np.isfinite(values).all():
        return interval(values)
    return Interval(math.nan, math.nan, math.nan, len(values))


def wilson(wrong: int, images: int, confidence: float = 0.95) -> Interval:
    """Return the share of wrong images of one run, and Wilson's interval of it.

        (k + z^2 / 2 ± z sqrt(k (n - k) / n + z^2 / 4)) / (n + z^2)

    It says how far another test set of the same size would differ, not another seed.

    Args:
        wrong: Number `k` of images that were classified wrongly.
        images: Number `n` of all images.
        confidence: How often the interval contains the true share.

    Raises:
        ValueError: If an argument is out of range.

    >>> found = wilson(1, 10)
    >>> f"{found.mean} in {found.low:.3f} to {found.high:.3f}"
    '0.1 in 0.018 to 0.404'

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    images = check.positive_integer("images", images)
    wrong = check.positive_integer("wrong", wrong, 0, images)
    z = NormalDist().inv_cdf(0.5 + _confidence(confidence) / 2.0)
    centre = (wrong + z * z / 2.0) / (images + z * z)
    half = z * math.sqrt(wrong * (images - wrong) / images + z * z / 4.0) / (images + z * z)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Interval(wrong / images, low, high, images)


def sign_flip(differences: Sequence[float] | np.ndarray) -> float:
    """Return the p-value of the sign-flip test, a paired test whose only claim is symmetry.

    Two rules that learn equally well could be exchanged in any pair of runs with the same seed,
    which flips the sign of its difference. The p-value is the share of all `2^n` choices of signs
    whose sum is at least as far from 0 as the sum that was seen. It is two-sided and exact for up
    to 20 differences; for more, the share is that of 131,072 choices drawn with a fixed seed.

    With `n` differences no p-value is below `2^(1 - n)`; see `smallest_p`.

    Args:
        differences: One for each pair of runs, such as the errors of two rules with the same seed.

    Raises:
        ValueError: If there are no differences, or one is not a finite number.

    >>> sign_flip([1.0, 2.0, 3.0]), sign_flip([1.0, -1.0]), sign_flip([0.0, 0.0])
    (0.25, 1.0, 1.0)

    Source: Fisher 1935, "The design of experiments", section 21.
    """
    numbers = _numbers("differences", differences)
    # Sums in another order differ by rounding: what is equal has to count as equal.
    least = abs(float(np.sum(numbers))) - 1e-12 * float(np.sum(np.abs(numbers)))
    count = len(numbers)
    if count <= _ENUMERATED:
        sums = np.zeros(1)
        for number in numbers:
            sums = np.concatenate([sums + number, sums - number])
        return float(np.mean(np.abs(sums) >= least))
    generator = np.random.default_rng(0)
    found = sum(
        abs(float(np.dot(generator.integers(0, 2, count) * 2 - 1, numbers))) >= least
        for _ in range(_DRAWN)
    )
    return (1 + found) / (1 + _DRAWN)  # The signs that were seen are one of the choices.


def smallest_p(count: int) -> float:
    """Return the smallest p-value that `sign_flip` can give for so many differences.

    >>> smallest_p(3), smallest_p(5), smallest_p(6)
    (0.25, 0.0625, 0.03125)
    """
    count = check.positive_integer("count", count)
    return 2.0 ** (1 - count) if count <= _ENUMERATED else 1.0 / (1 + _DRAWN)


def holm(p_values: Sequence[float] | np.ndarray) -> list[float]:
    """Return p-values corrected for the number of tests: the probability of one false alarm in all.

    The smallest of `m` p-values is multiplied by `m`, the next by `m - 1`, and so on; none becomes
    smaller than the one before it, or larger than 1.

    Args:
        p_values: The p-values of all tests, in any order.

    Returns:
        The corrected p-values, in the same order.

    Raises:
        ValueError: If a p-value is not in 0 to 1.

    >>> holm([0.04, 0.01, 0.03])
    [0.06, 0.03, 0.06]

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    given = [check.real("p_values", p, minimum=0.0, maximum=1.0) for p in p_values]
    corrected = [1.0] * len(given)
    largest = 0.0
    for rank, index in enumerate(np.argsort(given, kind="stable")):
        largest = max(largest, min(1.0, (len(given) - rank) * given[index]))
        corrected[int(index)] = largest
    return corrected


def t_quantile(probability: float, degrees: int) -> float:
    """Return the value that Student's t is below with a probability, for whole degrees of freedom.

    The distribution has a closed form in the angle `θ = atan(t / sqrt(degrees))`, which is
    inverted by bisection to the last bit.

    Args:
        probability: From 0 to 1, both excluded.
        degrees: Degrees of freedom, one less than the number of values.

    Raises:
        ValueError: If an argument is out of range.

    >>> f"{t_quantile(0.975, 2):.4f} {t_quantile(0.975, 4):.4f} {t_quantile(0.025, 4):.4f}"
    '4.3027 2.7764 -2.7764'

    Source: Abramowitz & Stegun 1964, equations 26.7.3 and 26.7.4.
    """
    probability = check.real("probability", probability, minimum=0.0, maximum=1.0, exclusive=True)
    check.require(probability < 1.0, "probability", "a number below 1", probability)
    degrees = check.positive_integer("degrees", degrees)
    wanted = abs(2.0 * probability - 1.0)
    low, high = 0.0, math.pi / 2.0
    while low < (middle := (low + high) / 2.0) < high:
        low, high = (middle, high) if _within(middle, degrees) < wanted else (low, middle)
    return math.copysign(math.sqrt(degrees) * math.tan(low), probability - 0.5)


def _within(angle: float, degrees: int) -> float:
    """Return the probability that `|t| < sqrt(degrees) tan(angle)`."""
    cosine, sine = math.cos(angle), math.sin(angle)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = term if degrees > 1 else 0.0
    for factor in range(3 if odd else 2, degrees - 1, 2):
        term *= cosine * cosine * (factor - 1) / factor
        total += term
    return (angle + sine * total) * 2.0 / math.pi if odd else sine * total


def _numbers(argument: str, values: Any) -> np.ndarray:
    listed = isinstance(values, np.ndarray) or check.is_sequence(values)
    check.require(listed and len(values) > 0, argument, "a list of at least one number", values)
    return np.array([check.real(argument, value) for value in values], np.float64)


def _confidence(value: Any) -> float:
    confidence = check.real("confidence", value, minimum=0.0, maximum=1.0, exclusive=True)
    check.require(confidence < 1.0, "confidence", "a number below 1", value)
    return confidence
