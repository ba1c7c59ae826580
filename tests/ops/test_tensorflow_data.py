"""Checks inside a pipeline: a batch that does not fit stops it, and the message says why."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest

from tests.support import probe, tensorflow_only

pytestmark = tensorflow_only

X = probe((4, 2, 3))
CLASSES = types.SimpleNamespace(kind="classes", outputs=3, smoothed=False)
SMOOTHED = types.SimpleNamespace(kind="classes", outputs=3, smoothed=True)
NUMBERS = types.SimpleNamespace(
    kind="numbers", outputs=2, bounds=(0.0, 1.0), form="2 numbers", range="from 0 to 1"
)
ROWS = np.eye(3, dtype="float32")[[0, 2, 1, 1]]
SOFT = 0.9 * ROWS + 0.1 / 3


def run(*batch: Any, expected: Any = None) -> int:
    """Through a pipeline that knows the ranks of what comes, and no size."""
    import tensorflow as tf

    from keras_local.ops._tensorflow_data import asserted

    arrays = tuple(np.asarray(part, "float32") for part in batch)
    specs = tuple(tf.TensorSpec([None] * each.ndim, "float32") for each in arrays)
    data = tf.data.Dataset.from_generator(lambda: iter([arrays]), output_signature=specs)
    return len(list(asserted(data, (2, 3), 100.0, expected, "x", len(arrays))))


def changed(values: np.ndarray, value: float) -> np.ndarray:
    values = values.copy()
    values.flat[-1] = value
    return values


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        ((X,), None),
        ((changed(X, 100.0),), None),
        ((X, [0, 1, 2, 0]), CLASSES),
        ((X, ROWS), CLASSES),
        ((X, SOFT), SMOOTHED),
        ((X, np.zeros((4, 2))), NUMBERS),
        ((X, np.ones(4), np.full(4, 1e30)), NUMBERS),
    ],
)
def test_what_fits_passes(batch: Any, expected: Any) -> None:
    assert run(*batch, expected=expected) == 1


@pytest.mark.parametrize(
    ("batch", "expected", "message"),
    [
        ((X[:, :1],), None, r"`x` must be of shape \(None, 2, 3\) in every batch of `x`"),
        ((X[..., :2],), None, r"`x` must be of shape \(None, 2, 3\)"),
        ((X[:0],), None, "`x` must be at least one sample"),
        ((changed(X, np.nan),), None, "`x` must be finite"),
        ((changed(X, -100.1),), None, r"`x` must be finite \(no NaN\), and at most 1e\+02"),
        ((X, [0, 1, 2]), CLASSES, "`y` must be one label for each sample"),
        ((X, [0, 1, 2, 3]), CLASSES, "`y` must be integers from 0 to 2"),
        ((X, [0, 1, 2, -1]), CLASSES, "`y` must be integers from 0 to 2"),
        ((X, [0, 1, 2, 0.5]), CLASSES, "`y` must be integers from 0 to 2"),
        ((X, ROWS[:, :2]), CLASSES, "`y` must be one-hot labels of 3 classes"),
        ((X, SOFT), CLASSES, r"`y` must be one-hot rows \(one entry 1"),
        ((X, changed(ROWS, 1.0)), CLASSES, r"`y` must be one-hot rows \(one entry 1"),
        ((X, 0.9 * SOFT), SMOOTHED, "`y` must be one-hot rows, or smoothed ones"),
        ((X, changed(ROWS, -0.1)), SMOOTHED, "`y` must be one-hot rows, or smoothed ones"),
        ((X, np.zeros((3, 2))), NUMBERS, "`y` must be one target for each sample"),
        ((X, np.zeros((4, 3))), NUMBERS, "`y` must be 2 numbers"),
        ((X, np.full((4, 2), 1.1)), NUMBERS, "`y` must be from 0 to 1"),
        ((X, changed(np.zeros((4, 2)), -0.1)), NUMBERS, "`y` must be from 0 to 1"),
        ((X, changed(np.zeros((4, 2)), np.nan)), NUMBERS, "`y` must be from 0 to 1"),
        ((X, np.ones(4), [1, 1, 1, np.inf]), NUMBERS, "`sample_weight` must be finite"),
    ],
)
def test_what_does_not_fit_stops_the_pipeline(batch: Any, expected: Any, message: str) -> None:
    import tensorflow as tf

    with pytest.raises(tf.errors.InvalidArgumentError, match=f"Refused: {message}"):
        run(*batch, expected=expected)
