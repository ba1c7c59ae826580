from __future__ import annotations

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from keras import ops

from keras_local.activations import Ramp, RePU, Triangle

BACKEND = keras.backend.backend()
ALL = [Ramp(), Ramp(scale=2.0), RePU(), RePU(power=1.0), RePU(power=3.0)]


def value(tensor):
    return np.asarray(ops.convert_to_numpy(tensor))


def derivative(function, x):
    """Elementwise derivative on any backend."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        tensor = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            total = tf.reduce_sum(function(tensor))
        return tape.gradient(total, tensor).numpy()
    if BACKEND == "jax":
        import jax

        return np.asarray(jax.grad(lambda t: function(t).sum())(jax.numpy.asarray(x)))
    import torch

    tensor = torch.tensor(x, requires_grad=True)
    function(tensor).sum().backward()
    return tensor.grad.numpy()


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_ramp_equals_loops(scale):
    x = np.random.default_rng(0).normal(size=200, scale=3).astype("float32")
    expected, slopes = [], []
    for h in x.astype("float64"):
        expected.append(-1 if scale * h < -1 else 1 if scale * h > 1 else scale * h)
        slopes.append(scale if -1 < scale * h < 1 else 0)
    ramp = Ramp(scale)
    np.testing.assert_allclose(value(ramp(x)), expected, rtol=1e-6)
    np.testing.assert_allclose(derivative(ramp, x), slopes, rtol=1e-6)
    np.testing.assert_allclose(value(ramp.plain(ops.convert_to_tensor(x))), expected, rtol=1e-6)


def test_ramp_has_the_slope_zero_at_the_corners():
    inside = np.nextafter(2, 0, dtype="float32")
    x = np.array([-2, -inside, 0, inside, 2], "float32")
    np.testing.assert_array_equal(value(Ramp()(x)), [-1, -inside / 2, 0, inside / 2, 1])
    np.testing.assert_array_equal(derivative(Ramp(), x), [0, 0.5, 0.5, 0.5, 0])


@pytest.mark.parametrize("power", [1.0, 2.0, 4.5])
def test_repu_equals_loops(power):
    x = np.random.default_rng(0).normal(size=200).astype("float32")
    expected, slopes = [], []
    for h in x.astype("float64"):
        expected.append(h**power if h > 0 else 0)
        slopes.append(power * h ** (power - 1) if h > 0 else 0)
    repu = RePU(power)
    np.testing.assert_allclose(value(repu(x)), expected, rtol=1e-5)
    np.testing.assert_allclose(derivative(repu, x), slopes, rtol=1e-5)
    np.testing.assert_allclose(value(repu.plain(ops.convert_to_tensor(x))), expected, rtol=1e-5)


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0, 4.5])
def test_repu_has_the_slope_zero_at_and_below_zero(power):
    x = np.array([-1e30, -1.0, -1e-30, -0.0, 0.0], "float32")
    np.testing.assert_array_equal(value(RePU(power)(x)), np.zeros(5))
    np.testing.assert_array_equal(derivative(RePU(power), x), np.zeros(5))


@pytest.mark.parametrize("activation", ALL)
def test_nan_is_not_hidden(activation):
    assert np.isnan(value(activation(np.array([np.nan], "float32"))))[0]


@pytest.mark.few(6, rest="thorough")
@pytest.mark.parametrize("activation", ALL)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_type_and_shape_are_kept(activation, dtype):
    y = activation(ops.ones((2, 3, 4), dtype=dtype))
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    assert tuple(y.shape) == (2, 3, 4)


@pytest.mark.parametrize(
    ("activation_class", "argument", "bad"),
    [
        (Ramp, "scale", 0.0),
        (Ramp, "scale", -1.0),
        (Ramp, "scale", float("inf")),
        (Ramp, "scale", "relu"),
        (RePU, "power", 0.5),
        (RePU, "power", float("nan")),
        (RePU, "power", None),
    ],
)
def test_bad_arguments(activation_class, argument, bad):
    with pytest.raises(ValueError, match=f"`{argument}` must be .* Received: {argument}="):
        activation_class(bad)


@pytest.mark.parametrize("activation", ALL)
def test_round_trip(activation):
    config = keras.activations.serialize(activation)
    assert config["registered_name"] == f"keras_local>{type(activation).__name__}"
    restored = keras.activations.get(config)
    assert type(restored) is type(activation)
    assert restored.get_config() == activation.get_config()


@pytest.mark.parametrize("activation", ALL)
def test_in_a_layer_saved_and_loaded(activation, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(4, activation=activation),
            keras.layers.Activation(activation),
        ]
    )
    x = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")
    expected = model.predict(x, verbose=0)
    oracle = value(activation(activation(x @ model.get_weights()[0])))
    np.testing.assert_allclose(expected, oracle, rtol=1e-4, atol=1e-6)
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(restored.predict(x, verbose=0), expected)
    assert restored.layers[0].activation.get_config() == activation.get_config()


@pytest.mark.thorough
@pytest.mark.slow
def test_plain_form_needs_no_package(tmp_path):
    inputs = keras.Input((5,))
    outputs = RePU(2.5).plain(Ramp(0.7).plain(inputs))
    model = keras.Model(inputs, outputs)
    x = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")
    expected = value(RePU(2.5)(Ramp(0.7)(x)))
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5)
    model.save(tmp_path / "plain.keras")
    np.savez(tmp_path / "data.npz", x=x, expected=expected)
    script = """
        import sys
        import keras, numpy as np
        model = keras.saving.load_model("plain.keras")
        data = np.load("data.npz")
        y = model.predict(data["x"], verbose=0)
        np.testing.assert_allclose(y, data["expected"], rtol=1e-5)
        assert not any(name.startswith("keras_local") for name in sys.modules)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("activation", [Ramp(), RePU(2.0)])
def test_learns_in_fit(activation, jit_compile):
    if BACKEND == "torch" and jit_compile:
        pytest.skip("torch.compile takes minutes")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(128, 4)).astype("float32")
    y = np.sin(x[:, :1])
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(16, activation=activation),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.02), "mse", jit_compile=jit_compile)
    hidden = model.layers[0].get_weights()[0]
    losses = model.fit(x, y, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    assert not np.array_equal(hidden, model.layers[0].get_weights()[0])


class TestTriangle:
    """The rectified power of what exceeds the mean over channels."""

    @pytest.mark.parametrize("power", [0.7, 1.0, 2.0])
    def test_formula(self, power: float) -> None:
        u = np.random.default_rng(0).normal(size=(3, 4, 6)).astype("float32")
        outputs = np.asarray(ops.convert_to_numpy(Triangle(power)(u)))
        for place in np.ndindex(3, 4):
            excess = u[place].astype("float64") - u[place].astype("float64").mean()
            np.testing.assert_allclose(outputs[place], np.maximum(excess, 0.0) ** power, atol=2e-6)
        assert outputs.min() == 0.0
        assert np.mean(outputs > 0.0) > 0.3

    def test_what_all_channels_share_does_not_matter(self) -> None:
        """Whole numbers and eight channels: every mean is exact."""
        u = np.random.default_rng(0).integers(-4, 5, size=(3, 4, 8)).astype("float32")
        shift = np.random.default_rng(1).integers(-4, 5, size=(3, 4, 1)).astype("float32")
        plain, shifted = (ops.convert_to_numpy(Triangle(0.7)(x)) for x in (u, u + shift))
        np.testing.assert_array_equal(shifted, plain)

    @pytest.mark.parametrize("power", [0.7, 1.0, 2.0])
    def test_gradient_is_finite_where_it_rests(self, power: float) -> None:
        u = np.zeros((1, 4), "float32")
        np.testing.assert_array_equal(derivative(Triangle(power), u), u)

    def test_round_trip(self) -> None:
        restored = keras.activations.get(keras.activations.serialize(Triangle(1.4)))
        assert isinstance(restored, Triangle)
        assert restored.power == 1.4

    @pytest.mark.parametrize("power", [0.0, -1.0, float("nan"), "1"])
    def test_bad_power(self, power: object) -> None:
        with pytest.raises(ValueError, match=r"`power` must be.*Received"):
            Triangle(power)  # type: ignore[arg-type]
