"""Who learns from a sample."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local.plasticity import KWTA, Competition, KWinners, PowerShare, Softmax, Winner
from tests.support import array, probe

tensor = keras.ops.convert_to_tensor


def shares(competition: Competition, scores: Any) -> np.ndarray:
    return array(competition(tensor(np.asarray(scores, "float32"))))


def test_winner_is_the_first_of_equals() -> None:
    np.testing.assert_array_equal(shares(Winner(), [[1, 3, 3], [0, 0, 0]]), [[0, 1, 0], [1, 0, 0]])


def test_k_winners_and_ties() -> None:
    scores = [[1, 5, 3, 4], [2, 2, 2, 9]]
    np.testing.assert_array_equal(shares(KWinners(2), scores), [[0, 1, 0, 1], [1, 1, 1, 1]])
    with pytest.raises(ValueError, match=r"`k` must be at most units=1.*Received: k=2"):
        KWTA(2).check_units(1)


def test_softmax() -> None:
    scores = probe((4, 5)).astype("float64")
    powers = np.exp(3.0 * scores)
    expected = powers / powers.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(shares(Softmax(3.0), scores), expected, rtol=1e-5)


@pytest.mark.parametrize("size", [1e-20, 1.0, 1e20])
def test_powers(size: float) -> None:
    scores = np.array([[1.0, 2.0, -3.0], [-1.0, -2.0, 0.0]]) * size
    expected = [[1.0 / 1025.0, 1024.0 / 1025.0, 0.0], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(shares(PowerShare(10.0), scores), expected, rtol=1e-4)


@pytest.mark.parametrize("competition", [Winner(), KWinners(3), Softmax(2.0), PowerShare(5.0)])
def test_round_trip(competition: Competition) -> None:
    restored = KWTA.from_config(KWTA(competition).get_config()).competition
    assert type(restored) is type(competition)
    assert restored.get_config() == competition.get_config()


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: KWinners(0), "k"),
        (lambda: Softmax(0.0), "beta"),
        (lambda: PowerShare(-1.0), "power"),
        (lambda: KWTA("soft"), "competition"),
    ],
)
def test_bad_input(make: Any, argument: str) -> None:
    with pytest.raises(ValueError, match=f"`{argument}` must be.*Received"):
        make()


def test_soft_shares_count_twice() -> None:
    """A share is the gain, and the weight with which the sample counts for the mean."""
    x, w = probe((9, 5)).astype("float64"), probe((5, 3), 1).astype("float64")
    cosines = x @ (w / np.linalg.norm(w, axis=0))
    shares = np.exp(2.0 * cosines) / np.sum(np.exp(2.0 * cosines), axis=1, keepdims=True)
    change, total = np.zeros((5, 3)), np.zeros(3)
    for sample, share in zip(x, shares, strict=True):
        for k in range(3):
            change[:, k] += share[k] * share[k] * (sample - w[:, k])
            total[k] += share[k]
    tensors = [keras.ops.convert_to_tensor(each.astype("float32")) for each in (x, w)]
    update = array(KWTA(Softmax(2.0)).update(*tensors))
    np.testing.assert_allclose(update, change / total, rtol=1e-4, atol=1e-6)
