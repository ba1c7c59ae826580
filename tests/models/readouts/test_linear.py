"""The linear readout: its formula, its training, and that the encoder stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers
from keras_local.losses import LocalHinge, PowerLoss, SquaredHinge
from keras_local.models import pretrain, readout
from keras_local.plasticity import KrotovHopfield
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
    fitted,
    scale_of,
    scores_kernel,
    unit_kernel,
)
from tests.plasticity.encoders import assert_close
from tests.support import BACKEND, array, probe, weights_of

pytestmark = [
    pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.data"),
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed"),
]


class TestFormula:
    @pytest.mark.parametrize("power", [1.0, 2.0, 4.5])
    def test_scores(self, power: float) -> None:
        model = readout(encoder(), classes=3, power=power)
        model.fit(X, Y, batch_size=20, epochs=2, verbose=0)
        expected = features(XE, unit_kernel(), power, USED) @ array(scores_kernel(model))
        assert_close(model.predict(XE, verbose=0), expected, 1e-5)
        assert np.std(expected) > 0.1

    def test_contrast_does_not_matter(self) -> None:
        model = fitted()
        expected = model.predict(XE, verbose=0).astype("float64")
        assert_close(model.predict(3.0 * XE, verbose=0), expected, 1e-5)
        contrast = np.random.default_rng(0).uniform(0.01, 100.0, (SAMPLES, 1)).astype("float32")
        assert_close(model.predict(contrast * XE, verbose=0), expected, 1e-5)
        assert np.max(np.abs(model.predict(XE + 0.3, verbose=0) - expected)) > 0.05

    def test_an_image_of_zeros(self) -> None:
        scores = fitted().predict(np.zeros((2, 20)), verbose=0)
        np.testing.assert_array_equal(scores, np.zeros((2, 3)))

    def test_features_have_an_rms_of_one(self) -> None:
        """Over the units used and the images of the first fit, and 0 for the unit never won."""
        scale = scale_of(fitted())
        assert scale[NEVER_WON] == 0.0
        assert np.all(scale[USED] == scale[0])
        x = X.astype("float64") / np.linalg.norm(X.astype("float64"), axis=1, keepdims=True)
        powers = np.maximum(x @ unit_kernel(), 0.0) ** 4.5 * scale
        assert np.sqrt(np.mean(powers[:, USED] ** 2)) == pytest.approx(1.0, rel=1e-5)

    @pytest.mark.few(1)
    @pytest.mark.parametrize("p", [2.0, 3.0])
    def test_the_norm_of_the_rule_says_who_never_won(self, p: float) -> None:
        """With p = 3 a unit at rest may be longer than 1.2 in the Euclidean norm."""
        model = readout(encoder(p), classes=3)
        model.fit(X, Y, verbose=0)
        np.testing.assert_array_equal(scale_of(model) > 0.0, USED)
        if p == 3.0:
            assert np.min(np.sum(unit_kernel(p)[:, USED] ** 2, axis=0)) > 1.2

    def test_activation_of_the_encoder_comes_before_the_power(self) -> None:
        model = readout(encoder(activation="tanh"), classes=3, power=3.0)
        model.fit(X, Y, verbose=0)
        unit = X.astype("float64") / np.linalg.norm(X.astype("float64"), axis=1)[:, None]
        powers = np.maximum(np.tanh(unit @ unit_kernel()), 0.0) ** 3 * scale_of(model)
        expected = powers @ array(scores_kernel(model))
        assert_close(model.predict(X, verbose=0), expected, 1e-5)

    def test_image_shaped_inputs(self) -> None:
        flat = fitted(shuffle=False)
        layer = layers.HebbianDense(UNITS, KrotovHopfield(), name="hebbian")
        images = keras.Sequential([keras.Input((5, 4, 1)), keras.layers.Flatten(), layer])
        layer.kernel.assign(unit_kernel())
        model = readout(images, classes=3)
        scores_kernel(model).assign(probe((UNITS, 3)))
        model.fit(X.reshape(-1, 5, 4, 1), Y, batch_size=20, epochs=2, verbose=0, shuffle=False)
        expected = features(XE, unit_kernel(), 4.5, USED) @ array(scores_kernel(model))
        assert_close(model.predict(XE.reshape(-1, 5, 4, 1), verbose=0), expected, 1e-5)
        np.testing.assert_allclose(scale_of(model), scale_of(flat), rtol=1e-5)

    def test_an_encoder_without_plastic_layers(self) -> None:
        dense = keras.Sequential([keras.Input((20,)), keras.layers.Dense(UNITS, use_bias=False)])
        dense.layers[0].kernel.assign(unit_kernel())
        model = readout(dense, classes=3)
        model.fit(X, Y, verbose=0)
        everyone = np.ones(UNITS, bool)
        expected = features(XE, unit_kernel(), 4.5, everyone) @ array(scores_kernel(model))
        assert_close(model.predict(XE, verbose=0), expected, 1e-5)

    def test_no_unit_has_converged(self) -> None:
        model = readout(encoder(kernel=5.0 * unit_kernel()), classes=3)
        with pytest.warns(UserWarning, match="No unit of layer 'hebbian' has converged") as record:
            model.fit(X, Y, verbose=0)
        assert [w.filename for w in record if "No unit" in str(w.message)] == [__file__]
        assert np.all(scale_of(model) > 0.0)


class TestTraining:
    def test_defaults(self) -> None:
        model = readout(encoder(), classes=3)
        assert isinstance(model.loss, PowerLoss)
        assert (model.loss.power, model.loss.beta) == (6.0, 0.3)
        assert isinstance(model.optimizer, keras.optimizers.Adam)
        assert float(array(model.optimizer.learning_rate)) == pytest.approx(1e-3)
        assert [w.path for w in model.trainable_weights] == [scores_kernel(model).path]

    def test_one_step_is_the_gradient(self) -> None:
        """Of the mean squared error at the frozen features, and of nothing else."""
        model = readout(
            encoder(), 3, loss="mse", optimizer=keras.optimizers.SGD(0.1), use_bias=True
        )
        kernel, bias = (array(w).astype("float64") for w in model.trainable_weights)
        targets = np.eye(3)[Y]
        model.fit(X, targets, batch_size=SAMPLES, verbose=0)
        h = features(X, unit_kernel(), 4.5, USED)
        error = 2.0 * (h @ kernel + bias - targets) / targets.size
        after = [array(w) for w in model.trainable_weights]
        assert_close(after[0] - kernel, -0.1 * h.T @ error, 1e-5)
        assert_close(after[1] - bias, -0.1 * error.sum(axis=0), 1e-5)

    def test_encoder_does_not_change(self) -> None:
        base = encoder()
        before = array(base.layers[0].kernel)
        model = readout(base, classes=3)
        for data in ((X, Y), (dataset(X, Y),)):
            scores = array(scores_kernel(model))
            model.fit(*data, epochs=2, verbose=0)
            assert np.any(array(scores_kernel(model)) != scores)
        np.testing.assert_array_equal(array(base.layers[0].kernel), before)
        assert not base.trainable
        assert base.losses == []

    def test_it_learns(self) -> None:
        model = readout(encoder(), classes=3, optimizer=keras.optimizers.Adam(0.05))
        chance = model.evaluate(XE, YE, verbose=0)[1]
        history = model.fit(X, Y, epochs=8, batch_size=5, verbose=0).history
        accuracy = np.mean(np.argmax(model.predict(XE, verbose=0), axis=1) == YE)
        assert chance < 0.6
        assert accuracy > 0.9
        assert history["accuracy"][-1] > 0.9
        assert history["loss"][-1] < 0.5 * history["loss"][0]

    @staticmethod
    def weights_after(*data: Any, start: int = 3, **options: Any) -> list[np.ndarray]:
        model = readout(encoder(), classes=3, optimizer=keras.optimizers.Adam(0.01))
        scores_kernel(model).assign(probe((UNITS, 3), start))
        arguments = {"epochs": 3, "verbose": 0, "shuffle": False, **options}
        model.fit(*data, **arguments)
        return weights_of(model)

    def test_features_are_computed_once_or_in_every_step(self) -> None:
        """Arrays and datasets come to the same."""
        arrays = self.weights_after(X, Y, batch_size=20)
        stream = self.weights_after(dataset(X, Y))
        assert np.max(np.abs(arrays[2] - probe((UNITS, 3), 3))) > 0.02
        for one, other in zip(arrays, stream, strict=True):
            assert_close(one, other.astype("float64"), 1e-5)

    def test_forms_of_labels(self) -> None:
        expected = self.weights_after(X, Y, batch_size=20)
        for labels in (Y[:, None], np.eye(3, dtype="float32")[Y], Y.astype("uint8")):
            for one, other in zip(
                self.weights_after(X, labels, batch_size=20), expected, strict=True
            ):
                assert_close(one, other.astype("float64"), 1e-6)

    def test_labels_matter(self) -> None:
        expected = self.weights_after(X, Y, batch_size=20)
        other = self.weights_after(X, (Y + 1) % 3, batch_size=20)
        assert np.max(np.abs(expected[2] - other[2])) > 0.01

    def test_other_losses(self) -> None:
        for loss in (
            LocalHinge(),
            SquaredHinge(),
            PowerLoss(power=2.5, beta=0.5),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        ):
            model = readout(encoder(), 3, loss=loss, optimizer=keras.optimizers.Adam(0.05))
            losses = model.fit(X, Y, batch_size=5, epochs=4, verbose=0).history["loss"]
            assert losses[-1] < 0.7 * losses[0]

    def test_decay_makes_a_support_vector_machine(self) -> None:
        """Short weights of a wide margin, the same classes."""
        norms = []
        for decay in (0.0, 1.0):
            optimizer = keras.optimizers.AdamW(0.05, weight_decay=decay)
            model = readout(encoder(), 3, loss=SquaredHinge(), optimizer=optimizer)
            scores_kernel(model).assign(probe((UNITS, 3), 3))
            model.fit(X, Y, epochs=30, batch_size=20, verbose=0)
            assert model.evaluate(XE, YE, verbose=0)[1] > 0.8
            norms.append(np.linalg.norm(array(scores_kernel(model))))
        assert norms[1] < 0.5 * norms[0]

    def test_validation_data(self) -> None:
        model = readout(encoder(), classes=3)
        history = model.fit(X, Y, validation_data=(XE, YE), epochs=2, verbose=0).history
        assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(history)
        expected = model.evaluate(XE, YE, verbose=0)
        assert history["val_loss"][-1] == pytest.approx(expected[0], rel=1e-5)
        assert history["val_accuracy"][-1] == pytest.approx(expected[1], rel=1e-5)
        scores = model.predict(XE, verbose=0)
        assert expected[1] == pytest.approx(np.mean(np.argmax(scores, axis=1) == YE))

    def test_validation_split(self) -> None:
        model = readout(encoder(), classes=3)
        history = model.fit(X, Y, validation_split=0.25, epochs=2, verbose=0).history
        expected = model.evaluate(X[45:], Y[45:], verbose=0)
        assert history["val_loss"][-1] == pytest.approx(expected[0], rel=1e-5)

    def test_validation_data_as_a_dataset(self) -> None:
        model = readout(encoder(), classes=3)
        history = model.fit(X, Y, validation_data=dataset(XE, YE), verbose=0).history
        expected = model.evaluate(XE, YE, verbose=0)
        assert history["val_loss"][-1] == pytest.approx(expected[0], rel=1e-5)

    def test_a_dataset_validated_by_arrays(self) -> None:
        model = readout(encoder(), classes=3)
        history = model.fit(dataset(X, Y), validation_data=(XE, YE), verbose=0).history
        expected = model.evaluate(XE, YE, verbose=0)
        assert history["val_loss"][-1] == pytest.approx(expected[0], rel=1e-5)

    def test_sample_weights(self) -> None:
        weights = (np.arange(SAMPLES) % 2).astype("float32")
        some = self.weights_after(X, Y, batch_size=SAMPLES, sample_weight=weights)
        everyone = self.weights_after(X, Y, batch_size=SAMPLES)
        assert np.max(np.abs(some[2] - everyone[2])) > 1e-3

    def test_fit_again(self) -> None:
        """It goes on, with the scale of the first fit, also on brighter or other images."""
        model = fitted()
        scale, scores = scale_of(model), array(scores_kernel(model))
        loss = model.evaluate(X, Y, verbose=0)[0]
        model.fit(XE, YE, batch_size=8, epochs=5, verbose=0)
        np.testing.assert_array_equal(scale_of(model), scale)
        assert np.any(array(scores_kernel(model)) != scores)
        assert model.evaluate(X, Y, verbose=0)[0] < loss

    def test_after_fit_the_model_takes_images(self) -> None:
        model = readout(encoder(), classes=3)
        model.fit(X, Y, verbose=0)
        assert model.predict(XE, verbose=0).shape == (SAMPLES, 3)
        assert len(model.evaluate(XE, YE, verbose=0)) == 2
        model.fit(dataset(X, Y), verbose=0)
        model.train_on_batch(X, Y)
        assert tuple(model(XE).shape) == (SAMPLES, 3)

    def test_interrupted_fit_leaves_a_working_model(self) -> None:
        class Stop(keras.callbacks.Callback):
            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                raise KeyboardInterrupt

        model = readout(encoder(), classes=3)
        before = array(scores_kernel(model))
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, Y, verbose=0, callbacks=[Stop()])
        assert np.any(array(scores_kernel(model)) != before)
        assert model.predict(XE, verbose=0).shape == (SAMPLES, 3)

    def test_after_pretraining(self) -> None:
        """The whole way, from images to classes."""
        start = keras.initializers.RandomUniform(0, 1, seed=1)
        layer = layers.HebbianDense(12, kernel_initializer=start)
        base = keras.Sequential([keras.Input((20,)), layer])
        pretrain(base, X, epochs=40, batch_size=20, step_size=0.1, verbose=0)
        model = readout(base, classes=3, optimizer=keras.optimizers.Adam(0.05))
        model.fit(X, Y, batch_size=5, epochs=6, verbose=0)
        assert model.evaluate(XE, YE, verbose=0)[1] > 0.9


class TestInputDropout:
    @staticmethod
    def model(share: float, **options: Any) -> Any:
        keras.utils.set_random_seed(0)
        optimizer = keras.optimizers.Adam(0.05)
        return readout(encoder(), 3, optimizer=optimizer, input_dropout=share, **options)

    def test_only_while_training(self) -> None:
        model, plain = self.model(0.4), self.model(0.0)
        for each in (model, plain):
            each.layers[1].layers[0].adapt(features(X, unit_kernel(), 4.5, USED), USED)
            scores_kernel(each).assign(probe((UNITS, 3), 3))
        for both in (lambda each: each(X), lambda each: each.predict(X, verbose=0)):
            np.testing.assert_array_equal(array(both(model)), array(both(plain)))
        one, other = (array(model(X, training=True)) for _ in "12")
        assert np.abs(one - other).max() > 0.01
        np.testing.assert_array_equal(array(plain(X, training=True)), array(plain(X)))

    def test_entries_are_left_out_before_the_inputs_are_scaled(self) -> None:
        """With all but one unit silent, the current is that of a unit-norm rest of the input."""
        kernel = np.zeros((20, UNITS))
        kernel[0, :] = 1.0
        model = readout(encoder(kernel=kernel), 3, power=1.0, input_dropout=0.5)
        model.layers[1].layers[0].scale.assign(np.ones(UNITS))
        scores_kernel(model).assign(np.ones((UNITS, 3)) / UNITS)
        x = np.zeros((400, 20), "float32")
        x[:, :2] = (3.0, 4.0)
        found = np.round(array(model(x, training=True))[:, 0], 3)
        # Both there, the second left out, the first or both left out: 1/4, 1/4, 1/2.
        values, counts = np.unique(found, return_counts=True)
        np.testing.assert_allclose(values, [0.0, 0.6, 1.0], atol=1e-3)
        np.testing.assert_allclose(counts / 400, [0.5, 0.25, 0.25], atol=0.1)

    def test_it_learns_from_arrays_and_datasets(self) -> None:
        for data in ((X, Y), (dataset(X, Y, 10),)):
            model = self.model(0.1)
            model.fit(*data, epochs=20, verbose=0)
            assert model.evaluate(XE, YE, verbose=0)[1] > 0.9

    def test_each_epoch_sees_other_inputs(self) -> None:
        """One step from the same weights, twice: features were not computed once for all."""
        model, found = self.model(0.4), []
        model.compile(keras.optimizers.SGD(0.1), model.loss)
        model.fit(X, Y, batch_size=SAMPLES, verbose=0)
        for _ in "12":
            scores_kernel(model).assign(probe((UNITS, 3), 3))
            model.fit(X, Y, batch_size=SAMPLES, verbose=0)
            found.append(array(scores_kernel(model)))
        assert np.abs(found[0] - found[1]).max() > 1e-5

    def test_saved(self, tmp_path: Path) -> None:
        model = self.model(0.3)
        model.fit(X, Y, verbose=0)
        model.save(tmp_path / "model.keras")
        restored = keras.models.load_model(tmp_path / "model.keras")
        assert restored.input_dropout == 0.3
        np.testing.assert_array_equal(restored.predict(XE, verbose=0), model.predict(XE, verbose=0))
        restored.fit(X, Y, verbose=0)

    @pytest.mark.parametrize("share", [-0.1, 1.0, float("nan"), None, True])
    def test_bad_share(self, share: Any) -> None:
        with pytest.raises(ValueError, match="`input_dropout` must be"):
            readout(encoder(), 3, input_dropout=share)


class TestCallbacks:
    def test_early_stopping_restores_the_best_weights(self) -> None:
        seen: list[np.ndarray] = []
        model = readout(encoder(), classes=3, optimizer=keras.optimizers.Adam(0.1))
        look = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: seen.append(array(scores_kernel(model)))
        )
        stop = keras.callbacks.EarlyStopping(
            "loss", min_delta=1e9, patience=2, restore_best_weights=True
        )
        history = model.fit(X, Y, epochs=9, verbose=0, callbacks=[look, stop])
        assert len(history.epoch) == 3
        np.testing.assert_array_equal(array(scores_kernel(model)), seen[0])
        assert np.any(seen[2] != seen[0])

    def test_checkpoints_hold_the_whole_model(self, tmp_path: Path) -> None:
        path = tmp_path / "{epoch}.keras"
        model = readout(encoder(), classes=3)
        model.fit(X, Y, epochs=2, verbose=0, callbacks=[keras.callbacks.ModelCheckpoint(str(path))])
        last = keras.models.load_model(tmp_path / "2.keras")
        first = keras.models.load_model(tmp_path / "1.keras")
        expected = model.predict(XE, verbose=0)
        np.testing.assert_allclose(last.predict(XE, verbose=0), expected, rtol=1e-6, atol=1e-6)
        assert np.max(np.abs(first.predict(XE, verbose=0) - expected)) > 1e-4

    def test_callbacks_can_use_the_model(self) -> None:
        """Evaluate on other images after every epoch, as many callbacks do."""
        losses: list[float] = []

        class Look(keras.callbacks.Callback):
            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                losses.append(self.model.evaluate(XE, YE, verbose=0)[0])

        model = readout(encoder(), classes=3)
        model.fit(X, Y, epochs=2, verbose=0, callbacks=[Look()])
        assert losses[-1] == pytest.approx(model.evaluate(XE, YE, verbose=0)[0], rel=1e-5)


class TestSaving:
    def test_keras_file(self, tmp_path: Path) -> None:
        model = fitted(shuffle=False)
        model.save(tmp_path / "model.keras")
        restored = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(restored.predict(XE, verbose=0), model.predict(XE, verbose=0))
        assert [w.path.split("/")[-1] for w in restored.trainable_weights] == ["kernel"]
        for one in (model, restored):
            one.fit(X, Y, epochs=2, batch_size=20, shuffle=False, verbose=0)
        for one, other in zip(weights_of(model), weights_of(restored), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_weights_file(self, tmp_path: Path) -> None:
        model, other = fitted(), readout(encoder(kernel=probe((20, UNITS))), classes=3)
        model.save_weights(tmp_path / "model.weights.h5")
        other.load_weights(tmp_path / "model.weights.h5")
        np.testing.assert_array_equal(other.predict(XE, verbose=0), model.predict(XE, verbose=0))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
class TestMixedPrecision:
    def test_training(self, policy: str) -> None:
        expected = TestTraining.weights_after(X, Y, batch_size=20)
        keras.config.set_dtype_policy(policy)
        try:
            half = TestTraining.weights_after(X, Y, batch_size=20)
        finally:
            keras.config.set_dtype_policy("float32")
        assert all(np.isfinite(weight).all() for weight in half)
        assert np.max(np.abs(half[2] - probe((UNITS, 3), 3))) > 0.05
        # Among them a step that the loss scale of float16 may have left out.
        assert_close(half[2], expected[2].astype("float64"), 0.03)

    def test_units_that_never_won(self, policy: str) -> None:
        """A power of their currents may leave the range of half precision."""
        kernel = unit_kernel()
        kernel[:, NEVER_WON] *= 5.0  # As long as the initial weights of 784 inputs.
        keras.config.set_dtype_policy(policy)
        try:
            model = readout(encoder(kernel=kernel), classes=3)
            model.fit(X, Y, verbose=0)
        finally:
            keras.config.set_dtype_policy("float32")
        assert np.isfinite(model.predict(X, verbose=0)).all()
