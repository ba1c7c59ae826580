"""The networks of SoftHebb: their form, their pools, and layers that learn above statistics."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers, plasticity
from keras_local.models import pretrain, reference, to_plain
from keras_local.models.networks.softhebb import _pool
from tests import oracles_hebbian as oracle
from tests.plasticity.encoders import assert_close
from tests.support import BACKEND, array, probe, tensorflow_only, weights_of


def test_cifar10() -> None:
    model = reference.softhebb("cifar10")
    shapes = [tuple(layer.kernel.shape) for layer in model.layers if hasattr(layer, "plasticity")]
    assert shapes == [(5, 5, 3, 96), (3, 3, 96, 384), (3, 3, 384, 1536)]
    assert model.output_shape == (None, 24576)
    assert model.get_layer("pool1").output.shape == (None, 16, 16, 96)
    assert model.get_layer("pool2").output.shape == (None, 8, 8, 384)
    hidden = [model.get_layer(f"hebbian{i}") for i in (1, 2, 3)]
    assert [layer.plasticity.beta for layer in hidden] == [1.0, 0.65, 0.25]
    assert [layer.local_rate for layer in hidden] == [0.08, 0.005, 0.01]
    assert [layer.activation.power for layer in hidden] == [0.7, 1.4, 1.0]
    assert all(layer.plasticity.rate.power == 0.5 for layer in hidden)
    for layer in hidden[:2]:
        lengths = np.linalg.norm(array(layer.kernel).reshape(-1, layer.filters), axis=0)
        assert np.mean(lengths) == pytest.approx(25.0, rel=0.02)
    norm = model.get_layer("norm1")
    assert (norm.momentum, norm.epsilon, norm.center, norm.scale) == (0.9, 1e-5, False, False)


@pytest.mark.parametrize(
    ("preset", "features", "widths"),
    [
        ("stl10", 6 * 6 * 384, [6, 24, 96, 384]),
        ("imagenette", 5 * 5 * 768, [3, 12, 48, 192, 768]),
    ],
)
def test_deeper_presets(preset: str, features: int, widths: list[int]) -> None:
    model = reference.softhebb(preset, width=0.0625)
    assert [layer.filters for layer in model.layers if hasattr(layer, "plasticity")] == widths
    # The last pool halves; those before halve too.
    assert model.output_shape == (None, features if preset == "imagenette" else 3 * 3 * 4 * 384)


def test_mnist() -> None:
    model = reference.softhebb("mnist", width=0.1)
    layer = model.get_layer("hebbian1")
    assert (layer.units, layer.plasticity.beta, layer.local_rate) == (200, 12.0, 0.045)
    assert not layer.plasticity.anti_hebbian
    assert layer.plasticity.rate.power == 0.2
    kernel = array(layer.kernel)
    assert kernel.min() >= 0.0
    assert np.mean(np.linalg.norm(kernel, axis=0)) == pytest.approx(35.0, rel=0.02)
    features = array(model(np.random.default_rng(0).random((3, 28, 28, 1)).astype("float32")))
    np.testing.assert_allclose(features.sum(axis=-1), 1.0, rtol=1e-5)


def test_control_with_hard_winners() -> None:
    """Borders of 1, 1 and 0: 32 - 30, pooled 15 - 15, pooled 7 - 5, pooled 2 (spec 4.2)."""
    model = reference.softhebb("cifar10", width=0.1, competition="hard")
    hidden = [model.get_layer(f"hebbian{number}") for number in (1, 2, 3)]
    assert [type(layer.plasticity) for layer in hidden] == [plasticity.HardWTA] * 3
    assert [layer.local_rate for layer in hidden] == [0.05] * 3
    assert [layer.plasticity.rate.power for layer in hidden] == [0.75] * 3
    assert [layer.activation.power for layer in hidden] == [1.0] * 3
    assert [layer.output.shape[1:3] for layer in hidden] == [(30, 30), (15, 15), (5, 5)]
    assert isinstance(model.get_layer("pool3"), keras.layers.MaxPooling2D)
    assert model.output_shape == (None, 2 * 2 * 154)


@pytest.mark.parametrize("preset", ["stl10", "mnist"])
def test_hard_winners_elsewhere_keep_the_settings(preset: Any) -> None:
    hard, soft = (
        reference.softhebb(preset, width=0.05, depth=1, competition=competition)
        for competition in ("hard", "soft")
    )
    one, other = (model.get_layer("hebbian1") for model in (hard, soft))
    assert isinstance(one.plasticity, plasticity.HardWTA)
    assert one.local_rate == other.local_rate
    assert one.plasticity.rate.power == other.plasticity.rate.power
    assert hard.output_shape == soft.output_shape


@pytest.mark.parametrize("anti_hebbian", [None, True])
def test_one_step_of_mnist(anti_hebbian: bool | None) -> None:
    """Against the published form, written out: all units learn towards the inputs (spec 4.1)."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        model = reference.softhebb("mnist", (4, 4, 1), width=0.01, anti_hebbian=anti_hebbian)
        x = np.random.default_rng(0).random((6, 4, 4, 1))
        kernel = model.get_layer("hebbian1").kernel
        # So short that the softmax is not one of zeros and ones.
        kernel.assign(array(kernel) / 20.0)
        w = array(kernel)
        model.compile(keras.optimizers.SGD(1.0), None)
        model.fit(x, batch_size=6, verbose=0)
        rows = x.reshape(6, 16)
        change = np.zeros_like(w)
        for row in rows:
            u = row @ w
            shares = np.exp(12.0 * (u - u.max()))
            shares /= shares.sum()
            for unit in range(w.shape[1]):
                sign = -1.0 if anti_hebbian and unit != u.argmax() else 1.0
                change[:, unit] += sign * shares[unit] * (row - u[unit] * w[:, unit])
        rates = 0.045 * np.abs(np.linalg.norm(w, axis=0) - 1.0) ** 0.2
        expected = w + rates * change / np.abs(change).max()
        assert_close(array(kernel), expected, 1e-8)
    finally:
        keras.config.set_dtype_policy(policy)


@pytest.mark.parametrize("even", [True, False])
def test_pools_treat_borders_as_the_source(even: bool) -> None:
    """Maxima leave zeros at the border out, averages count them: 4 x 4 windows, stride 2."""
    size, starts = (6, (0, 2, 4)) if even else (7, (0, 2, 4))
    x = -1.0 - np.random.default_rng(0).random((1, size, size, 2)).astype("float32")
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    lowest = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-np.inf)
    for kind, source, reduce in (("average", padded, np.mean), ("max", lowest, np.max)):
        outputs = x
        for layer in _pool(kind, 1, (size, size)):
            outputs = layer(outputs)
        expected = [
            [reduce(source[0, i : i + 4, j : j + 4], axis=(0, 1)) for j in starts] for i in starts
        ]
        np.testing.assert_allclose(array(outputs)[0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"preset": "cifar"}, "preset"),
        ({"width": 0.0}, "width"),
        ({"depth": 4}, "depth"),
        ({"preset": "mnist", "depth": 2}, "depth"),
        ({"radius": -1.0}, "radius"),
        ({"anti_hebbian": "yes"}, "anti_hebbian"),
        ({"input_shape": (32, 32)}, "input_shape"),
        ({"competition": "winner"}, "competition"),
    ],
)
def test_bad_input(arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be.*Received"):
        reference.softhebb(**arguments)


def small() -> keras.Sequential:
    return reference.softhebb("cifar10", (8, 8, 2), width=0.05, depth=2, radius=3.0)


def images(count: int = 12) -> np.ndarray:
    return np.random.default_rng(0).random((count, 8, 8, 2)).astype("float32")


class TestPretraining:
    """One batch holds all samples, so that their order does not matter."""

    def arguments(self, **options: Any) -> dict[str, Any]:
        return {"epochs": 1, "batch_size": 12, "step_size": 1.0, "verbose": 0, **options}

    def expected(self, model: keras.Sequential, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The kernel of the first layer after one step, and what that step saw."""
        centred = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
        padded = np.pad(centred, [(0, 0), (2, 2), (2, 2), (0, 0)], "reflect")
        rows = oracle.patches(padded, (5, 5), (1, 1)).reshape(-1, 50)
        kernel = array(model.get_layer("hebbian1").kernel)
        flat = kernel.reshape(50, -1).astype("float64")
        change = oracle.soft_hebb(rows, flat, 1.0, True)
        lengths = np.linalg.norm(flat, axis=0)
        step = 0.08 * change / np.max(np.abs(change)) * np.abs(lengths - 1.0) ** 0.5
        return (flat + step).reshape(kernel.shape), x

    @pytest.mark.parametrize("greedy", [True, False])
    def test_first_layer(self, greedy: bool) -> None:
        model, x = small(), images()
        expected, _ = self.expected(model, x)
        histories = pretrain(model, x, greedy=greedy, **self.arguments())
        assert list(histories) == ["hebbian1", "hebbian2"]
        assert set(histories["hebbian1"].history) == {"mean_norm", "converged"}
        assert set(histories["hebbian2"].report) == {"mean_norm", "converged", "won", "dead"}
        assert_close(array(model.get_layer("hebbian1").kernel), expected, 1e-5)
        moving = array(model.get_layer("norm1").moving_mean)
        np.testing.assert_allclose(moving, 0.1 * x.mean((0, 1, 2)), rtol=1e-4)
        assert all(layer.trainable for layer in model.layers)

    def test_greedy_is_one_after_the_other(self) -> None:
        """The upper layer sees the lower one in inference, with what its statistics became."""
        model, x = small(), images()
        seen: list[list[np.ndarray]] = []
        look = keras.callbacks.LambdaCallback(
            on_train_begin=lambda logs: seen.append(weights_of(model)),
            on_train_end=lambda logs: seen.append(weights_of(model)),
        )
        pretrain(model, x, callbacks=[look], **self.arguments(epochs=2))
        paths = [weight.path for weight in model.weights]
        moved = [
            {
                path.split("/")[-2]
                for path, a, b in zip(paths, one, other, strict=True)
                if np.any(a != b)
            }
            for one, other in ((seen[0], seen[1]), (seen[1], seen[2]), (seen[2], seen[3]))
        ]
        assert moved == [{"norm1", "hebbian1"}, set(), {"norm2", "hebbian2"}]

    def test_all_at_once(self) -> None:
        model, x = small(), images()
        before = weights_of(model)
        pretrain(model, x, greedy=False, **self.arguments())
        for one, other in zip(before, weights_of(model), strict=True):
            assert np.any(one != other)

    @tensorflow_only
    def test_dataset(self) -> None:
        import tensorflow as tf

        results = []
        for data in (images(), tf.data.Dataset.from_tensor_slices(images())):
            keras.utils.set_random_seed(0)
            model = small()
            pretrain(model, data, **self.arguments())
            results.append(weights_of(model))
        for one, other in zip(*results, strict=True):
            # Sums in another order.
            assert_close(other, one.astype("float64"), 1e-4)

    def test_different_policies_cannot_learn_at_once(self) -> None:
        model = keras.Sequential(
            [
                keras.Input((6,)),
                layers.HebbianDense(4, "oja", name="one"),
                layers.HebbianDense(4, "soft_hebb", name="two"),
            ]
        )
        pretrain(model, probe((12, 6)), greedy=False, **self.arguments())  # One epoch: the same.
        before = weights_of(model)
        with pytest.raises(ValueError, match=r"`greedy` must be True.*Received: greedy=False"):
            pretrain(model, probe((12, 6)), greedy=False, **self.arguments(epochs=2))
        for one, other in zip(before, weights_of(model), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_a_flat_softmax_is_told(self) -> None:
        rule = plasticity.SoftHebb(1.0)
        model = keras.Sequential([keras.Input((6,)), layers.HebbianDense(4, rule)])
        x = probe((12, 6))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        with pytest.warns(UserWarning, match=r"nearly flat.*`beta` of at least 2"):
            pretrain(model, x, **self.arguments())
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            pretrain(model, 5.0 * x, **self.arguments())
        model = keras.Sequential(
            [keras.Input((6, 6, 2)), layers.HebbianConv2D(4, 3, plasticity=rule, patch_norm=True)]
        )
        with pytest.warns(UserWarning, match="nearly flat"):
            pretrain(model, probe((12, 6, 6, 2)), **self.arguments())

    def test_small_initial_weights_are_told(self) -> None:
        model = reference.softhebb("cifar10", (8, 8, 2), width=0.05, depth=1, radius=0.2)
        with pytest.warns(UserWarning, match="start inside the unit sphere"):
            pretrain(model, images(), **self.arguments())

    def test_other_maps(self) -> None:
        """Without statistics below, layer by layer from the features of the layers below."""
        model = keras.Sequential(
            [
                keras.Input((8, 8, 2)),
                layers.HebbianConv2D(4, 3, activation="relu", name="conv"),
                layers.HebbianLocallyConnected2D(3, 3, 3, name="local"),
                keras.layers.Flatten(),
                layers.HebbianDense(5, name="dense"),
            ]
        )
        before = weights_of(model)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Only .* have converged")
            histories = pretrain(model, images(), **self.arguments(step_size=0.1))
        assert list(histories) == ["conv", "local", "dense"]
        for one, other in zip(before, weights_of(model), strict=True):
            assert np.max(np.abs(one - other)) == pytest.approx(0.1, rel=1e-4)
        assert all(0.0 < history.report["won"] <= 1.0 for history in histories.values())


def test_plain_form() -> None:
    model = small()
    if BACKEND == "tensorflow":
        pretrain(model, images(), epochs=1, batch_size=4, step_size=1.0, verbose=0)
    plain = to_plain(model)
    expected = model.predict(images(), verbose=0)
    np.testing.assert_allclose(plain.predict(images(), verbose=0), expected, rtol=1e-4, atol=1e-4)


@tensorflow_only
def test_it_beats_pixels_and_random_filters_on_digits() -> None:
    """A small network, one epoch of each layer, and a linear readout with few labels."""
    from sklearn.linear_model import RidgeClassifier

    from keras_local import datasets

    (x, y), (test_x, test_y) = datasets.load("digits")
    x, test_x = (each.reshape(-1, 8, 8, 1).astype("float32") for each in (x, test_x))
    keras.utils.set_random_seed(0)
    model = reference.softhebb("cifar10", (8, 8, 1), width=0.5, depth=1)
    model.get_layer("hebbian1").local_rate = 0.4

    def error() -> float:
        features = model.predict(x, batch_size=500, verbose=0)
        readout = RidgeClassifier(10.0).fit(features[:300], y[:300])
        return float(np.mean(readout.predict(model.predict(test_x, verbose=0)) != test_y))

    pixels = RidgeClassifier(10.0).fit(x[:300].reshape(300, -1), y[:300])
    raw = float(np.mean(pixels.predict(test_x.reshape(len(test_x), -1)) != test_y))
    pretrain(model, x, epochs=3, batch_size=10, step_size=1.0, verbose=0)
    assert error() < 0.6 * raw
