"""Files that older versions wrote: they load, predict the same, and learn the same.

`make.py` beside this file says how they were written.
"""

from __future__ import annotations

import functools
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import keras_local  # noqa: F401
from tests.golden import make
from tests.support import tensorflow_only, weights_of

FILES = Path(__file__).parent / "files"
NAMES = sorted(path.stem for path in FILES.glob("*.keras"))
WITH_WEIGHTS = sorted(path.name.removesuffix(".weights.h5") for path in FILES.glob("*.weights.h5"))

pytestmark = tensorflow_only


@functools.cache
def values() -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for path in sorted(FILES.glob("*.npz")):
        with np.load(path) as stored:
            found.update(stored)
    return found


def stored(name: str, which: str) -> list[np.ndarray]:
    found = []
    while (value := values().get(f"{name}/{which}/{len(found)}")) is not None:
        found.append(value)
    return found


def load(name: str) -> keras.Model:
    model: keras.Model = keras.saving.load_model(FILES / f"{name}.keras")
    model.jit_compile = False
    return model


def outputs(model: keras.Model, name: str) -> np.ndarray:
    # A network's or readout's `predict` checks and prepares; all of it has to be as it was.
    return np.asarray(model.predict_on_batch(values()[f"{name}/inputs"]))


def assert_same(found: list[Any], expected: list[Any], tolerance: float) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def test_every_case_has_its_file() -> None:
    assert sorted(make.CASES) == NAMES
    assert sorted(make.WEIGHTS_TOO) == WITH_WEIGHTS


NO_FILE = {
    "keras_local>ConvSynapses": "held by a network, whose file has its weights",
    "keras_local>LabelAccuracy": "a metric that `compile` of a network makes by itself",
    "keras_local>MeanRate": "made by the rule that needs it, from the arguments of that",
    "keras_local>Memory": "held by a network, whose file has its weights",
    "keras_local>Synapses": "held by a network, whose file has its weights",
    "keras_local>WrappedPlasticity": "an interface",
}
"""Registered classes that stand in no config."""


@functools.cache
def classes_in_file(name: str) -> frozenset[str]:
    """The registered names in the config of a file."""
    with zipfile.ZipFile(FILES / f"{name}.keras") as archive:
        return classes_in_config(json.loads(archive.read("config.json")))


def classes_in_config(config: Any) -> frozenset[str]:
    """The registered names in a config."""
    return frozenset(re.findall(r'"(keras_local>\w+)"', json.dumps(config, default=str)))


def test_every_class_that_is_saved_has_a_file() -> None:
    """A new layer, rule or network: add its case to `make.py`, and run `-m tests.golden.make`."""
    known = {
        name
        for name, kind in keras.saving.get_custom_objects().items()
        if name.startswith("keras_local>") and kind.__module__.startswith("keras_local.")
    }
    assert sorted(known.difference(NO_FILE, *map(classes_in_file, NAMES))) == []


def test_the_files_are_small() -> None:
    assert sum(path.stat().st_size for path in FILES.iterdir()) < 3_000_000


def test_every_registered_name_is_there_still() -> None:
    known = keras.saving.get_custom_objects()
    assert [name for name in values()["registered"] if name not in known] == []


@pytest.mark.few(20)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in make.EACH_TIME else pytest.mark.daily)
        for name in NAMES
    ],
)
def test_it_loads_and_predicts_the_same(name: str) -> None:
    model = load(name)
    assert_same(weights_of(model), stored(name, "before"), 0.0)
    assert_same([outputs(model, name)], [values()[f"{name}/outputs"]], 2e-5)


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_its_weights_load(name: str) -> None:
    model = load(name)
    model.set_weights([np.ones_like(weight) for weight in model.get_weights()])
    model.load_weights(FILES / f"{name}.weights.h5")
    assert_same(weights_of(model), stored(name, "before"), 0.0)


@pytest.mark.daily
@pytest.mark.few(24)
@pytest.mark.parametrize("name", sorted(set(NAMES) - set(make.SHOWS_ONLY)))
def test_it_learns_the_same(name: str) -> None:
    model = load(name)
    make.step(name, model, values()[f"{name}/inputs"], values()[f"{name}/labels"])
    after = stored(name, "after")
    assert_same(weights_of(model), after, 2e-5)
    if name not in ("rule_detached",):
        assert any(np.any(a != b) for a, b in zip(after, stored(name, "before"), strict=True))
