"""Plasticity on two replicas equals plasticity on one device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers, plasticity
from keras_local.models import pretrain, readout
from keras_local.plasticity import KrotovHopfield
from tests.oracles_plasticity import Krotov
from tests.plasticity.encoders import CLEAR, assert_close, fit_steps, hebbian, krotov, problem
from tests.support import BACKEND, array, probe, two_replicas, weights_of

pytestmark = [
    pytest.mark.daily,
    pytest.mark.skipif(BACKEND != "tensorflow", reason="needs tf.distribute"),
    pytest.mark.filterwarnings("ignore:Only .* have converged"),
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed"),
    pytest.mark.filterwarnings("ignore:Your input ran out of data"),
]

Run = Callable[[keras.Model, np.ndarray, float], None]


def by_fit(model: keras.Model, x: np.ndarray, step_size: float) -> None:
    fit_steps(model, x, step_size, batch_size=12)


def by_pretrain(model: keras.Model, x: np.ndarray, step_size: float) -> None:
    pretrain(model, dataset(x), epochs=1, batch_size=12, step_size=step_size, verbose=0)


def dataset(x: np.ndarray) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(x)


RUNS: dict[str, Run] = {"fit": by_fit, "pretrain": by_pretrain}


@pytest.mark.parametrize("p", [2.0, 3.0])
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_steps(run: Run, p: float) -> None:
    """Both halves of a batch, one maximum: not the step of either half, nor their mean."""
    oracle = Krotov(p, rank=3)
    x, kernel = problem(units=15, batch=36)
    # One half drives the units much more than the other: where each is divided by its own
    # maximum, the step is another one.
    x[::12] *= 5.0
    assert oracle.closest_rivals(x, kernel) > CLEAR
    with two_replicas().scope():
        model = hebbian(kernel, krotov(oracle))
        if run is by_fit:
            model.compile(keras.optimizers.SGD(0.2), jit_compile=False)
    if run is by_fit:
        model.fit(x, batch_size=12, shuffle=False, verbose=0)
    else:
        run(model, x, 0.2)
    after = array(model.layers[0].kernel)
    assert_close(after, oracle.train(np.split(x, 3), kernel, 0.2), 2e-6)

    single = hebbian(kernel, krotov(oracle))
    run(single, x, 0.2)
    assert_close(after, array(single.layers[0].kernel).astype("float64"), 1e-6)

    halves = [oracle.change(half, kernel) for half in np.split(x[:12], 2)]
    mean = sum(0.5 * half / np.max(np.abs(half)) for half in halves)
    whole = oracle.step(x[:12], kernel, 1.0) - kernel
    assert np.max(np.abs(mean - whole)) > 0.05


PARTS: dict[str, dict[str, Any]] = {
    "sum": {"normaliser": plasticity.NoNormaliser()},
    "mean": {"reduction": plasticity.Mean(), "normaliser": plasticity.NoNormaliser()},
    "unit-max": {"normaliser": plasticity.UnitMaxAbs(), "rate": plasticity.NormDistance()},
}


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_parts_of_the_rule(parts: dict[str, Any]) -> None:
    x, kernel = problem(units=8, batch=24)
    results = []
    for replicas in (1, 2):
        if replicas == 1:
            model = hebbian(kernel, KrotovHopfield(3.0, **parts))
            model.compile(keras.optimizers.SGD(0.01), jit_compile=False)
        else:
            with two_replicas().scope():
                model = hebbian(kernel, KrotovHopfield(3.0, **parts))
                model.compile(keras.optimizers.SGD(0.01), jit_compile=False)
        model.fit(x, batch_size=12, shuffle=False, verbose=0)
        results.append(array(model.layers[0].kernel))
    assert np.max(np.abs(results[0] - kernel)) > 0.005
    assert_close(results[1] - kernel, (results[0] - kernel).astype("float64"), 1e-4)


def test_beside_backpropagation() -> None:
    """The change is a sum over replicas, the gradient of the loss a mean: both are right."""
    x, kernel = problem(units=8, batch=24)
    y = probe((24, 2), 4)
    results = []
    for replicas in (1, 2):
        scope = two_replicas().scope() if replicas == 2 else None
        model = joint(kernel) if scope is None else within(scope, lambda: joint(kernel))
        model.fit(x, y, batch_size=12, shuffle=False, verbose=0)
        results.append(weights_of(model))
    for one, other, start in zip(*results, weights_of(joint(kernel)), strict=True):
        assert np.max(np.abs(one - start)) > 5e-3
        assert_close(other, one.astype("float64"), 1e-6)


def within(scope: Any, make: Callable[[], keras.Model]) -> keras.Model:
    with scope:
        return make()


def joint(kernel: np.ndarray) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((len(kernel),)),
            layers.HebbianDense(kernel.shape[1], KrotovHopfield(3.0), activation="tanh"),
            keras.layers.Dense(2, use_bias=False, kernel_initializer="ones"),
        ]
    )
    model.layers[0].kernel.assign(kernel)
    model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=False)
    return model


@pytest.mark.thorough
def test_the_whole_way() -> None:
    """A stack, pretrained, and a readout, all under the strategy, from arrays."""
    rng = np.random.default_rng(0)
    x, y = rng.random((48, 10)).astype("float32"), rng.integers(0, 3, 48)

    def make() -> keras.Model:
        model = keras.Sequential(
            [
                keras.Input((10,)),
                layers.HebbianDense(8, activation="relu", name="below"),
                layers.HebbianDense(6, name="above"),
            ]
        )
        model.layers[0].kernel.assign(np.abs(probe((10, 8))))
        model.layers[1].kernel.assign(np.abs(probe((8, 6), 1)))
        return model

    results = []
    for replicas in (1, 2):
        keras.utils.set_random_seed(1)
        encoder = make() if replicas == 1 else within(two_replicas().scope(), make)
        # One batch holds all samples: their order does not matter.
        histories = pretrain(encoder, x, epochs=4, batch_size=48, step_size=0.2, verbose=0)
        assert list(histories) == ["below", "above"]
        if replicas == 1:
            model = readout(encoder, 3)
        else:
            with two_replicas().scope():
                model = readout(encoder, 3)
        model.get_layer("head").get_layer("scores").kernel.assign(probe((6, 3)))
        model.fit(x, y, batch_size=24, epochs=2, shuffle=False, verbose=0)
        results.append(weights_of(model))
    starts = [np.abs(probe((10, 8))), np.abs(probe((8, 6), 1)), None, probe((6, 3))]
    for one, other, start in zip(*results, starts, strict=True):
        assert_close(other, one.astype("float64"), 1e-5)
        assert start is None or np.max(np.abs(one - start)) > 1e-3


@keras.saving.register_keras_serializable(package="tests")
class Unreduced(plasticity.Hebb):
    """Keeps a running mean of its activity, and knows nothing of replicas."""

    def own_weights(self, kernel_shape: Any, linear_map: Any = None) -> Any:
        return [plasticity.OwnWeight("mean", (kernel_shape[-1],), "zeros")]

    def gains(self, post: Any, *own: Any) -> Any:
        return post - own[0]

    def own_updates(self, pre: Any, post: Any, kernel: Any, *own: Any, **options: Any) -> Any:
        return (own[0] + 0.5 * (keras.ops.mean(post, axis=0) - own[0]),)


def test_a_memory_is_the_same_in_all_replicas() -> None:
    x, kernel = problem(units=6, batch=24)
    x[:6] *= 5.0
    results = []
    for replicas in (1, 2):
        make = partial(hebbian, kernel, Unreduced())
        model = make() if replicas == 1 else within(two_replicas().scope(), make)
        compiling = partial(model.compile, keras.optimizers.SGD(0.01), jit_compile=False)
        compiling() if replicas == 1 else within(two_replicas().scope(), compiling)
        model.fit(x, batch_size=12, shuffle=False, verbose=0)
        results.append(weights_of(model))
        if replicas == 2:
            memory = model.layers[0].own_weights[0].value
            one, other = (array(each) for each in memory.values)
            np.testing.assert_array_equal(one, other)
    for one, other in zip(*results, strict=True):
        assert_close(other, one.astype("float64"), 1e-5)
