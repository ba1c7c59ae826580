"""The dense layer that learns by a plasticity rule, under plain `compile` and `fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers, plasticity
from keras_local.activations import RePU
from keras_local.plasticity import KrotovHopfield
from tests.oracles_plasticity import Krotov, unit_lengths
from tests.plasticity.encoders import (
    CLEAR,
    assert_close,
    fit_steps,
    hebbian,
    krotov,
    problem,
)
from tests.support import (
    BACKEND,
    array,
    compile_options,
    model_gradients,
    probe,
    tensorflow_only,
    weights_of,
)

PS = [2.0, 3.0, 4.5]
CASES = [
    pytest.param(Krotov(p, rank), units, id=f"p{p:g}-rank{rank}-units{units}")
    for p in PS
    for rank in (2, 7)
    for units in (40, 700)
]


class TestForward:
    @pytest.mark.parametrize("p", [2.0, 3.0])
    def test_is_the_linear_map_of_the_kernel_itself(self, p: float) -> None:
        """`J(W)` belongs to learning only."""
        x, kernel = problem(units=6)
        model = hebbian(kernel, KrotovHopfield(p))
        assert_close(array(model(x)), x.astype("float64") @ kernel, 1e-6)

    def test_activation(self) -> None:
        x, kernel = problem(units=6)
        model = hebbian(kernel, "krotov_hopfield", activation=RePU(3.0))
        expected = np.maximum(x.astype("float64") @ kernel, 0.0) ** 3
        assert_close(array(model(x)), expected, 1e-5)

    def test_leading_axes(self) -> None:
        layer = layers.HebbianDense(6)
        x = probe((2, 3, 5))
        outputs = layer(x)
        assert tuple(outputs.shape) == layer.compute_output_shape(x.shape) == (2, 3, 6)
        expected = x.reshape(6, 5).astype("float64") @ array(layer.kernel)
        assert_close(array(outputs).reshape(6, 6), expected, 1e-6)

    def test_kernel_is_the_only_weight(self) -> None:
        layer = layers.HebbianDense(400)
        layer.build((None, 50))
        assert [weight.path for weight in layer.weights] == [layer.kernel.path]
        assert tuple(layer.kernel.shape) == (50, 400)
        # Normal with deviation 1, far outside of the unit sphere.
        kernel = array(layer.kernel)
        assert np.mean(kernel) == pytest.approx(0.0, abs=0.03)
        assert np.std(kernel) == pytest.approx(1.0, abs=0.03)

    def test_kernel_initializer(self) -> None:
        start = keras.initializers.RandomUniform(2.0, 3.0)
        layer = layers.HebbianDense(4, kernel_initializer=start)
        layer.build((None, 5))
        assert 2.0 <= array(layer.kernel).min() <= array(layer.kernel).max() <= 3.0


class TestSteps:
    @pytest.mark.parametrize(("oracle", "units"), CASES)
    def test_one_step(self, oracle: Krotov, units: int) -> None:
        x, kernel = problem(units)
        assert oracle.closest_rivals(x, kernel) > CLEAR
        model = hebbian(kernel, krotov(oracle))
        fit_steps(model, x, 0.5, len(x))
        after = array(model.layers[0].kernel)
        assert_close(after, oracle.step(x, kernel, 0.5), 1e-6)
        assert np.max(np.abs(after - kernel)) == pytest.approx(0.5, rel=1e-4)

    @tensorflow_only
    @pytest.mark.parametrize("p", PS)
    def test_steps_in_double_precision(self, p: float) -> None:
        """Rounding hides nothing: the deviation is that of float64, over several steps."""
        oracle = Krotov(p, rank=3)
        x, kernel = problem(units=15, batch=60)
        model = hebbian(kernel, krotov(oracle), dtype="float64")
        fit_steps(model, x, 0.5, batch_size=12)
        expected = oracle.train(np.split(x, 5), kernel, 0.5)
        assert_close(array(model.layers[0].kernel), expected, 1e-12)

    @pytest.mark.parametrize("p", PS)
    def test_several_steps(self, p: float) -> None:
        oracle = Krotov(p, rank=3)
        x, kernel = problem(units=15, batch=60)
        model = hebbian(kernel, krotov(oracle))
        fit_steps(model, x, 0.1, batch_size=12)
        expected = oracle.train(np.split(x, 5), kernel, 0.1)
        assert_close(array(model.layers[0].kernel), expected, 2e-6)

    def test_uneven_last_batch(self) -> None:
        x, kernel = problem(units=8, batch=10)
        model = hebbian(kernel, "krotov_hopfield")
        fit_steps(model, x, 0.1, batch_size=4)
        expected = Krotov().train([x[:4], x[4:8], x[8:]], kernel, 0.1)
        assert_close(array(model.layers[0].kernel), expected, 2e-6)

    def test_positions_are_samples(self) -> None:
        x, kernel = problem(units=8, batch=12)
        layer = layers.HebbianDense(8)
        model = keras.Sequential([keras.Input((4, 30)), layer])
        layer.kernel.assign(kernel)
        fit_steps(model, x.reshape(3, 4, 30), 0.1, batch_size=3)
        assert_close(array(layer.kernel), Krotov().step(x, kernel, 0.1), 1e-6)

    def test_parts_of_the_rule(self) -> None:
        """Mean, each unit's own normaliser and a rate that knows its norm, through `fit`."""
        x, kernel = problem(units=8)
        change = Krotov(3.0).change(x, kernel) / len(x)
        largest = np.max(np.abs(change), axis=0)
        unnormalised = KrotovHopfield(
            3.0, reduction=plasticity.Mean(), normaliser=plasticity.NoNormaliser()
        )
        model = hebbian(kernel, unnormalised)
        fit_steps(model, x, 0.02, len(x))
        assert_close(array(model.layers[0].kernel) - kernel, 0.02 * change, 1e-5)

        by_unit = KrotovHopfield(
            3.0, normaliser=plasticity.UnitMaxAbs(), rate=plasticity.NormDistance(1.0)
        )
        model = hebbian(kernel, by_unit)
        fit_steps(model, x, 0.1, len(x))
        sizes = np.abs(unit_lengths(kernel) - 1.0) / np.where(largest > 0.0, largest, 1.0)
        assert_close(array(model.layers[0].kernel) - kernel, 0.1 * change * sizes, 1e-5)

    def test_inputs_of_zero_change_nothing(self) -> None:
        kernel = probe((30, 8))
        model = hebbian(kernel, KrotovHopfield(3))
        fit_steps(model, np.zeros((6, 30), "float32"), 0.5, 3)
        np.testing.assert_array_equal(array(model.layers[0].kernel), kernel)

    def test_learning_needs_training(self) -> None:
        x, kernel = problem(units=8)
        model = hebbian(kernel, "krotov_hopfield")
        model.compile(keras.optimizers.SGD(0.5), "mse", **compile_options())
        targets = np.zeros((len(x), 8), "float32")
        model.predict(x, verbose=0)
        model.evaluate(x, targets, verbose=0)
        np.testing.assert_array_equal(array(model.layers[0].kernel), kernel)
        assert model.losses == []

    def test_frozen_layer_does_not_learn(self) -> None:
        x, kernel = problem(units=8)
        hidden = layers.HebbianDense(8)
        model = keras.Sequential([keras.Input((30,)), hidden, keras.layers.Dense(1)])
        hidden.kernel.assign(kernel)
        hidden.trainable = False
        before = array(model.layers[1].kernel)
        model.compile(keras.optimizers.SGD(0.1), "mse", **compile_options())
        model.fit(x, np.ones((len(x), 1)), verbose=0)
        np.testing.assert_array_equal(array(hidden.kernel), kernel)
        assert np.any(array(model.layers[1].kernel) != before)


class TestBesideBackpropagation:
    """A plastic layer below a readout that learns by its loss, in one `fit`."""

    @staticmethod
    def joint(kernel: np.ndarray, readout: np.ndarray) -> keras.Model:
        hidden = layers.HebbianDense(kernel.shape[1], KrotovHopfield(3.0))
        head = keras.layers.Dense(readout.shape[1], use_bias=False)
        model = keras.Sequential([keras.Input((len(kernel),)), hidden, head])
        hidden.kernel.assign(kernel)
        head.kernel.assign(readout)
        return model

    def test_kernel_follows_the_rule_alone(self) -> None:
        x, kernel = problem(units=8, batch=36)
        readout = 0.1 * probe((8, 2), 5)
        expected = Krotov(3.0).train(np.split(x, 3), kernel, 0.01)
        after = []
        for seed in (6, 7):
            model = self.joint(kernel, readout)
            model.compile(keras.optimizers.SGD(0.01), "mse", **compile_options())
            model.fit(x, probe((36, 2), seed), batch_size=12, shuffle=False, verbose=0)
            after.append(weights_of(model))
            assert_close(after[-1][0], expected, 1e-6)
            assert_close(after[-1][0] - kernel, expected - kernel, 1e-4)
        np.testing.assert_array_equal(after[0][0], after[1][0])
        assert np.any(after[0][1] != after[1][1])

    def test_readout_follows_its_loss(self) -> None:
        """One step of the readout is the gradient at the features before the step."""
        x, kernel = problem(units=8)
        readout, targets = 0.1 * probe((8, 2), 5), probe((12, 2), 6)
        model = self.joint(kernel, readout)
        model.compile(keras.optimizers.SGD(0.01), "mse", **compile_options())
        model.fit(x, targets, batch_size=12, verbose=0)
        features = x.astype("float64") @ kernel
        gradient = 2.0 * features.T @ (features @ readout - targets) / targets.size
        assert_close(array(model.layers[1].kernel) - readout, -0.01 * gradient, 1e-5)

    @pytest.mark.slow
    def test_loss_falls(self) -> None:
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 3, 240)
        centres = rng.random((3, 20))
        x = (centres[labels] + 0.2 * rng.random((240, 20))).astype("float32")
        start = keras.initializers.RandomUniform(0, 1, seed=1)
        model = keras.Sequential(
            [
                keras.Input((20,)),
                layers.HebbianDense(12, "krotov_hopfield", kernel_initializer=start),
                keras.layers.Dense(3),
            ]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.05), loss, metrics=["accuracy"], **compile_options())
        history = model.fit(x, labels, batch_size=24, epochs=25, verbose=0).history
        assert history["accuracy"][0] < 0.6
        assert history["accuracy"][-1] > 0.9
        norms = np.sum(array(model.layers[0].kernel) ** 2, axis=0)
        assert np.median(norms) < 2.0, "from 20/3 towards the sphere"

    def test_errors_pass_through_to_the_layers_below(self) -> None:
        """Below, the gradient is that of a dense layer; the change of the rule stays inside."""
        x, kernel = problem(units=8, inputs=6)
        below = probe((5, 6), 3)
        plastic = layers.HebbianDense(8)
        stock = keras.layers.Dense(8, use_bias=False)
        stock.trainable = False
        results = []
        for middle in (plastic, stock):
            model = keras.Sequential(
                [keras.Input((5,)), keras.layers.Dense(6, use_bias=False), middle]
            )
            model.layers[0].kernel.assign(below)
            middle.kernel.assign(kernel)
            gradients, error = model_gradients(
                model, x[:, :5].copy(), lambda outputs: keras.ops.sum(outputs * outputs)
            )
            results.append((gradients["0:kernel"], error))
        (changed, error), (expected, expected_error) = results
        assert_close(changed, expected, 1e-6)
        assert_close(error, expected_error, 1e-6)

    def test_gradient_is_minus_the_update(self) -> None:
        """Whatever the loss above: its error does not enter."""
        x, kernel = problem(units=8)
        model = hebbian(kernel, KrotovHopfield(3.0, rank=3))
        gradients, _ = model_gradients(model, x, lambda outputs: keras.ops.sum(outputs * outputs))
        change = Krotov(3.0, rank=3).change(x, kernel)
        assert_close(gradients["0:kernel"], -change / np.max(np.abs(change)), 2e-6)


MODES: dict[str, dict[str, Any]] = {"eager": {"run_eagerly": True}, "xla": {"jit_compile": True}}


class TestModes:
    @pytest.mark.parametrize("p", [2.0, 3.0])
    @pytest.mark.parametrize("mode", MODES)
    def test_equal_to_the_graph(self, mode: str, p: float) -> None:
        if BACKEND == "torch" and mode == "xla":
            pytest.skip("torch.compile is not XLA")
        x, kernel = problem(units=15, batch=36)
        after = []
        for options in ({}, MODES[mode]):
            model = hebbian(kernel, KrotovHopfield(p, rank=7))
            # Else Keras compiles no model with this layer, whatever it is told.
            model.layers[0].supports_jit = True
            fit_steps(model, x, 0.1, 12, **options)
            after.append(array(model.layers[0].kernel))
        assert np.max(np.abs(after[0] - kernel)) > 0.1
        assert_close(after[1], after[0].astype("float64"), 5e-7)

    @tensorflow_only
    def test_xla_needs_to_be_allowed(self) -> None:
        model = hebbian(probe((5, 4)), "krotov_hopfield")
        with pytest.warns(UserWarning, match="Model doesn't support"):
            model.compile("sgd", jit_compile=True)
        assert not model.jit_compile
        model.layers[0].supports_jit = True
        model.compile("sgd", jit_compile=True)
        assert model.jit_compile

    @tensorflow_only
    def test_automatic_is_a_plain_graph(self) -> None:
        model = hebbian(probe((5, 4)), "krotov_hopfield")
        model.compile("sgd")
        assert model.jit_compile is False

    # A half-precision input is rounded: by 2^-11 (float16), 2^-8 (bfloat16).
    @pytest.mark.parametrize(
        ("policy", "tolerance"), [("mixed_float16", 1e-4), ("mixed_bfloat16", 3e-3)]
    )
    def test_mixed_precision(self, policy: str, tolerance: float) -> None:
        x, kernel = problem(units=15)
        # Two bits less than the inputs have: the ranks must not depend on the rounding.
        assert Krotov(3.0).closest_rivals(x, kernel) > 1e-3
        keras.config.set_dtype_policy(policy)
        try:
            model = hebbian(kernel, KrotovHopfield(3.0))
            fit_steps(model, x, 0.5, len(x))
        finally:
            keras.config.set_dtype_policy("float32")
        layer = model.layers[0]
        assert keras.backend.standardize_dtype(layer.kernel.dtype) == "float32"
        outputs = model(x)
        assert keras.backend.standardize_dtype(outputs.dtype) == policy.removeprefix("mixed_")
        after = array(layer.kernel)
        assert np.isfinite(after).all()
        assert_close(after, Krotov(3.0).step(x, kernel, 0.5), tolerance)
        # The inputs are rounded, and nothing else is.
        rounded = array(keras.ops.cast(keras.ops.cast(x, outputs.dtype), "float32"))
        assert_close(after, Krotov(3.0).step(rounded, kernel, 0.5), 1e-6)


class TestSaving:
    @staticmethod
    def model() -> keras.Model:
        rule = KrotovHopfield(3.0, rank=3, delta=0.2, reduction=plasticity.Mean())
        model = keras.Sequential(
            [
                keras.Input((9,)),
                layers.HebbianDense(7, rule, activation=RePU(2.0), name="plastic"),
                keras.layers.Dense(2),
            ]
        )
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse", **compile_options())
        return model

    def test_training_continues_as_if_nothing_had_happened(self, tmp_path: Path) -> None:
        x, y = probe((24, 9)), probe((24, 2), 1)
        model = self.model()
        before = array(model.layers[0].kernel)
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
        model.save(tmp_path / "model.keras")
        restored = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(array(restored(x)), array(model(x)))
        for one in (model, restored):
            one.fit(x, y, batch_size=8, shuffle=False, verbose=0)
        for one, other in zip(weights_of(model), weights_of(restored), strict=True):
            np.testing.assert_array_equal(one, other)
        assert np.max(np.abs(array(restored.layers[0].kernel) - before)) > 0.05
        assert type(restored.layers[0]) is layers.HebbianDense
        assert restored.layers[0].plasticity.get_config() == (
            model.layers[0].plasticity.get_config()
        )

    def test_weights_file(self, tmp_path: Path) -> None:
        model, other = self.model(), self.model()
        assert np.any(array(model.layers[0].kernel) != array(other.layers[0].kernel))
        model.save_weights(tmp_path / "model.weights.h5")
        other.load_weights(tmp_path / "model.weights.h5")
        for one, two in zip(weights_of(model), weights_of(other), strict=True):
            np.testing.assert_array_equal(one, two)

    def test_config(self) -> None:
        layer = layers.HebbianDense(
            7,
            KrotovHopfield(3.0, rank=3),
            activation="relu",
            kernel_initializer=keras.initializers.RandomUniform(0, 1, seed=4),
            name="plastic",
        )
        config = layer.get_config()
        copy = layers.HebbianDense.from_config(config)
        assert copy.get_config() == config
        assert (copy.units, copy.name, copy.plasticity.p, copy.plasticity.rank) == (
            7,
            "plastic",
            3.0,
            3,
        )
        layer.build((None, 5))
        copy.build((None, 5))
        np.testing.assert_array_equal(array(copy.kernel), array(layer.kernel))
        assert copy.activation is keras.activations.relu


class TestBadInput:
    @pytest.mark.parametrize("units", [0, -1, 2.5, "8", None, True])
    def test_units(self, units: Any) -> None:
        with pytest.raises(ValueError, match=r"`units` must be an integer.*Received") as error:
            layers.HebbianDense(units)
        assert repr(units) in str(error.value)

    def test_rule(self) -> None:
        with pytest.raises(ValueError, match=r"plasticity.*Received: plasticity='hebbian'"):
            layers.HebbianDense(4, "hebbian")

    def test_rank_above_units(self) -> None:
        with pytest.raises(ValueError, match=r"`rank`.*units=6.*Received: rank=7"):
            layers.HebbianDense(6, KrotovHopfield(rank=7))
        with pytest.raises(ValueError, match=r"`rank`.*units=1.*Received: rank=2"):
            layers.HebbianDense(1)

    def test_undefined_width(self) -> None:
        with pytest.raises(ValueError, match=r"last axis.*Received.*None"):
            layers.HebbianDense(4)(keras.Input((None,)))

    def test_wrong_inputs(self) -> None:
        layer = layers.HebbianDense(4)
        layer.build((None, 30))
        for shape in ((12, 29), (12,)):
            with pytest.raises(ValueError, match=rf"hebbian_dense.*{shape[-1]}"):
                layer(probe(shape))

    def test_fit_with_wrong_inputs(self) -> None:
        x, kernel = problem(units=8)
        model = hebbian(kernel, "krotov_hopfield")
        model.compile(keras.optimizers.SGD(0.1), "mse", **compile_options())
        with pytest.raises(ValueError, match=r"30.*29"):
            model.fit(x[:, :29], np.zeros((12, 8)), batch_size=12, verbose=0)
        np.testing.assert_array_equal(array(model.layers[0].kernel), kernel)
