"""What diverges leaves finite weights behind, and an error that names the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers
from keras_local.models import pretrain
from keras_local.ops.divergence import are_bounded, kept_if
from tests.plasticity.encoders import hebbian
from tests.support import BACKEND, array, compile_options, probe, tensorflow_only, two_replicas

REMEDY = r"Learning diverged: in layer .*step size smaller"
X = 3.0 * probe((100, 4))

MODES: dict[str, dict[str, Any]] = {"default": compile_options()}
if BACKEND == "tensorflow":
    MODES |= {"eager": {"run_eagerly": True}, "xla": {"jit_compile": True}}


def model_of(rule: Any = "oja", **options: Any) -> keras.Model:
    model = hebbian(probe((4, 2)), rule)
    model.layers[0].supports_jit = True
    model.compile(keras.optimizers.SGD(0.5), **options)
    return model


@pytest.mark.parametrize("mode", MODES)
def test_fit(mode: str) -> None:
    model = model_of(**MODES[mode])
    with pytest.raises(ValueError, match=REMEDY):
        model.fit(X, epochs=20, batch_size=10, verbose=0)
    kernel = array(model.layers[0].kernel)
    assert np.all(np.isfinite(kernel))
    assert np.any(kernel != probe((4, 2)))
    # It can go on at once: nothing is left of the error.
    model.layers[0].kernel.assign(probe((4, 2)))
    model.optimizer.learning_rate = 1e-3
    history = model.fit(X, epochs=2, batch_size=10, verbose=0)
    assert set(history.history) == {"loss"}
    assert np.any(array(model.layers[0].kernel) != probe((4, 2)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_inputs_that_are_not_finite(bad: float) -> None:
    model, x = model_of("hebb", **compile_options()), X.copy()
    x[37, 2] = bad
    with pytest.raises(ValueError, match=REMEDY):
        model.fit(x, batch_size=10, shuffle=False, verbose=0)
    assert np.all(np.isfinite(array(model.layers[0].kernel)))


def test_train_on_batch() -> None:
    """The error comes at the next call: a compiled step cannot raise it."""
    model = model_of(**compile_options())
    with pytest.raises(ValueError, match=REMEDY):
        steps(model, 20)
    assert np.all(np.isfinite(array(model.layers[0].kernel)))


def steps(model: keras.Model, count: int) -> None:
    for _ in range(count):
        model.train_on_batch(X[:10])


def test_pretrain() -> None:
    for rule in ("oja", "hebb"):
        model = hebbian(probe((4, 2)), rule)
        with pytest.raises(ValueError, match=REMEDY):
            pretrain(model, X, epochs=60, batch_size=10, step_size=0.9, verbose=0)
        assert np.all(np.isfinite(array(model.layers[0].kernel)))


def test_a_memory_that_is_not_finite_stays() -> None:
    model = hebbian(probe((4, 2)), "bcm")
    model.compile(keras.optimizers.SGD(0.1), **compile_options())
    model.fit(X[:10], verbose=0)
    before = [array(weight) for weight in model.layers[0].weights]
    with pytest.raises(ValueError, match=REMEDY):
        model.fit(np.full((10, 4), 1e30, "float32"), verbose=0)
    for one, other in zip(before, model.layers[0].weights, strict=True):
        np.testing.assert_array_equal(one, array(other))


def test_lateral_weights_of_the_optimizer() -> None:
    model = hebbian(probe((4, 2)), "similarity_matching")
    model.compile(keras.optimizers.SGD(5.0), **compile_options())
    with pytest.raises(ValueError, match=REMEDY):
        model.fit(X, epochs=40, batch_size=10, verbose=0)
    assert all(np.all(np.isfinite(array(weight))) for weight in model.weights)


def test_files_and_weights_know_nothing_of_it(tmp_path: Path) -> None:
    model = model_of(**compile_options())
    assert [weight.name for weight in model.layers[0].weights] == ["kernel"]
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(array(restored.layers[0].kernel), probe((4, 2)))
    assert [weight.name for weight in keras.models.clone_model(model).weights] == ["kernel"]


def test_bounds() -> None:
    tensor = keras.ops.convert_to_tensor
    good, nan, inf, huge = (tensor(np.float32([[1.0, -2.0], [value, 0.0]])) for value in VALUES)
    for bad in (nan, inf, huge):
        assert not bool(are_bounded([good, bad]))
        assert not bool(are_bounded([bad]))
    assert bool(are_bounded([good, tensor(np.float32(3.0))]))
    # JAX has single precision only, unless it is told otherwise.
    assert BACKEND == "jax" or bool(are_bounded([tensor(np.float64([[1e30]]))]))
    kept = kept_if(tensor(False), [good, good], [None, huge])
    np.testing.assert_array_equal(array(kept[0]), 0.0)
    np.testing.assert_array_equal(array(kept[1]), array(huge))
    np.testing.assert_array_equal(array(kept_if(tensor(True), [good])[0]), array(good))


VALUES = (0.5, np.nan, -np.inf, 1e25)


@tensorflow_only
def test_two_replicas() -> None:
    with two_replicas().scope():
        model = hebbian(probe((4, 2)), "oja")
        model.compile(keras.optimizers.SGD(0.5), jit_compile=False)
    with pytest.raises(ValueError, match=REMEDY):
        model.fit(X, epochs=2, batch_size=10, verbose=0)
    assert np.all(np.isfinite(array(model.layers[0].kernel)))


@pytest.mark.parametrize("layer", [layers.HebbianConv2D, layers.HebbianLocallyConnected2D])
def test_other_maps(layer: Any) -> None:
    model = keras.Sequential([keras.Input((4, 4, 1)), layer(3, 2, plasticity="oja")])
    model.compile(keras.optimizers.SGD(5.0), **compile_options())
    with pytest.raises(ValueError, match=REMEDY):
        model.fit(3.0 * probe((40, 4, 4, 1)), epochs=10, batch_size=10, verbose=0)
    assert np.all(np.isfinite(array(model.layers[0].kernel)))
