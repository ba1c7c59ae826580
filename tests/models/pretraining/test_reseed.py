"""New starts for units that never win: fewer are dead, never more."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers, plasticity
from keras_local.metrics import convergence_report, win_counts
from keras_local.models import pretrain, reseed
from keras_local.plasticity import KrotovHopfield
from tests.plasticity.encoders import hebbian
from tests.support import BACKEND, array, probe

INPUTS, UNITS, SAMPLES = 20, 24, 200


def clusters(seed: int = 0) -> np.ndarray:
    """Non-negative samples around a few centres."""
    rng = np.random.default_rng(seed)
    centres = rng.random((8, INPUTS))
    noise = rng.normal(0.0, 0.2, (SAMPLES, INPUTS))
    return np.clip(centres[rng.integers(0, 8, SAMPLES)] + noise, 0.0, None).astype("float32")


X = clusters()

KERNELS = {
    "inside of the sphere": lambda rng: rng.normal(0.0, 0.02, (INPUTS, UNITS)),
    "far outside": lambda rng: rng.normal(0.0, 2.0, (INPUTS, UNITS)),
    "one takes everything": lambda rng: np.ones((INPUTS, UNITS)) * np.r_[9.0, np.ones(UNITS - 1)],
    "all against the data": lambda rng: -rng.random((INPUTS, UNITS)),
    "at samples": lambda rng: (X[:UNITS] / np.linalg.norm(X[:UNITS], axis=1)[:, None]).T,
}


def layer_of(kernel: np.ndarray, p: float = 2.0) -> Any:
    return hebbian(kernel.astype("float32"), KrotovHopfield(p), name="hidden").layers[-1]


def dead(layer: Any, data: np.ndarray = X) -> int:
    return int(np.count_nonzero(win_counts(layer, data) == 0))


@pytest.mark.few(6, rest="thorough")
@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, 4.5])
@pytest.mark.parametrize("kind", KERNELS)
def test_fewer_are_dead_never_more(kind: str, p: float) -> None:
    for seed in range(3):
        layer = layer_of(KERNELS[kind](np.random.default_rng(seed)), p)
        before, kernel = dead(layer), array(layer.kernel)
        changed = reseed(layer, X, seed=seed)
        assert dead(layer) < before if changed["hidden"] else dead(layer) == before
        moved = np.any(array(layer.kernel) != kernel, axis=0)
        assert np.count_nonzero(moved) == changed["hidden"]
        assert not np.any(moved & (win_counts(layer_of(kernel, p), X) > 0)), "a unit that won"


@pytest.mark.parametrize("p", [2.0, 3.0])
def test_all_come_to_win(p: float) -> None:
    """Beside units that have converged, which is when it matters."""
    kernel = -2.0 * np.random.default_rng(0).random((INPUTS, UNITS))
    kernel[:, :8] = X[:8].T / np.sum(X[:8] ** p, axis=1) ** (1.0 / p)
    layer = layer_of(kernel, p)
    before = dead(layer)
    assert before >= UNITS - 8
    assert reseed(layer, X, noise=0.01) == {"hidden": before}
    assert dead(layer) <= 2


def test_new_units_are_near_samples_outside_of_the_sphere() -> None:
    winner = X.mean(axis=0) / np.linalg.norm(X.mean(axis=0))
    kernel = np.concatenate([winner[:, None], np.full((INPUTS, UNITS - 1), -0.01)], axis=1)
    layer = layer_of(kernel)
    assert reseed(layer, X, norm=1.3, noise=0.05) == {"hidden": UNITS - 1}
    new = array(layer.kernel)[:, 1:].astype("float64")
    np.testing.assert_allclose(np.sum(new**2, axis=0), 1.3, rtol=1e-5)
    cosines = (X / np.linalg.norm(X, axis=1)[:, None]) @ (new / np.linalg.norm(new, axis=0))
    assert np.all(cosines.max(axis=0) > 0.99)
    assert np.all(cosines.max(axis=0) < 1.0 - 1e-5), "noise"
    assert len(np.unique(cosines.argmax(axis=0))) == UNITS - 1, "samples of their own"


def test_a_unit_still_on_its_way_is_beaten_at_one_sample() -> None:
    """A long winner, as early in training: the new units are as long as it takes."""
    kernel = np.concatenate([np.ones((INPUTS, 1)), np.full((INPUTS, UNITS - 1), -0.01)], axis=1)
    layer = layer_of(kernel)
    changed = reseed(layer, X, noise=0.01)["hidden"]
    assert changed > 0
    norms = np.sum(np.square(array(layer.kernel)), axis=0)[1:]
    assert np.count_nonzero(norms > 2.0) == changed
    assert dead(layer) < UNITS - 1


def test_all_units_start_at_samples() -> None:
    layer = layer_of(KERNELS["inside of the sphere"](np.random.default_rng(0)), p=3.0)
    assert reseed(layer, X, units="all", norm=1.2, noise=0.05) == {"hidden": UNITS}
    norms = np.sum(np.abs(array(layer.kernel).astype("float64")) ** 3, axis=0)
    np.testing.assert_allclose(norms, 1.2, rtol=1e-5)
    assert dead(layer) == 0


@pytest.mark.filterwarnings("ignore:The units of layer")
@pytest.mark.filterwarnings("ignore:Only")
@pytest.mark.skipif(BACKEND != "tensorflow", reason="the battery of the others is the layer's")
def test_training_goes_on_with_more_units() -> None:
    """Units that start inside of the sphere stay dead; started anew they converge."""
    start = keras.initializers.RandomNormal(stddev=0.02, seed=0)
    hidden = layers.HebbianDense(UNITS, kernel_initializer=start, name="hidden")
    encoder = keras.Sequential([keras.Input((INPUTS,)), hidden])
    options: dict[str, Any] = {"batch_size": 20, "verbose": 0}
    pretrain(encoder, X, epochs=10, step_size=0.05, **options)
    before = dead(hidden)
    assert before > UNITS // 2
    assert reseed(encoder, X)["hidden"] > 0
    between = dead(hidden)
    pretrain(encoder, X, epochs=10, step_size=0.01, **options)
    assert between < before
    assert dead(hidden) < before // 2
    won = win_counts(hidden, X) > 0
    norms = np.sum(np.square(array(hidden.kernel)), axis=0)
    assert np.all(np.abs(norms[won] - 1.0) < 0.2)


def test_encoders_are_treated_layer_by_layer() -> None:
    """The second layer by what the first one sends up after it has changed."""
    first = layers.HebbianDense(UNITS, activation="relu", name="first")
    second = layers.HebbianDense(12, name="second")
    encoder = keras.Sequential([keras.Input((INPUTS,)), first, second])
    first.kernel.assign(KERNELS["inside of the sphere"](np.random.default_rng(0)))
    second.kernel.assign(-np.abs(probe((UNITS, 12))))
    assert sorted(reseed(encoder, X)) == ["first", "second"]
    features = array(first(X))
    assert dead(first) < UNITS
    assert convergence_report(second, features)["dead"] < 11 / 12


def test_the_seed_decides() -> None:
    kernels = []
    for seed in (0, 0, 1):
        layer = layer_of(KERNELS["inside of the sphere"](np.random.default_rng(0)))
        reseed(layer, X, seed=seed)
        kernels.append(array(layer.kernel))
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert np.any(kernels[0] != kernels[2])


def with_nan() -> np.ndarray:
    x = X.copy()
    x[3, 4] = np.nan
    return x


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (with_nan(), {}, "`data` must be finite"),
        (X[:, :19], {}, r"`(data|inputs)` must be .*Received"),
        (np.array([["a"] * INPUTS]), {}, "`data` must be numbers"),
        (X, {"norm": 1.0}, "`norm`.*greater than 1.*Received: norm=1.0"),
        (X, {"noise": -0.1}, "`noise`.*at least 0.*Received: noise=-0.1"),
        (X, {"seed": -1}, "`seed`.*Received: seed=-1"),
        (X, {"units": "some"}, "`units`.*'dead', 'all'.*Received: units='some'"),
        (X[:5], {"units": "all"}, r"`data`.*as units \(24\).*Received: data=5"),
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_bad_input(data: np.ndarray, options: dict[str, Any], message: str, whole: bool) -> None:
    encoder = hebbian(probe((INPUTS, UNITS)), KrotovHopfield())
    with pytest.raises(ValueError, match=message):
        reseed(encoder if whole else encoder.layers[-1], data, **options)
    np.testing.assert_array_equal(array(encoder.layers[-1].kernel), probe((INPUTS, UNITS)))


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        keras.layers.Dense(3),
        layers.HebbianDense(3, plasticity.KrotovHopfield(), name="not_built"),
    ],
)
def test_bad_layer(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"`layer_or_encoder` must be .*Received"):
        reseed(wrong, X)
