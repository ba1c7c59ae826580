"""What the linear readout refuses, by name, with nothing changed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers
from keras_local.models import readout
from tests.models.readouts.support import (
    SAMPLES,
    XE,
    X,
    Y,
    dataset,
    encoder,
    fitted,
    label,
    scale_of,
    scores_kernel,
    with_nan,
)
from tests.support import BACKEND, array, weights_of

pytestmark = [
    pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.data"),
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed"),
]


ONE_HOT = np.eye(3)[Y]
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "rank": (lambda: (X[0], Y), r"`x`.*\(None, 20\).*Received: x=\(20,\)"),
    "rank 3": (lambda: (X[None], Y), r"`x`.*\(None, 20\).*Received: x=\(1, 60, 20\)"),
    "width": (lambda: (X[:, :19], Y), r"`x`.*\(None, 20\).*Received: x=\(60, 19\)"),
    "NaN": (lambda: (with_nan(), Y), "`x` must be finite.*Received.*NaN"),
    "label above": (lambda: (X, label(3)), r"`y`.*from 0 to 2.*Received: y=\[3"),
    "label below": (lambda: (X, label(-1)), r"`y`.*from 0 to 2.*Received: y=\[-1"),
    "too few labels": (lambda: (X, Y[:59]), r"`y`.*60 integer labels.*Received: y='shape \(59,\)"),
    "no labels": (lambda: (X, None), "`y`.*60 integer labels.*Received: y=None"),
    "one-hot of 4": (lambda: (X, np.eye(4)[Y]), r"`y`.*3 classes.*shape \(60, 4\)"),
    "one-hot of 2": (lambda: (X, np.eye(3)[Y][:, :2]), r"`y`.*3 classes.*shape \(60, 2\)"),
    "labels of rank 3": (lambda: (X, ONE_HOT[None]), r"`y`.*Received.*shape \(1, 60, 3\)"),
}
UNSEEN: dict[str, tuple[Callable[[], Any], str]] = {
    "half labels": (lambda: (X, label(1.5)), r"`y`.*Received.*1\.5"),
    "NaN label": (lambda: (X, label(np.nan)), "`y`.*Received.*nan"),
    "text": (lambda: (X, np.array(["a"] * SAMPLES)), "`y`.*Received"),
    "two hot": (lambda: (X, np.minimum(ONE_HOT + np.eye(3)[0], 1.0)), "`y`.*one-hot.*Received"),
    "soft": (lambda: (X, 0.5 * ONE_HOT), "`y`.*one-hot.*Received"),
}


@pytest.fixture
def untouched() -> Iterator[Any]:
    """A readout whose weights are the same afterwards, bit for bit."""
    model = readout(encoder(), classes=3)
    before = weights_of(model)
    yield model
    for one, other in zip(weights_of(model), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert model.predict(XE, verbose=0).shape == (SAMPLES, 3)


@pytest.mark.parametrize(("data", "message"), WRONG.values(), ids=WRONG)
def test_bad_input(untouched: Any, data: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        untouched.fit(*data(), verbose=0)


@pytest.mark.parametrize(("data", "message"), WRONG.values(), ids=WRONG)
def test_bad_validation_data(untouched: Any, data: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        untouched.fit(X, Y, validation_data=data(), verbose=0)


@pytest.mark.parametrize(("data", "message"), UNSEEN.values(), ids=UNSEEN)
def test_bad_labels(data: Callable[[], Any], message: str) -> None:
    model = readout(encoder(), classes=3)
    before = weights_of(model)
    with pytest.raises(ValueError, match=message):
        model.fit(*data(), verbose=0)
    for one, other in zip(weights_of(model), before, strict=True):
        np.testing.assert_array_equal(one, other)


class TestBadDatasets:
    @staticmethod
    def refused(x: np.ndarray, y: np.ndarray, kind: Any = ValueError) -> tuple[str, Any]:
        model = readout(encoder(), classes=3)
        before = array(scores_kernel(model))
        with pytest.raises(kind) as error:
            model.fit(dataset(x, y, batch=SAMPLES), verbose=0)
        np.testing.assert_array_equal(array(scores_kernel(model)), before)
        return str(error.value), model

    def test_one_hot_of_the_wrong_width(self) -> None:
        message, _ = self.refused(X, np.eye(4)[Y])
        assert "4" in message

    def test_labels_out_of_range(self) -> None:
        """A graph cannot raise a ValueError; the step stops before a weight changes."""
        import tensorflow as tf

        self.refused(X, label(3).astype("int64"), (ValueError, tf.errors.InvalidArgumentError))

    def test_width(self) -> None:
        message, _ = self.refused(X[:, :19], Y)
        assert "19" in message

    def test_nan(self) -> None:
        message, _ = self.refused(with_nan(), Y)
        assert "NaN" in message

    def test_the_scale_is_as_before(self) -> None:
        _, model = self.refused(X, np.eye(4)[Y])
        assert not np.any(scale_of(model))


@pytest.mark.parametrize("classes", [1, 0, -3, 2.5, "10", None, True])
def test_bad_classes(classes: Any) -> None:
    with pytest.raises(ValueError, match=r"`classes` must be an integer.*Received") as error:
        readout(encoder(), classes)
    assert repr(classes) in str(error.value)


@pytest.mark.parametrize("power", [0.99, 0.0, -1.0, float("nan"), float("inf"), "4.5", None])
def test_bad_power(power: Any) -> None:
    with pytest.raises(ValueError, match=r"`power` must be a finite number.*Received") as error:
        readout(encoder(), 3, power=power)
    assert repr(power) in str(error.value)


class TestBadEncoder:
    def test_not_built(self) -> None:
        with pytest.raises(ValueError, match=r"`encoder`.*built.*Received"):
            readout(keras.Sequential([layers.HebbianDense(4)]), 3)

    @pytest.mark.parametrize("wrong", [None, "encoder", layers.HebbianDense(4)])
    def test_not_a_model(self, wrong: Any) -> None:
        with pytest.raises(ValueError, match=r"`encoder`.*keras\.Model.*Received"):
            readout(wrong, 3)

    def test_outputs_of_another_rank(self) -> None:
        model = keras.Sequential([keras.Input((5, 20)), layers.HebbianDense(4)])
        with pytest.raises(ValueError, match=r"`encoder`.*Received.*\(None, 5, 4\)"):
            readout(model, 3)

    def test_a_refused_encoder_is_not_frozen(self) -> None:
        base = encoder()
        with pytest.raises(ValueError, match="`classes`"):
            readout(base, 1)
        assert base.trainable

    def test_silence_where_all_is_well(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            fitted()
