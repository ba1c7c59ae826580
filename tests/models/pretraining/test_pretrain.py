"""Greedy pretraining: the steps of the rule, the order of the layers, the frame of `fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers, plasticity
from keras_local.models import pretrain
from keras_local.plasticity import KrotovHopfield
from tests.models.pretraining.support import dataset, kernel_of
from tests.oracles_plasticity import Krotov
from tests.plasticity.encoders import CLEAR, assert_close, hebbian, krotov, problem
from tests.support import BACKEND, array, compile_options, probe, weights_of

pytestmark = [
    pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.data, sparse gradients"),
    # Runs as short as these converge nowhere.
    pytest.mark.filterwarnings("ignore:Only .* have converged"),
]

CASES = [
    pytest.param(Krotov(p, rank), units, id=f"p{p:g}-rank{rank}-units{units}")
    for p in (2.0, 3.0, 4.5)
    for rank in (2, 7)
    for units in (40, 700)
]


class TestSteps:
    @pytest.mark.few(4, rest="thorough")
    @pytest.mark.parametrize(("oracle", "units"), CASES)
    def test_one_step(self, oracle: Krotov, units: int) -> None:
        x, kernel = problem(units)
        assert oracle.closest_rivals(x, kernel) > CLEAR
        model = hebbian(kernel, krotov(oracle))
        pretrain(model, x, epochs=1, batch_size=len(x), step_size=0.5, verbose=0)
        assert_close(kernel_of(model), oracle.step(x, kernel, 0.5), 1e-6)
        assert np.max(np.abs(kernel_of(model) - kernel)) == pytest.approx(0.5, rel=1e-4)

    @pytest.mark.parametrize("p", [2.0, 3.0, 4.5])
    def test_epochs_of_falling_step_size(self, p: float) -> None:
        """In double precision, so that rounding hides nothing."""
        oracle = Krotov(p, rank=3)
        x, kernel = problem(units=15, batch=36)
        model = hebbian(kernel, krotov(oracle), dtype="float64")
        # The optimizer keeps its step size in float32: these four are exact.
        pretrain(model, dataset(x), epochs=4, batch_size=12, step_size=0.5, verbose=0)
        expected = oracle.epochs(np.split(x, 3), kernel, 0.5, epochs=4)
        assert_close(kernel_of(model), expected, 1e-12)

    @pytest.mark.parametrize("p", [2.0, 3.0])
    def test_several_steps_in_single_precision(self, p: float) -> None:
        oracle = Krotov(p, rank=3)
        x, kernel = problem(units=15, batch=36)
        model = hebbian(kernel, krotov(oracle))
        pretrain(model, dataset(x), epochs=2, batch_size=12, step_size=0.1, verbose=0)
        assert_close(kernel_of(model), oracle.epochs(np.split(x, 3), kernel, 0.1, 2), 2e-6)

    def test_constant_rate(self) -> None:
        rule = KrotovHopfield(rate=plasticity.ConstantRate())
        x, kernel = problem(units=15, batch=24)
        model = hebbian(kernel, rule, dtype="float64")
        pretrain(model, dataset(x), epochs=2, batch_size=12, step_size=0.25, verbose=0)
        expected = Krotov().train([*np.split(x, 2)] * 2, kernel, 0.25)
        assert_close(kernel_of(model), expected, 1e-12)

    def test_a_rule_in_which_every_unit_learns(self) -> None:
        """No number of active units: the layer itself is trained."""
        x, kernel = problem(units=5, batch=12)
        kernel *= 0.3
        model = hebbian(kernel, Oja())
        pretrain(model, x, epochs=1, batch_size=12, step_size=0.1, verbose=0)
        post = x.astype("float64") @ kernel
        change = x.T @ post - kernel * np.sum(post**2, axis=0)
        assert_close(kernel_of(model), kernel + 0.1 * change / np.max(np.abs(change)), 1e-6)

    def test_positions_are_samples(self) -> None:
        x, kernel = problem(units=8, batch=12)
        layer = layers.HebbianDense(8)
        model = keras.Sequential([keras.Input((4, 30)), layer])
        layer.kernel.assign(kernel)
        data = dataset(x.reshape(3, 4, 30))
        pretrain(model, data, epochs=1, batch_size=3, step_size=0.1, verbose=0)
        assert_close(kernel_of(model), Krotov().step(x, kernel, 0.1), 1e-6)

    @pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
    def test_mixed_precision(self, policy: str) -> None:
        """Only the inputs are rounded; kernel and learning stay in float32."""
        x, kernel = problem(units=15)
        half = policy.removeprefix("mixed_")
        rounded = array(keras.ops.cast(keras.ops.cast(x, half), "float32"))
        assert Krotov(3.0).closest_rivals(rounded, kernel) > CLEAR
        keras.config.set_dtype_policy(policy)
        try:
            model = hebbian(kernel, KrotovHopfield(3.0))
            pretrain(model, x, epochs=1, batch_size=len(x), step_size=0.5, verbose=0)
        finally:
            keras.config.set_dtype_policy("float32")
        assert kernel_of(model).dtype == "float32"
        assert model(x).dtype == half
        assert_close(kernel_of(model), Krotov(3.0).step(rounded, kernel, 0.5), 1e-6)


class Oja(plasticity.PlasticityRule):
    """A rule that ranks nothing and has no exponent: gains are the currents."""

    reduction = plasticity.Sum()
    normaliser = plasticity.MaxAbs()
    rate = plasticity.ConstantRate()

    def gains(self, post: Any) -> Any:
        return post


class TestData:
    def results(self, data: Any, **options: Any) -> np.ndarray:
        model = hebbian(probe((30, 15), 1), KrotovHopfield(3.0))
        arguments = {"epochs": 2, "batch_size": 8, "step_size": 0.2, "verbose": 0, **options}
        pretrain(model, data, **arguments)
        return kernel_of(model)

    def test_every_form_of_a_dataset(self) -> None:
        """Single samples, batches of another size, labels of any kind."""
        x = probe((29, 30))  # The last five fill no batch.
        rng = np.random.default_rng(0)
        expected = self.results(dataset(x[:24]))
        assert np.max(np.abs(expected - probe((30, 15), 1))) > 0.2
        words = rng.choice(["a", "b"], 29)
        for data in (
            dataset(x),
            dataset(x, batch=8),
            dataset(x, batch=5),
            dataset(x, rng.integers(0, 9, 29)),
            dataset(x, words, batch=8),
            dataset(x, np.full((29, 2), np.nan), batch=29),
            dataset(x, words, np.full(29, np.inf)),
        ):
            np.testing.assert_array_equal(self.results(data), expected)

    def test_arrays_are_shuffled(self) -> None:
        """The order of an array is another one for each seed; that of a dataset stays."""
        x = probe((24, 30))
        results = []
        for seed in (1, 1, 2):
            keras.utils.set_random_seed(seed)
            results.append(self.results(x))
        np.testing.assert_array_equal(results[0], results[1])
        assert np.max(np.abs(results[0] - results[2])) > 1e-3

    @pytest.mark.parametrize("dtype", ["float64", "float16", "uint8", "int32", "bool"])
    def test_types_of_arrays(self, dtype: str) -> None:
        x = np.random.default_rng(0).integers(0, 2, (24, 30)).astype(dtype)
        expected = self.results(x.astype("float32"), batch_size=24)
        assert np.max(np.abs(expected - probe((30, 15), 1))) > 0.2
        assert_close(self.results(x, batch_size=24), expected.astype("float64"), 1e-5)

    def test_samples_that_fill_no_batch_are_left_out(self) -> None:
        steps: list[int] = []
        count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda b, logs: steps.append(b))
        self.results(probe((23, 30)), callbacks=[count])
        assert steps == [0, 1] * 2

    def test_the_rest_is_another_one_in_each_epoch(self) -> None:
        """Shuffled first, then cut: each sample has its turn."""
        x = np.concatenate([np.zeros((8, 30), "float32"), probe((7, 30))])
        assert np.any(self.results(x, epochs=20) != probe((30, 15), 1))

    def test_image_shaped_inputs(self) -> None:
        x, kernel = problem(units=15)
        plain = hebbian(kernel, KrotovHopfield())
        pretrain(plain, x, epochs=1, batch_size=12, verbose=0)
        layer = layers.HebbianDense(15)
        model = keras.Sequential([keras.Input((5, 6, 1)), keras.layers.Flatten(), layer])
        layer.kernel.assign(kernel)
        pretrain(model, x.reshape(12, 5, 6, 1), epochs=1, batch_size=12, verbose=0)
        assert_close(array(layer.kernel), kernel_of(plain).astype("float64"), 1e-6)
        assert np.any(array(layer.kernel) != kernel)


class TestStack:
    """The second layer learns from what the trained first one sends up."""

    steps: dict[str, Any] = {"epochs": 2, "batch_size": 12, "step_size": 0.25, "verbose": 0}  # noqa: RUF012

    def setup_method(self) -> None:
        self.x, self.below = problem(units=15, batch=36)
        self.above = probe((15, 8), 3)

    def encoder(self, dtype: str = "float64") -> keras.Sequential:
        model = keras.Sequential(
            [
                keras.Input((30,), dtype=dtype),
                layers.HebbianDense(15, KrotovHopfield(3.0), "tanh", name="below", dtype=dtype),
                keras.layers.Rescaling(2.0, name="between", dtype=dtype),
                layers.HebbianDense(8, KrotovHopfield(2.0, 3), name="above", dtype=dtype),
            ]
        )
        model.layers[0].kernel.assign(self.below)
        model.layers[2].kernel.assign(self.above)
        return model

    def expected(self) -> tuple[np.ndarray, np.ndarray]:
        batches = np.split(self.x, 3)
        below = Krotov(3.0).epochs(batches, self.below, 0.25, 2)
        between = [2.0 * np.tanh(batch @ below) for batch in batches]
        return below, Krotov(2.0, 3).epochs(between, self.above, 0.25, 2)

    def test_second_layer_learns_from_the_first(self) -> None:
        model = self.encoder()
        histories = pretrain(model, dataset(self.x), **self.steps)
        assert list(histories) == ["below", "above"]
        below, above = self.expected()
        assert_close(array(model.get_layer("below").kernel), below, 1e-12)
        # `fit` takes the features in float32.
        assert_close(array(model.get_layer("above").kernel), above, 2e-8)
        assert np.max(np.abs(above - self.above)) > 0.2

    def test_arrays(self) -> None:
        """One batch holds all samples, so that the order does not matter."""
        model = self.encoder("float32")
        pretrain(model, self.x, epochs=1, batch_size=36, step_size=0.2, verbose=0)
        below = Krotov(3.0).step(self.x, self.below, 0.2)
        assert_close(kernel_of(model, 0), below, 1e-6)
        above = Krotov(2.0, 3).step(2.0 * np.tanh(self.x @ below), self.above, 0.2)
        assert_close(kernel_of(model, 2), above, 1e-5)

    def test_only_one_layer_moves_at_a_time(self) -> None:
        model = self.encoder()
        seen: list[list[np.ndarray]] = []
        look = keras.callbacks.LambdaCallback(
            on_train_begin=lambda logs: seen.append(weights_of(model)),
            on_epoch_end=lambda epoch, logs: seen.append(weights_of(model)),
        )
        pretrain(model, dataset(self.x), callbacks=[look], **self.steps)
        first = [weights[0] for weights in seen]
        second = [weights[1] for weights in seen]
        assert len(seen) == 6
        # begin, epoch, epoch of the first layer, then the same of the second
        assert np.any(first[0] != first[1])
        assert np.any(first[1] != first[2])
        for index in (3, 4, 5):
            np.testing.assert_array_equal(first[index], first[2])
        for index in (1, 2, 3):
            np.testing.assert_array_equal(second[index], second[0])
        assert np.any(second[4] != second[3])
        assert np.any(second[5] != second[4])

    def test_frozen_layer_is_passed_over(self) -> None:
        model = self.encoder()
        model.get_layer("below").trainable = False
        histories = pretrain(model, dataset(self.x), **self.steps)
        assert list(histories) == ["above"]
        np.testing.assert_array_equal(kernel_of(model, 0), self.below)
        between = [2.0 * np.tanh(b.astype("float64") @ self.below) for b in np.split(self.x, 3)]
        expected = Krotov(2.0, 3).epochs(between, self.above, 0.25, 2)
        assert_close(kernel_of(model, 2), expected, 2e-8)

    def test_functional_encoder(self) -> None:
        """A branch that is not below a layer plays no part in its pretraining."""
        inputs = keras.Input((30,))
        below = layers.HebbianDense(15, KrotovHopfield(3.0), name="below")
        side = keras.layers.Dense(3)(inputs)
        outputs = keras.layers.Concatenate()([below(inputs), side])
        model = keras.Model(inputs, outputs)
        below.kernel.assign(self.below)
        before = weights_of(model)
        pretrain(model, self.x, epochs=1, batch_size=36, step_size=0.2, verbose=0)
        after = weights_of(model)
        assert_close(after[0], Krotov(3.0).step(self.x, self.below, 0.2), 1e-6)
        for one, other in zip(before[1:], after[1:], strict=True):
            np.testing.assert_array_equal(one, other)


class TestFrame:
    """What belongs to `fit`: history, callbacks, progress, interruption."""

    def setup_method(self) -> None:
        self.x, self.kernel = problem(units=15, batch=24)
        self.model = hebbian(self.kernel, KrotovHopfield(3.0), name="plastic")

    def run(self, **options: Any) -> keras.callbacks.History:
        arguments = {"epochs": 4, "batch_size": 8, "step_size": 0.2, "verbose": 0, **options}
        return pretrain(self.model, dataset(self.x), **arguments)["plastic"]

    def test_history(self) -> None:
        norms, converged = [], []

        def look(epoch: int, logs: Any) -> None:
            kernel = kernel_of(self.model).astype("float64")
            norms.append(np.mean(np.sum(np.abs(kernel) ** 3, axis=0)))
            converged.append(np.mean(np.abs(np.sum(np.abs(kernel) ** 3, axis=0) - 1) < 0.1))

        history = self.run(callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=look)])
        assert isinstance(history, keras.callbacks.History)
        assert history.epoch == [0, 1, 2, 3]
        assert set(history.history) == {"mean_norm", "converged"}
        np.testing.assert_allclose(history.history["mean_norm"], norms, rtol=1e-6)
        np.testing.assert_allclose(history.history["converged"], converged, rtol=1e-6)
        assert len(set(norms)) == 4

    def test_report(self) -> None:
        report = self.run().report
        currents = Krotov(3.0).currents(self.x, kernel_of(self.model))
        won = len(set(np.argmax(currents, axis=1))) / 15
        assert 0.0 < won < 1.0
        assert report["won"] == pytest.approx(won)
        assert report["dead"] == pytest.approx(1.0 - won)
        norms = np.sum(np.abs(kernel_of(self.model).astype("float64")) ** 3, axis=0)
        assert report["mean_norm"] == pytest.approx(norms.mean(), rel=1e-6)
        assert report["converged"] == pytest.approx(np.mean(np.abs(norms - 1.0) < 0.1))

    def test_report_of_an_array(self) -> None:
        pair = [hebbian(self.kernel, KrotovHopfield(3.0), name="plastic") for _ in range(2)]
        reports = [
            pretrain(model, data, epochs=1, batch_size=24, verbose=0)["plastic"].report
            for model, data in zip(pair, (self.x, dataset(self.x)), strict=True)
        ]
        assert reports[0] == pytest.approx(reports[1], rel=1e-5)

    def test_a_rule_without_an_exponent_has_no_report(self) -> None:
        model = hebbian(0.3 * self.kernel, Oja(), name="oja")
        history = pretrain(model, self.x, epochs=2, batch_size=24, verbose=0)["oja"]
        assert history.report == {}
        assert history.epoch == [0, 1]

    @pytest.mark.parametrize(
        ("rate", "expected"),
        [
            (plasticity.LinearDecay(), [0.2, 0.15, 0.1, 0.05]),
            (plasticity.ConstantRate(), [0.2] * 4),
            (plasticity.NormDistance(), [0.2] * 4),
        ],
    )
    def test_step_sizes(self, rate: plasticity.RatePolicy, expected: list[float]) -> None:
        """As the callbacks of the user see them while the batches run."""
        self.model = hebbian(self.kernel, KrotovHopfield(3.0, rate=rate), name="plastic")
        seen: list[float] = []

        class Look(keras.callbacks.Callback):
            def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
                if batch == 1:
                    seen.append(float(array(self.model.optimizer.learning_rate)))

        self.run(callbacks=[Look()])
        np.testing.assert_allclose(seen, expected, rtol=1e-6)

    def test_largest_change_of_each_step_is_its_step_size(self) -> None:
        sizes: list[float] = []
        before = self.kernel
        model = self.model

        class Look(keras.callbacks.Callback):
            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                nonlocal before
                after = kernel_of(model)
                sizes.append(float(np.max(np.abs(after - before))))
                before = after

        pretrain(model, self.x, 4, batch_size=24, step_size=0.2, verbose=0, callbacks=[Look()])
        np.testing.assert_allclose(sizes, [0.2, 0.15, 0.1, 0.05], rtol=1e-4)

    @pytest.mark.parametrize("samples", [72, 66])
    def test_many_steps_in_one_call_are_those_of_single_calls(self, samples: int) -> None:
        class Watching(keras.callbacks.Callback):
            calls = 0

            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                self.calls += 1

        x, kernel = problem(units=15, batch=samples)
        ends = {}
        for watching in (Watching(), None):
            keras.utils.set_random_seed(3)
            model = hebbian(kernel, KrotovHopfield())
            callbacks = [watching] if watching else []
            pretrain(model, x, 2, batch_size=4, step_size=0.1, verbose=0, callbacks=callbacks)
            ends[watching is None] = kernel_of(model)
            if watching:
                assert watching.calls == 2 * (samples // 4)
        np.testing.assert_array_equal(ends[True], ends[False])
        assert np.abs(ends[True] - kernel).max() > 0.1

    def test_early_stopping(self) -> None:
        """It sees what the trainer logs; later steps do not happen."""
        stop = keras.callbacks.EarlyStopping("mean_norm", min_delta=1e9, patience=1, mode="min")
        history = self.run(callbacks=[stop], epochs=6)
        assert history.epoch == [0, 1]
        decay = [1.0, 1.0 - 1.0 / 6.0]
        expected = self.kernel.astype("float64")
        for factor in decay:
            expected = Krotov(3.0).train(np.split(self.x, 3), expected, 0.2 * factor)
        assert_close(kernel_of(self.model), expected, 2e-6)

    def test_progress_and_report_are_printed(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.run(verbose=0)
        assert capsys.readouterr().out == ""
        self.run(verbose=2)
        printed = capsys.readouterr().out
        assert "Epoch 4/4" in printed
        assert "converged" in printed.splitlines()[-1]
        assert "plastic: of 15 units" in printed.splitlines()[-1]

    def test_interruption_keeps_what_was_learned(self) -> None:
        class Stop(keras.callbacks.Callback):
            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                if batch == 1:
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.run(callbacks=[Stop()])
        expected = Krotov(3.0).train(np.split(self.x, 3)[:2], self.kernel, 0.2)
        assert_close(kernel_of(self.model), expected, 2e-6)
        self.run(epochs=1)  # And on it goes.
        assert_close(
            kernel_of(self.model), Krotov(3.0).train(np.split(self.x, 3), expected, 0.2), 1e-5
        )

    def test_resuming_from_a_directory(self, tmp_path: Path) -> None:
        """Interrupted in epoch 3 of 6 and begun anew, it ends where it would have ended."""
        self.run(epochs=6)
        expected = kernel_of(self.model)

        class Stop(keras.callbacks.Callback):
            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                if epoch == 2:
                    raise KeyboardInterrupt

        epochs: list[int] = []
        count = keras.callbacks.LambdaCallback(on_epoch_begin=lambda e, logs: epochs.append(e))
        for callbacks in ([Stop()], [count]):
            self.model = hebbian(self.kernel, KrotovHopfield(3.0), name="plastic")
            try:
                self.run(epochs=6, callbacks=callbacks, resume_from=tmp_path)
            except KeyboardInterrupt:
                assert np.any(kernel_of(self.model) != expected)
        assert epochs == [2, 3, 4, 5]  # What callbacks do at the end of an epoch belongs to it.
        np.testing.assert_array_equal(kernel_of(self.model), expected)
        assert np.any(expected != self.kernel)

    def test_the_encoder_is_otherwise_left_alone(self) -> None:
        self.model.compile("adam", "mse", **compile_options())
        optimizer = self.model.optimizer
        config = self.model.get_config()
        self.run()
        assert self.model.optimizer is optimizer
        assert self.model.get_config() == config
        assert len(self.model.weights) == 1
        kernel = kernel_of(self.model).astype("float64")
        assert_close(self.model.predict(self.x, verbose=0), self.x @ kernel, 1e-6)

    def test_again(self) -> None:
        """A second pretraining goes on from the first."""
        self.run(epochs=1)
        self.run(epochs=1)
        expected = Krotov(3.0).train([*np.split(self.x, 3)] * 2, self.kernel, 0.2)
        assert_close(kernel_of(self.model), expected, 2e-6)
