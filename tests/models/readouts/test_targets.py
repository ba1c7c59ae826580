"""Readouts of labels and of values: units, losses, metrics; what cannot be served is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import keras_local as kl
from keras_local.models import hebbian_readout, nearest_neighbours, readout
from tests.support import tensorflow_only

RNG = np.random.default_rng(6)
X = RNG.random((90, 6)).astype("float32")
FIELDS = (X - 0.5) @ RNG.normal(size=(6, 3))
LABELS, VALUES = (FIELDS > 0).astype("float32"), FIELDS.astype("float32")


def encoder() -> keras.Model:
    return keras.Sequential([keras.Input((6,)), keras.layers.Identity()])


def taught(outputs: int, targets: Any, **arguments: Any) -> Any:
    optimizer = keras.optimizers.Adam(0.05)
    arguments = {"power": 1, "use_bias": True, "optimizer": optimizer, **arguments}
    return readout(encoder(), outputs, targets=targets, **arguments)


def test_labels() -> None:
    model = taught(3, "labels")
    model.fit(X, LABELS, batch_size=8, epochs=10, verbose=0)
    scores = model.predict(X, verbose=0)
    assert scores.min() >= 0.0
    assert scores.max() <= 1.0
    found = model.evaluate(X, LABELS, return_dict=True, verbose=0)
    np.testing.assert_allclose(
        found["accuracy"], np.mean((scores >= 0.5) == (LABELS > 0)), rtol=1e-6
    )
    assert found["accuracy"] > 0.85


def test_one_unit_takes_one_number_for_each_sample() -> None:
    model = taught(1, "labels")
    model.fit(X, LABELS[:, 0], batch_size=8, epochs=10, verbose=0)
    found = [
        model.evaluate(X, y, return_dict=True, verbose=0) for y in (LABELS[:, 0], LABELS[:, :1])
    ]
    assert found[0] == found[1]
    assert found[0]["accuracy"] > 0.85


def test_values() -> None:
    model = taught(3, "values")
    model.fit(X, VALUES, batch_size=8, epochs=15, verbose=0)
    assert model.evaluate(X, VALUES, return_dict=True, verbose=0)["r2_score"] > 0.7
    single = taught(1, "values")
    single.fit(X, VALUES[:, 0], batch_size=8, epochs=15, verbose=0)
    assert single.evaluate(X, VALUES[:, 0], return_dict=True, verbose=0)["r2_score"] > 0.7


@pytest.mark.parametrize("targets", ["labels", "values"])
def test_nearest_neighbours(targets: Any) -> None:
    """The mean of the targets of the nearest, by NumPy."""
    y = LABELS if targets == "labels" else VALUES
    model = nearest_neighbours(
        encoder(), 3, neighbours=4, metric="euclidean", power=1, targets=targets
    )
    model.fit(X, y)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    distance = np.linalg.norm(unit[:, None] - unit[None], axis=-1)
    expected = y[np.argsort(distance, axis=1)[:, :4]].mean(axis=1)
    found = model.predict(X, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    metrics = model.evaluate(X, y, return_dict=True, verbose=0)
    if targets == "labels":
        np.testing.assert_allclose(metrics["loss"], np.abs(y - expected).mean(), rtol=1e-5)
    else:
        half = 0.5 * np.square(y - expected).sum(axis=1).mean()
        np.testing.assert_allclose(metrics["loss"], half, rtol=1e-5)
        assert "r2_score" in metrics


@pytest.mark.parametrize("make", [readout, nearest_neighbours])
def test_saved_and_loaded(make: Any, tmp_path: Path) -> None:
    model = make(encoder(), 3, targets="labels")
    model.fit(X, LABELS, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
    with pytest.raises(ValueError, match="`y` must be"):
        again.evaluate(X, 2.0 * LABELS, verbose=0)


def test_a_plain_model_gives_the_same_probabilities() -> None:
    model = taught(3, "labels")
    model.fit(X, LABELS, verbose=0)
    plain = model.plain_model()
    np.testing.assert_allclose(plain.predict(X, verbose=0), model.predict(X, verbose=0), atol=1e-5)


@tensorflow_only
def test_streams() -> None:
    import tensorflow as tf

    model = taught(3, "values")
    model.fit(tf.data.Dataset.from_tensor_slices((X, VALUES)).batch(30), epochs=2, verbose=0)
    wrong = tf.data.Dataset.from_tensor_slices((X, VALUES[:, :2])).batch(30)
    with pytest.raises(ValueError, match="`y` must be rows of 3 values"):
        model.fit(wrong, verbose=0)


@pytest.mark.parametrize("targets", ["labels", "values"])
def test_class_means_are_of_classes(targets: Any) -> None:
    with pytest.raises(ValueError, match=r"`targets` must be 'classes' for hebbian_readout.*Use"):
        hebbian_readout(encoder(), 3, targets=targets)


@pytest.mark.parametrize(
    "loss", [kl.losses.LocalHinge(), kl.losses.PowerLoss(), kl.losses.SquaredHinge()]
)
@pytest.mark.parametrize("targets", ["labels", "values"])
def test_losses_of_classes_are_refused(loss: Any, targets: Any) -> None:
    with pytest.raises(ValueError, match="`loss` must be a loss for targets"):
        readout(encoder(), 3, loss=loss, targets=targets)
    with pytest.raises(ValueError, match="for one unit, or several labels at once"):
        loss(np.ones((4, 1), "float32"), np.ones((4, 1), "float32"))
    with pytest.raises(ValueError, match="BinaryCrossentropy"):
        loss(np.ones((4, 3), "float32"), np.ones((4, 3), "float32"))


def test_other_arguments() -> None:
    with pytest.raises(ValueError, match="`classes` must be an integer of at least 2"):
        readout(encoder(), 1)
    for make in (readout, hebbian_readout, nearest_neighbours):
        with pytest.raises(ValueError, match="`targets` must be one of"):
            make(encoder(), 3, targets="class")
