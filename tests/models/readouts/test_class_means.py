"""The readout by class means: its formula, one step at a time, and that it needs no error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_local.models import ClassMeans, hebbian_readout, to_plain
from tests.models.readouts.support import (
    NEVER_WON,
    SAMPLES,
    UNITS,
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
from tests.plasticity.encoders import assert_close
from tests.support import BACKEND, array, probe, two_replicas, weights_of

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.data")

H = features(X, unit_kernel(), 4.5, USED)


def step(
    kernel: np.ndarray, h: np.ndarray, labels: np.ndarray, rate: float, weights: Any = None
) -> np.ndarray:
    """One step of the rule, sample by sample."""
    after = kernel.astype("float64").copy()
    weights = np.ones(len(h)) if weights is None else weights
    for c in range(kernel.shape[1]):
        members = [b for b in range(len(h)) if labels[b] == c]
        total = sum(weights[b] for b in members)
        if total > 0:
            pulls = [weights[b] * (h[b] - kernel[:, c]) for b in members]
            after[:, c] += rate * np.sum(pulls, axis=0) / total
    return after


def kernel_of(model: Any) -> Any:
    return model.get_layer("head").get_layer("scores").kernel


def constant_rate(rate: float = 0.3) -> Any:
    model = hebbian_readout(encoder(), 3, optimizer=keras.optimizers.SGD(rate))
    kernel_of(model).assign(probe((UNITS, 3), 3))
    return model


def fit(model: Any, *data: Any, **options: Any) -> Any:
    return model.fit(*data, **{"batch_size": SAMPLES, "verbose": 0, "shuffle": False, **options})


class TestFormula:
    def test_one_step(self) -> None:
        model = constant_rate()
        fit(model, X, Y)
        assert_close(array(kernel_of(model)), step(probe((UNITS, 3), 3), H, Y, 0.3), 1e-5)
        assert np.max(np.abs(array(kernel_of(model)) - probe((UNITS, 3), 3))) > 0.1

    def test_a_class_that_is_not_there_rests(self) -> None:
        model = constant_rate()
        fit(model, X[Y != 1], Y[Y != 1])
        after = array(kernel_of(model))
        np.testing.assert_array_equal(after[:, 1], probe((UNITS, 3), 3)[:, 1])
        assert np.all(np.any(after[:, [0, 2]] != probe((UNITS, 3), 3)[:, [0, 2]], axis=0))

    def test_sample_weights(self) -> None:
        weights = np.random.default_rng(0).random(SAMPLES)
        model = constant_rate()
        fit(model, X, Y, sample_weight=weights.astype("float32"))
        expected = step(probe((UNITS, 3), 3), H, Y, 0.3, weights)
        assert_close(array(kernel_of(model)), expected, 1e-5)

    def test_one_epoch_gives_the_mean_of_the_batches(self) -> None:
        """The default step size forgets nothing; with one batch these are the class means."""
        model = hebbian_readout(encoder(), 3)
        fit(model, X, Y)
        means = np.stack([H[Y == c].mean(axis=0) for c in range(3)], axis=1)
        assert_close(array(kernel_of(model)), means, 1e-5)
        model = hebbian_readout(encoder(), 3)
        fit(model, X, Y, batch_size=20)
        parts = [slice(i, i + 20) for i in (0, 20, 40)]
        batches = [
            np.stack([H[p][Y[p] == c].mean(axis=0) for c in range(3)], axis=1) for p in parts
        ]
        assert_close(array(kernel_of(model)), np.mean(batches, axis=0), 1e-5)

    def test_scores_are_projections(self) -> None:
        model = constant_rate()
        fit(model, X, Y)
        kernel = array(kernel_of(model)).astype("float64")
        expected = features(XE, unit_kernel(), 4.5, USED) @ (
            kernel / np.linalg.norm(kernel, axis=0)
        )
        assert_close(model.predict(XE, verbose=0), expected, 1e-5)

    def test_the_loss_is_the_distance(self) -> None:
        model = constant_rate()
        fit(model, X, Y)
        loss = model.evaluate(XE, YE, verbose=0, batch_size=SAMPLES)[0]
        distances = features(XE, unit_kernel(), 4.5, USED) - array(kernel_of(model))[:, YE].T
        assert loss == pytest.approx(np.mean(np.sum(distances**2, axis=1)), rel=1e-5)
        losses = fit(constant_rate(), X, Y, epochs=4).history["loss"]
        assert losses == sorted(losses, reverse=True)
        assert losses[-1] < losses[0]

    def test_wrong_teacher_wrong_classes(self) -> None:
        model = hebbian_readout(encoder(), 3)
        fit(model, X, (Y + 1) % 3)
        assert model.evaluate(XE, (YE + 1) % 3, verbose=0)[1] > 0.8
        assert model.evaluate(XE, YE, verbose=0)[1] < 0.2


class TestTraining:
    def test_it_learns_in_one_epoch(self) -> None:
        model = hebbian_readout(encoder(), 3)
        untaught = model.evaluate(XE, YE, verbose=0)[1]
        history = fit(model, X, Y, batch_size=20, validation_data=(XE, YE)).history
        assert untaught < 0.6
        assert history["val_accuracy"][-1] > 0.85

    def test_nothing_else_changes(self) -> None:
        base = encoder()
        before = array(base.layers[0].kernel)
        model = hebbian_readout(base, 3)
        fit(model, X, Y)
        np.testing.assert_array_equal(array(base.layers[0].kernel), before)
        assert [w.path for w in model.trainable_weights] == [kernel_of(model).path]
        assert array(model.get_layer("head").layers[0].scale)[NEVER_WON] == 0.0

    def test_datasets_and_forms_of_labels(self) -> None:
        model = constant_rate()
        fit(model, X, Y, batch_size=20)
        expected = array(kernel_of(model)).astype("float64")
        for data in (
            (dataset(X, Y),),
            (X, Y[:, None]),
            (X, np.eye(3, dtype="float32")[Y]),
        ):
            other = constant_rate()
            options = {} if len(data) == 1 else {"batch_size": 20}
            other.fit(*data, verbose=0, shuffle=False, **options)
            assert_close(array(kernel_of(other)), expected, 1e-5)

    def test_two_replicas_make_the_step_of_one(self) -> None:
        def train() -> np.ndarray:
            model = constant_rate()
            model.fit(dataset(X, Y, batch=SAMPLES), verbose=0)
            return array(kernel_of(model))

        one = train()
        with two_replicas().scope():
            both = train()
        assert_close(both, one.astype("float64"), 1e-5)

    def test_mixed_precision(self) -> None:
        keras.config.set_dtype_policy("mixed_float16")
        try:
            model = constant_rate()
            fit(model, X, Y)
        finally:
            keras.config.set_dtype_policy("float32")
        assert kernel_of(model).dtype == "float32"
        # float16 scales the loss, and leaves the first steps out until the scale fits.
        expected = step(probe((UNITS, 3), 3), H, Y, 0.3)
        assert_close(array(kernel_of(model)), expected, 0.01)


class TestSaving:
    def test_keras_file(self, tmp_path: Path) -> None:
        model = constant_rate()
        fit(model, X, Y)
        model.save(tmp_path / "model.keras")
        restored = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(restored.predict(XE, verbose=0), model.predict(XE, verbose=0))
        for one in (model, restored):
            fit(one, XE, YE)
        np.testing.assert_array_equal(array(kernel_of(restored)), array(kernel_of(model)))

    def test_plain_form(self) -> None:
        model = constant_rate()
        fit(model, X, Y)
        plain = to_plain(model)
        assert type(plain.layers[-1]) is keras.layers.Dense
        assert_close(
            plain.predict(XE, verbose=0), model.predict(XE, verbose=0).astype("float64"), 1e-5
        )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((with_nan(), Y), "`x` must be finite"),
        ((X, label(3)), "`y`.*from 0 to 2"),
        ((X, Y[:59]), "`y`.*60 integer labels"),
    ],
)
def test_bad_input(data: Any, message: str) -> None:
    model = constant_rate()
    before = weights_of(model)
    with pytest.raises(ValueError, match=message):
        model.fit(*data, verbose=0)
    for one, other in zip(weights_of(model), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_bad_arguments() -> None:
    base = encoder()
    with pytest.raises(ValueError, match=r"`classes` must be an integer.*Received"):
        hebbian_readout(base, 1)
    with pytest.raises(ValueError, match=r"`power` must be a finite number.*Received"):
        hebbian_readout(base, 3, power=0.5)
    with pytest.raises(ValueError, match=r"`classes` must be an integer.*Received"):
        ClassMeans(1)
    assert base.trainable
