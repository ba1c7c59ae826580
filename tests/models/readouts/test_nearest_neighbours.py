"""Nearest neighbours against loops over all pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_local.models import NearestNeighbours, export, nearest_neighbours, to_plain
from tests.models.readouts.support import (
    SAMPLES,
    USED,
    XE,
    YE,
    X,
    Y,
    dataset,
    encoder,
    features,
    label,
    unit_kernel,
    with_nan,
)
from tests.support import BACKEND, array, weights_of

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.data")

METRICS = ("cosine", "euclidean")


def votes(
    images: np.ndarray, stored: np.ndarray, labels: np.ndarray, neighbours: int, metric: str
) -> np.ndarray:
    """Share of the votes, pair by pair."""
    queries = features(images, unit_kernel(), 4.5, USED)
    memory = features(stored, unit_kernel(), 4.5, USED)
    found = np.zeros((len(images), 3))
    for q, query in enumerate(queries):
        if metric == "cosine":
            lengths = [np.linalg.norm(query) * np.linalg.norm(m) for m in memory]
            far = [-query @ m / length for m, length in zip(memory, lengths, strict=True)]
        else:
            far = [np.linalg.norm(query - m) for m in memory]
        for index in np.argsort(far)[:neighbours]:
            found[q, labels[index]] += 1.0 / neighbours
    return found


def fitted(neighbours: int = 5, metric: str = "cosine") -> Any:
    model = nearest_neighbours(encoder(), 3, neighbours, metric)
    model.fit(X, Y, verbose=0)
    return model


def same_votes(model: Any, expected: np.ndarray) -> None:
    """Equal up to a pair at the same distance in single precision."""
    found = model.predict(XE, verbose=0)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-5)
    assert np.mean(np.abs(found - expected).max(axis=1) > 1e-5) <= 1 / SAMPLES


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("neighbours", [1, 4, SAMPLES])
def test_votes(neighbours: int, metric: str) -> None:
    expected = votes(XE, X, Y, neighbours, metric)
    assert neighbours == SAMPLES or np.std(expected) > 0.2
    same_votes(fitted(neighbours, metric), expected)


def test_the_metrics_differ() -> None:
    found = [fitted(5, metric).predict(XE, verbose=0) for metric in METRICS]
    assert np.any(found[0] != found[1])


@pytest.mark.parametrize("metric", METRICS)
def test_a_stored_sample_finds_itself(metric: str) -> None:
    np.testing.assert_array_equal(fitted(1, metric).predict(X, verbose=0), np.eye(3)[Y])


def test_fit_again_forgets() -> None:
    """More samples, fewer samples: the compiled prediction sees those of the last fit."""
    model = fitted()
    model.predict(XE, verbose=0)
    count = len(model.weights)
    for size in (20, SAMPLES, 7):
        model.fit(X[:size], Y[:size])
        same_votes(model, votes(XE, X[:size], Y[:size], 5, "cosine"))
        assert tuple(model.memory.shape) == (size, 9)
        assert len(model.weights) == count


def test_callbacks_see_one_epoch() -> None:
    seen: list[tuple[str, int]] = []
    look = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(("begin", epoch)),
        on_epoch_end=lambda epoch, logs: seen.append(("end", epoch)),
    )
    nearest_neighbours(encoder(), 3).fit(X, Y, verbose=0, callbacks=[look])
    assert seen == [("begin", 0), ("end", 0)]


def test_forms_of_data() -> None:
    expected = fitted().predict(XE, verbose=0)
    for data in ((dataset(X, Y),), (X, Y[:, None]), (X, np.eye(3, dtype="float32")[Y])):
        model = nearest_neighbours(encoder(), 3)
        model.fit(*data)
        np.testing.assert_array_equal(model.predict(XE, verbose=0), expected)


def test_evaluation() -> None:
    model = nearest_neighbours(encoder(), 3)
    history = model.fit(X, Y, validation_data=(XE, YE), verbose=0).history
    scores = model.predict(XE, verbose=0)
    accuracy = np.mean(scores.argmax(axis=1) == YE)
    assert accuracy > 0.9
    assert history["val_accuracy"] == [pytest.approx(accuracy)]
    assert history["val_loss"] == [
        pytest.approx(1.0 - np.mean(scores[np.arange(SAMPLES), YE]), abs=1e-5)
    ]
    found = model.evaluate(dataset(XE, YE), verbose=0)
    assert found == [pytest.approx(history[f"val_{name}"][0]) for name in ("loss", "accuracy")]


def test_samples_of_weight_two_cost_twice_as_much() -> None:
    model = fitted()
    loss, doubled = (
        model.evaluate(XE, YE, sample_weight=np.full(len(XE), weight), verbose=0)[0]
        for weight in (1.0, 2.0)
    )
    assert loss > 0.01
    assert doubled == pytest.approx(2 * loss)


def test_the_encoder_does_not_change() -> None:
    base = encoder()
    before = array(base.layers[0].kernel)
    model = nearest_neighbours(base, 3)
    model.fit(X, Y)
    np.testing.assert_array_equal(array(base.layers[0].kernel), before)
    assert not base.trainable
    assert model.trainable_weights == []


class TestSaving:
    @pytest.mark.parametrize("metric", METRICS)
    def test_keras_file(self, tmp_path: Path, metric: str) -> None:
        model = fitted(3, metric)
        model.save(tmp_path / "model.keras")
        restored = keras.models.load_model(tmp_path / "model.keras")
        assert isinstance(restored, NearestNeighbours)
        np.testing.assert_array_equal(restored.predict(XE, verbose=0), model.predict(XE, verbose=0))
        restored.fit(XE[:30], YE[:30])
        assert restored.evaluate(XE[:30], YE[:30], verbose=0)[1] > 0.8

    def test_before_fit(self, tmp_path: Path) -> None:
        nearest_neighbours(encoder(), 3).save(tmp_path / "model.keras")
        restored = keras.models.load_model(tmp_path / "model.keras")
        restored.fit(X, Y)
        same_votes(restored, votes(XE, X, Y, 5, "cosine"))

    def test_weights_file(self, tmp_path: Path) -> None:
        """Into a model that stored another number of samples."""
        model, other = fitted(), nearest_neighbours(encoder(), 3)
        other.fit(XE[:9], YE[:9])
        model.save_weights(tmp_path / "model.weights.h5")
        other.load_weights(tmp_path / "model.weights.h5")
        np.testing.assert_array_equal(other.predict(XE, verbose=0), model.predict(XE, verbose=0))


@pytest.mark.parametrize("metric", METRICS)
def test_plain_form(metric: str) -> None:
    model = fitted(4, metric)
    plain = to_plain(model)
    assert all(type(layer).__module__.startswith("keras.") for layer in plain.layers)
    same_votes(plain, model.predict(XE, verbose=0))
    with pytest.raises(ValueError, match="`model` must be fitted"):
        to_plain(nearest_neighbours(encoder(), 3))


def test_export(tmp_path: Path) -> None:
    import tensorflow as tf

    model = fitted()
    export(model, tmp_path / "served")
    served = tf.saved_model.load(str(tmp_path / "served"))
    found = served.serve(XE).numpy()
    assert np.mean(np.abs(found - model.predict(XE, verbose=0)).max(axis=1) > 1e-5) <= 1 / SAMPLES


def test_mixed_precision() -> None:
    """Half precision of the encoder; samples are compared in single precision."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = fitted()
        scores = model.predict(XE, verbose=0)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.memory.dtype == "float32"
    assert np.mean(scores.argmax(axis=1) == YE) > 0.9


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((X[:, :19], Y), r"`x`.*\(None, 20\).*Received: x=\(60, 19\)"),
        ((with_nan(), Y), "`x` must be finite"),
        ((X, label(3)), "`y`.*from 0 to 2"),
        ((X, None), "`y`.*Received: y=None"),
        ((X[:4], Y[:4]), "`neighbours`.*at most the 4 samples.*Received: neighbours=5"),
        ((None,), "`x` must be an array or a dataset.*Received"),
    ],
)
def test_bad_input(data: Any, message: str) -> None:
    model = fitted()
    before = weights_of(model)
    with pytest.raises(ValueError, match=message):
        model.fit(*data)
    for one, other in zip(weights_of(model), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_use_before_fit() -> None:
    with pytest.raises(ValueError, match="call `fit` before"):
        nearest_neighbours(encoder(), 3)(X)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("classes", 1), ("neighbours", 0), ("metric", "manhattan"), ("power", 0.5)],
)
def test_bad_arguments(argument: str, value: Any) -> None:
    base = encoder()
    with pytest.raises(ValueError, match=f"`{argument}` must be .*Received: {argument}="):
        nearest_neighbours(base, **{"classes": 3, argument: value})
