"""Readouts: every way in sets up and checks the same; preprocessing, files, refused calls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers
from keras_local.models import hebbian_readout, nearest_neighbours, readout
from keras_local.plasticity import KrotovHopfield
from tests.models.readouts.support import X, Y, dataset, encoder, scale_of, unit_kernel
from tests.plasticity.encoders import assert_close
from tests.support import BACKEND, array, weights_of

pytestmark = [
    pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.data"),
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed"),
]

MAKERS = [readout, hebbian_readout]


def batches() -> Any:
    return ((X[i : i + 20], Y[i : i + 20]) for i in range(0, 60, 20))


@pytest.mark.parametrize("make", MAKERS)
def test_the_scale_is_that_of_fit_whatever_comes_first(make: Callable[..., Any]) -> None:
    fitted = make(encoder(), 3)
    fitted.fit(X, Y, verbose=0)
    for first in (
        lambda model: model.train_on_batch(X, Y),
        lambda model: model.fit(batches(), verbose=0),
        lambda model: model.fit(dataset(X, Y), verbose=0),
    ):
        model = make(encoder(), 3)
        first(model)
        np.testing.assert_allclose(scale_of(model), scale_of(fitted), rtol=1e-5)


def test_before_it_learns_a_readout_measures_for_one_call() -> None:
    model = readout(encoder(), 3)
    scores = model.predict(X, verbose=0)
    assert np.std(scores) > 0.1
    np.testing.assert_allclose(model.predict_on_batch(X), scores, rtol=1e-5)
    losses = [model.evaluate(*data, verbose=0)[0] for data in ((X, Y), (batches(),))]
    losses.append(model.test_on_batch(X, Y)[0])
    np.testing.assert_allclose(losses, losses[0], rtol=1e-4)
    assert not np.any(scale_of(model))


def test_arguments_by_position() -> None:
    kernels = []
    for arguments in ((X, Y, 20, 2, 0), (X, Y)):
        keras.utils.set_random_seed(0)
        model = readout(encoder(), 3)
        options = {} if len(arguments) > 2 else {"batch_size": 20, "epochs": 2, "verbose": 0}
        model.fit(*arguments, validation_data=(X, Y, np.ones(60)), **options)
        kernels.append(weights_of(model)[-1])
    np.testing.assert_array_equal(*kernels)


@pytest.mark.parametrize("make", [*MAKERS, nearest_neighbours])
def test_every_way_in_checks(make: Callable[..., Any]) -> None:
    model = make(encoder(), 3)
    model.fit(X, Y, verbose=0)
    before = weights_of(model)
    for x, y, message in ((X, Y + 9, "`y`"), (X * np.nan, Y, "`x`"), ({"x": X}, Y, "`x`.*dict")):
        calls = [
            lambda x=x, y=y: model.fit(x, y, verbose=0),
            lambda x=x, y=y: model.fit(X, Y, validation_data=(x, y), verbose=0),
            lambda x=x, y=y: model.evaluate(x, y, verbose=0),
            lambda x=x, y=y: model.test_on_batch(x, y),
        ]
        if make is not nearest_neighbours:
            calls.append(lambda x=x, y=y: model.train_on_batch(x, y))
        if not isinstance(x, dict):
            calls.append(lambda x=x, y=y: model.fit(dataset(x, y), verbose=0))
            calls.append(lambda x=x, y=y: model.evaluate(dataset(x, y), verbose=0))
        for call in calls:
            with pytest.raises(ValueError, match=message):
                call()
    for one, other in zip(before, weights_of(model), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("nested", [False, True])
def test_unit_norm_is_behind_the_preprocessing(nested: bool, tmp_path: Path) -> None:
    """Inputs of another offset and scale, put right inside the encoder, give the same features."""
    plain = readout(encoder(), 3)
    layer = layers.HebbianDense(9, KrotovHopfield(), name="hebbian")
    parts: list[Any] = [keras.Input((20,)), keras.layers.Rescaling(1 / 100, -0.5), layer]
    inner = keras.Sequential(parts)
    layer.kernel.assign(unit_kernel())
    if nested:
        inner = keras.Sequential([keras.Input((20,)), inner, keras.layers.Identity()])
    model = readout(inner, 3)
    expected = plain.features.predict(X, verbose=0)
    assert_close(model.features.predict(100.0 * (X + 0.5), verbose=0), expected, 1e-4)
    model.fit(100.0 * (X + 0.5), Y, verbose=0)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    scores = model.predict(X, verbose=0)
    np.testing.assert_array_equal(restored.predict(X, verbose=0), scores)


def test_of_a_convolutional_encoder() -> None:
    inputs = keras.Input((5, 4, 1))
    layer = layers.HebbianConv2D(6, 3)
    pooled = keras.layers.GlobalAveragePooling2D()(layer(inputs))
    layer.kernel.assign(0.1 * np.abs(array(layer.kernel)))
    for make in MAKERS:
        make(keras.Model(inputs, pooled), 3).fit(X.reshape(-1, 5, 4, 1), Y, verbose=0)


@pytest.mark.parametrize("options", [{"optimizer": "none"}, {"loss": "none"}, {"power": "a"}])
def test_a_refused_encoder_keeps_the_flag_of_each_weight(options: dict[str, Any]) -> None:
    norm = keras.layers.BatchNormalization()
    model = keras.Sequential([keras.Input((20,)), norm, layers.HebbianDense(9)])
    norm.beta.trainable = False
    flags = [weight.trainable for weight in model.weights]
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` must be"):
        readout(model, 3, **options)
    assert [weight.trainable for weight in model.weights] == flags


def test_divergence_names_the_remedy_and_keeps_finite_weights() -> None:
    for call in (
        lambda model: model.fit(X, np.eye(3)[Y], epochs=50, batch_size=20, verbose=0),
        lambda model: [model.train_on_batch(X, np.eye(3)[Y]) for _ in range(50)],
    ):
        model = readout(encoder(), 3, loss="mse", optimizer=keras.optimizers.SGD(1e30, 0.9))
        with pytest.raises(ValueError, match=r"diverged.*smaller learning rate"):
            call(model)
        assert all(np.isfinite(weight).all() for weight in weights_of(model))
        assert all(np.isfinite(array(each)).all() for each in model.optimizer.variables)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_fit_leaves_one_state(error: Any) -> None:
    """Nothing learned yet: no scale either. Something learned: both stay."""

    class Interrupt(keras.callbacks.Callback):
        def __init__(self, hook: str) -> None:
            super().__init__()
            setattr(self, hook, self.interrupt)

        def interrupt(self, *arguments: Any) -> None:
            raise error

    for hook, learned in (("on_train_begin", False), ("on_epoch_end", True)):
        model = readout(encoder(), 3)
        before = weights_of(model)[-1]
        with pytest.raises(error):
            model.fit(X, Y, verbose=0, callbacks=[Interrupt(hook)])
        assert bool(np.any(scale_of(model))) == learned
        assert bool(np.any(weights_of(model)[-1] != before)) == learned


@pytest.mark.parametrize("make", [*MAKERS, nearest_neighbours])
def test_export(make: Callable[..., Any], tmp_path: Path) -> None:
    import tensorflow as tf

    model = make(encoder(), 3)
    model.fit(X, Y, verbose=0)
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    assert_close(array(served.serve(X)), model.predict(X, verbose=0).astype("float64"), 1e-4)


class TestStoredSamples:
    @staticmethod
    def model() -> Any:
        model = nearest_neighbours(encoder(), 3)
        model.fit(X, Y, verbose=0)
        return model

    def test_a_clone_takes_the_weights(self) -> None:
        model = self.model()
        clone = keras.models.clone_model(model)
        clone.set_weights(model.get_weights())
        np.testing.assert_array_equal(clone.predict(X, verbose=0), model.predict(X, verbose=0))

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("teacher", None, "both `memory` and `teacher`"),
            ("memory", np.zeros((60, 4)), "`memory` must be of shape"),
            ("teacher", np.zeros((59, 3)), "`teacher` must be of shape"),
            ("memory", np.full((60, 9), np.nan), "`memory` must be finite"),
        ],
    )
    def test_arrays_that_do_not_fit_are_refused(self, name: str, value: Any, message: str) -> None:
        model, store = self.model(), {}
        model.save_own_variables(store)
        store[name] = value
        if value is None:
            del store[name]
        before = weights_of(model)
        with pytest.raises(ValueError, match=message):
            model.load_own_variables(store)
        for one, other in zip(before, weights_of(model), strict=True):
            np.testing.assert_array_equal(one, other)
