"""Convolutions and locally connected layers that learn by a rule, beside the dense layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers, plasticity
from keras_local.activations import RePU, Triangle
from keras_local.metrics import convergence_report, win_counts
from keras_local.models import to_plain
from tests import oracles_hebbian as oracle
from tests.plasticity.encoders import assert_close, fit_steps
from tests.support import (
    BACKEND,
    array,
    compile_options,
    model_gradients,
    probe,
    tensorflow_only,
    weights_of,
)

MAKERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "dense": (lambda **o: layers.HebbianDense(4, **o), (9,)),
    "conv1d": (lambda **o: layers.HebbianConv1D(4, 3, padding="reflect", **o), (7, 2)),
    "conv2d": (lambda **o: layers.HebbianConv2D(4, 3, 2, "same", **o), (7, 6, 2)),
    "unit patches": (
        lambda **o: layers.HebbianConv2D(4, 3, padding="reflect", patch_norm=True, **o),
        (7, 6, 2),
    ),
    "local2d": (lambda **o: layers.HebbianLocallyConnected2D(4, 3, 2, "same", **o), (7, 6, 2)),
}
KINDS = pytest.mark.parametrize("kind", MAKERS)
SOFT = plasticity.SoftHebb(1.0)


def model_of(kind: str, *above: keras.layers.Layer, **options: Any) -> keras.Sequential:
    make, shape = MAKERS[kind]
    options = {"plasticity": SOFT, **options}
    return keras.Sequential([keras.Input(shape), make(**options), *above])


def data_of(kind: str, batch: int = 8) -> np.ndarray:
    return probe((batch, *MAKERS[kind][1]))


def head() -> list[keras.layers.Layer]:
    return [keras.layers.Flatten(), keras.layers.Dense(3)]


@KINDS
class TestRates:
    """What the rule and what all other losses say to the kernel, in which shares."""

    def gradients(self, kind: str, **options: Any) -> tuple[np.ndarray, np.ndarray]:
        model = model_of(kind, activation="tanh", **options)
        model.layers[0].kernel.assign(0.5 * probe(model.layers[0].kernel.shape, 1))
        found, error = model_gradients(
            model, data_of(kind), lambda outputs: keras.ops.sum(keras.ops.square(outputs))
        )
        return found["0:kernel"], error

    def test_shares(self, kind: str) -> None:
        local, error = self.gradients(kind)
        both, same = self.gradients(kind, local_rate=0.5, global_rate=2.0)
        true, _ = self.gradients(kind, local_rate=0.0, global_rate=1.0)
        assert np.max(np.abs(true)) > 0.1
        assert np.max(np.abs(local)) > 0.1
        assert_close(both, 0.5 * local.astype("float64") + 2.0 * true, 1e-5)
        assert_close(same, error.astype("float64"), 1e-6)
        nothing, _ = self.gradients(kind, local_rate=0.0)
        assert not np.any(nothing)

    def test_the_true_gradient_is_that_of_the_plain_model(self, kind: str) -> None:
        model = model_of(kind, activation="tanh", local_rate=0.0, global_rate=1.0)
        plain = to_plain(model)
        loss = lambda outputs: keras.ops.sum(keras.ops.square(outputs))  # noqa: E731
        (ours,) = model_gradients(model, data_of(kind), loss)[0].values()
        theirs = model_gradients(plain, data_of(kind), loss)[0]
        (theirs,) = (value for name, value in theirs.items() if name.endswith("kernel"))
        assert_close(ours, theirs.reshape(ours.shape).astype("float64"), 1e-5)

    def test_bad_rates(self, kind: str) -> None:
        for name in ("local_rate", "global_rate"):
            with pytest.raises(ValueError, match=f"`{name}` must be.*Received"):
                MAKERS[kind][0](**{name: -0.1})


@KINDS
class TestForm:
    def test_to_plain(self, kind: str, tmp_path: Path) -> None:
        model = model_of(kind, *head(), activation=RePU(3.0))
        plain = to_plain(model)
        modules = {type(layer).__module__.split(".")[0] for layer in plain.layers}
        assert modules == {"keras"}
        x = data_of(kind)
        expected = model.predict(x, verbose=0)
        np.testing.assert_allclose(plain.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-5)
        plain.save(tmp_path / "plain.keras")
        restored = keras.saving.load_model(tmp_path / "plain.keras")
        np.testing.assert_array_equal(restored.predict(x, verbose=0), plain.predict(x, verbose=0))

    def test_saved_training_continues(self, kind: str, tmp_path: Path) -> None:
        """With a rule that has a memory."""
        model = model_of(kind, plasticity=plasticity.BCM(), name="plastic")
        fit_steps(model, data_of(kind), 0.01, 4)
        memory = array(model.layers[0].weights[1])
        assert np.all(memory != 1.0), "the threshold moves"
        model.save(tmp_path / "model.keras")
        restored = keras.saving.load_model(tmp_path / "model.keras")
        assert restored.layers[0].get_config() == model.layers[0].get_config()
        for each in (model, restored):
            # The file does not keep it: on TensorFlow a plain graph, elsewhere the default.
            each.jit_compile = BACKEND == "jax"
            each.fit(data_of(kind), batch_size=4, shuffle=False, verbose=0)
        for ours, theirs in zip(weights_of(model), weights_of(restored), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert np.any(array(model.layers[0].weights[1]) != memory)

    def test_memory_moves_in_training_only(self, kind: str) -> None:
        model = model_of(kind, plasticity=plasticity.BCM())
        before = weights_of(model)
        model.predict(data_of(kind), verbose=0)
        model(data_of(kind))
        model.layers[0].trainable = False
        model(data_of(kind), training=True)
        for one, other in zip(before, weights_of(model), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_half_precision(self, kind: str) -> None:
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            model = model_of(kind)
        finally:
            keras.config.set_dtype_policy("float32")
        single = model_of(kind)
        kernel = 0.5 * probe(model.layers[0].kernel.shape, 1)
        x = data_of(kind)
        x = array(keras.ops.cast(keras.ops.cast(x, "bfloat16"), "float32"))
        for each in (model, single):
            each.layers[0].kernel.assign(kernel)
            fit_steps(each, x, 0.1, 8)
        assert array(model.layers[0].kernel).dtype == "float32"
        moved, expected = (array(each.layers[0].kernel) - kernel for each in (model, single))
        assert np.max(np.abs(expected)) > 0.01
        assert_close(moved, expected.astype("float64"), 1e-4)
        assert keras.backend.standardize_dtype(model(x).dtype) == "bfloat16"

    @tensorflow_only
    def test_eager_and_compiled(self, kind: str) -> None:
        x, results = data_of(kind), []
        for options in ({}, {"run_eagerly": True}, {"jit_compile": True}):
            model = model_of(kind, plasticity=plasticity.BCM())
            model.layers[0].supports_jit = True
            model.layers[0].kernel.assign(0.5 * probe(model.layers[0].kernel.shape, 1))
            fit_steps(model, x, 0.1, 4, **options)
            results.append(weights_of(model))
        for other in results[1:]:
            for ours, theirs in zip(results[0], other, strict=True):
                assert_close(theirs, ours.astype("float64"), 2e-6)


class TestModulator:
    @KINDS
    def test_one_is_the_rule_and_zero_is_rest(self, kind: str) -> None:
        x, kernel = data_of(kind), None
        results = []
        for factor in (None, 1.0, 0.0):
            make, shape = MAKERS[kind]
            inputs, reward = keras.Input(shape), keras.Input(())
            layer = make(plasticity=SOFT)
            model = keras.Model(
                [inputs, reward],
                layer(inputs) if factor is None else layer(inputs, modulator=reward),
            )
            kernel = 0.5 * probe(layer.kernel.shape, 1)
            layer.kernel.assign(kernel)
            model.compile(keras.optimizers.SGD(0.1), **compile_options())
            rewards = np.full(len(x), factor or 0.0, "float32")
            model.fit([x, rewards], batch_size=len(x), verbose=0)
            results.append(array(layer.kernel))
        # Compiled, a factor of one may round otherwise; the rule's own change is equal bit by bit.
        assert_close(results[0], results[1].astype("float64"), 1e-6)
        np.testing.assert_array_equal(results[2], kernel)
        assert np.any(results[0] != kernel)

    def test_each_sample_has_its_own(self) -> None:
        x, kernel = probe((6, 5)), probe((5, 3), 1)
        layer = layers.HebbianDense(3, plasticity.Hebb())
        layer.build((None, 5))
        layer.kernel.assign(kernel)
        rewards = probe((6,), 2)
        layer(x, modulator=rewards, training=True)
        tensor = keras.ops.convert_to_tensor
        update = layer.plasticity.update
        changed = array(update(tensor(x), tensor(kernel), modulator=tensor(rewards[:, None])))
        expected = x.T.astype("float64") @ (rewards[:, None] * (x @ kernel)) / 6
        assert_close(changed, expected, 1e-5)

    def test_too_many_axes(self) -> None:
        layer = layers.HebbianDense(3, plasticity.Hebb())
        with pytest.raises(ValueError, match=r"`modulator` must be.*Received"):
            layer(probe((6, 5)), modulator=probe((6, 1, 1)), training=True)


class TestUnitPatches:
    def test_contrast_does_not_matter(self) -> None:
        layer = layers.HebbianConv2D(4, 3, patch_norm=True, floor=1e-3, activation=RePU(40.0))
        x = np.abs(probe((2, 6, 6, 3)))
        outputs = array(layer(x))
        assert_close(array(layer(7.0 * x)), outputs.astype("float64"), 1e-4)
        assert np.max(outputs) > 0.0

    def test_shading_matters_less_than_in_a_plain_convolution(self) -> None:
        x = np.abs(probe((2, 12, 12, 3)))
        shade = np.linspace(0.5, 1.5, 12, dtype="float32")[:, None, None]
        changes = []
        for patch_norm in (True, False):
            layer = layers.HebbianConv2D(4, 3, patch_norm=patch_norm)
            layer.build(x.shape)
            layer.kernel.assign(probe((3, 3, 3, 4), 1))
            before, after = array(layer(x)), array(layer(shade * x))
            changes.append(np.linalg.norm(after - before) / np.linalg.norm(before))
        assert changes[0] < 0.4 * changes[1]

    def test_black_patches_give_zero(self) -> None:
        layer = layers.HebbianConv2D(4, 3, patch_norm=True)
        np.testing.assert_array_equal(array(layer(np.zeros((1, 5, 5, 3), "float32"))), 0.0)
        model = keras.Sequential([keras.Input((5, 5, 3)), layer])
        kernel = array(layer.kernel)
        fit_steps(model, np.zeros((2, 5, 5, 3), "float32"), 0.1, 2)
        np.testing.assert_array_equal(array(layer.kernel), kernel)


class TestReports:
    def test_wins_of_filters(self) -> None:
        images, kernel = probe((4, 6, 6, 3)), probe((3, 3, 3, 5), 1)
        images[0] = 0.0
        layer = layers.HebbianConv2D(5, 3, plasticity="krotov_hopfield")
        layer.build(images.shape)
        layer.kernel.assign(kernel)
        rows = oracle.patches(images[1:], (3, 3), (1, 1)).reshape(-1, 27)
        expected = np.bincount(np.argmax(rows @ kernel.reshape(27, 5), axis=1), minlength=5)
        np.testing.assert_array_equal(win_counts(layer, images, batch_size=3), expected)
        report = convergence_report(layer, images)
        norms = np.sum(kernel.astype("float64") ** 2, axis=(0, 1, 2))
        assert report["mean_norm"] == pytest.approx(np.mean(norms), rel=1e-5)

    def test_wins_at_each_position(self) -> None:
        images, kernel = probe((4, 6, 6, 3)), probe((2, 2, 27, 5), 1)
        layer = layers.HebbianLocallyConnected2D(5, 3, 3, plasticity="krotov_hopfield")
        layer.build(images.shape)
        layer.kernel.assign(kernel)
        rows = oracle.patches(images, (3, 3), (3, 3))
        currents = np.einsum("bxyi,xyik->bxyk", rows, kernel)
        expected = (np.argmax(currents, axis=-1)[..., None] == np.arange(5)).sum(axis=0)
        np.testing.assert_array_equal(win_counts(layer, images), expected)
        norms = np.sum(kernel.astype("float64") ** 2, axis=2)
        report = convergence_report(layer, images)
        assert report["mean_norm"] == pytest.approx(np.mean(norms), rel=1e-5)
        assert report["won"] == pytest.approx(np.mean(expected > 0))


class TestLateral:
    def test_forward_is_the_settled_state(self) -> None:
        layer = layers.HebbianDense(3, plasticity.SimilarityMatching())
        layer.build((None, 6))
        lateral = np.eye(3) + 0.2 * np.abs(probe((3, 3)))
        layer.weights[1].assign(lateral)
        x = probe((5, 6))
        expected = np.linalg.solve(lateral, (x @ array(layer.kernel)).T).T
        np.testing.assert_allclose(array(layer(x)), expected, rtol=1e-4, atol=1e-5)

    def test_the_optimizer_moves_both(self) -> None:
        x, kernel = probe((12, 6)), 0.3 * probe((6, 3), 1)
        layer = layers.HebbianDense(3, plasticity.SimilarityMatching(tau=0.5))
        model = keras.Sequential([keras.Input((6,)), layer])
        layer.kernel.assign(kernel)
        fit_steps(model, x, 0.1, 12)
        forward, sideways = oracle.similarity_matching(x, kernel, np.eye(3), 0.5)
        assert_close(array(layer.kernel) - kernel, 0.1 * forward / 12, 1e-5)
        assert_close(array(layer.weights[1]) - np.eye(3), 0.1 * sideways / 12, 1e-5)

    def test_plain_has_it_in_its_kernel(self) -> None:
        layer = layers.HebbianConv2D(3, 2, plasticity=plasticity.SimilarityMatching())
        model = keras.Sequential([keras.Input((5, 5, 2)), layer])
        layer.weights[1].assign(np.eye(3) + 0.2 * np.abs(probe((3, 3))))
        x = probe((4, 5, 5, 2))
        np.testing.assert_allclose(
            to_plain(model).predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5
        )


def test_triangle_after_the_convolution_is_plain() -> None:
    layer = layers.HebbianConv2D(4, 3, patch_norm=True, activation=Triangle(0.7))
    model = keras.Sequential([keras.Input((5, 5, 2)), layer])
    x = probe((4, 5, 5, 2))
    plain = to_plain(model)
    np.testing.assert_allclose(plain.predict(x, verbose=0), array(model(x)), rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(BACKEND != "jax", reason="a limit of the JAX trainer")
def test_a_constraint_with_a_memory_is_refused_on_jax() -> None:
    with pytest.raises(ValueError, match=r"`plasticity` must be a rule whose constraint"):
        layers.HebbianDense(3, "convallis").build((None, 4))


WRONG: list[tuple[Any, dict[str, Any], str]] = [
    (layers.HebbianConv2D, {"filters": 0, "kernel_size": 3}, "filters"),
    (layers.HebbianConv2D, {"filters": 4, "kernel_size": (3,)}, "kernel_size"),
    (layers.HebbianConv1D, {"filters": 4, "kernel_size": 3, "strides": 0}, "strides"),
    (layers.HebbianConv2D, {"filters": 4, "kernel_size": 3, "padding": "causal"}, "padding"),
    (layers.HebbianConv2D, {"filters": 4, "kernel_size": 3, "floor": 0.0}, "floor"),
    (layers.HebbianConv2D, {"filters": 4, "kernel_size": 3, "border": 1}, "border"),
    (
        layers.HebbianConv2D,
        {"filters": 4, "kernel_size": 3, "padding": "reflect", "border": 0},
        "border",
    ),
    (layers.HebbianConv2D, {"filters": 1, "kernel_size": 3}, "rank"),
    (
        layers.HebbianLocallyConnected2D,
        {"filters": 4, "kernel_size": 3, "padding": "reflect"},
        "padding",
    ),
    (layers.HebbianLocallyConnected2D, {"filters": True, "kernel_size": 3}, "filters"),
    (layers.HebbianConv2D, {"filters": 4, "kernel_size": 3, "plasticity": "soft"}, "plasticity"),
]


@pytest.mark.parametrize(("kind", "arguments", "name"), WRONG)
def test_bad_arguments(kind: Any, arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}`.*must be.*Received"):
        kind(**arguments)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: layers.HebbianConv2D(4, 3), (None, 8, 8)),
        (lambda: layers.HebbianConv2D(4, 3), (None, 8, 8, None)),
        (lambda: layers.HebbianConv2D(4, 9), (None, 8, 8, 3)),
        (lambda: layers.HebbianConv2D(4, 9, padding="reflect"), (None, 4, 8, 3)),
        (lambda: layers.HebbianConv2D(4, 3, padding="reflect", border=5), (None, 5, 8, 3)),
        (lambda: layers.HebbianLocallyConnected2D(4, 3), (None, None, 8, 3)),
        (lambda: layers.HebbianLocallyConnected2D(4, 9), (None, 8, 8, 3)),
    ],
)
def test_bad_inputs(layer: Any, shape: tuple[int | None, ...]) -> None:
    with pytest.raises(ValueError, match=r"must|[Nn]egative|smaller"):
        layer().build(shape)


def test_a_border_of_its_own() -> None:
    """A kernel of 5 on a border of 1: the convolution of what NumPy mirrors, also in plain form."""
    x = probe((2, 6, 7, 2))
    layer = layers.HebbianConv2D(3, 5, padding="reflect", border=1, plasticity=SOFT)
    model = keras.Sequential([keras.Input((6, 7, 2)), layer])
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], "reflect")
    rows = oracle.patches(padded, (5, 5), (1, 1)).reshape(-1, 50)
    kernel = array(layer.kernel).reshape(50, 3)
    expected = (rows.astype("float64") @ kernel).reshape(2, 4, 5, 3)
    assert layer.compute_output_shape((None, 6, 7, 2)) == (None, 4, 5, 3)
    assert_close(array(model(x)), expected, 1e-5)
    assert_close(array(to_plain(model)(x)), expected, 1e-5)
    restored = layers.HebbianConv2D.from_config(layer.get_config())
    assert restored.border == 1
    old = {key: value for key, value in layer.get_config().items() if key != "border"}
    assert layers.HebbianConv2D.from_config(old).border is None


@pytest.mark.parametrize("taps", [3, 4])
def test_which_inputs_are_reflected_at_which_border(taps: int) -> None:
    """Of an even kernel one more behind than before; the nearest comes first."""
    layer = layers.HebbianConv1D(1, taps, padding="reflect", plasticity="hebb")
    x = np.arange(1.0, 7.0, dtype="float32").reshape(1, 6, 1)
    layer.build(x.shape)
    before = [2.0]
    behind = [5.0] if taps == 3 else [5.0, 4.0]
    padded = np.array([*before, *x[0, :, 0], *behind])
    for tap in range(taps):
        kernel = np.zeros((taps, 1, 1), "float32")
        kernel[tap] = 1.0
        layer.kernel.assign(kernel)
        np.testing.assert_array_equal(array(layer(x))[0, :, 0], padded[tap : tap + 6])


def test_axes_are_reflected_by_their_own_taps() -> None:
    layer = layers.HebbianConv2D(1, (5, 2), padding="reflect", plasticity="hebb")
    x = probe((1, 6, 6, 1))
    layer.build(x.shape)
    padded = np.pad(x, [(0, 0), (2, 2), (0, 1), (0, 0)], "reflect")
    expected = oracle.patches(padded, (5, 2), (1, 1)) @ array(layer.kernel).reshape(10, 1)
    assert_close(array(layer(x)), expected.astype("float64"), 1e-5)


@pytest.mark.parametrize("length", [0.5, 1.9, 2.1, 30.0])
def test_the_floor_is_a_length(length: float) -> None:
    layer = layers.HebbianConv2D(1, 2, patch_norm=True, floor=2.0, plasticity="hebb")
    x = np.full((1, 2, 2, 1), length / 2.0, "float32")
    layer.build(x.shape)
    layer.kernel.assign(np.ones((2, 2, 1, 1), "float32"))
    expected = 2.0 * length / max(length, 2.0)
    np.testing.assert_allclose(array(layer(x)).item(), expected, rtol=1e-5)


@pytest.mark.parametrize("flag", [np.True_, np.False_])
def test_flags_of_numpy(flag: Any) -> None:
    layer = layers.HebbianConv2D(2, 2, patch_norm=flag, trainable=flag)
    assert layer.patch_norm is bool(flag)
    assert layer.trainable is bool(flag)


def test_an_activation_set_to_none_is_the_identity() -> None:
    layer, x = layers.HebbianDense(3, "oja", activation="relu"), probe((4, 5))
    layer.activation = None
    np.testing.assert_allclose(array(layer(x)), x @ array(layer.kernel), rtol=1e-5, atol=1e-6)
