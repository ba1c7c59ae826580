"""Every row through every way of writing it down: what comes back is the same net."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.battery import cells
from tests.battery.rows import Row
from tests.battery.table import PARAMETERS
from tests.support import BACKEND, array, largest_difference, weights_of

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="a battery for TensorFlow")


@pytest.fixture(params=PARAMETERS)
def row(request: pytest.FixtureRequest) -> Row:
    return cells.find(request.param)


def check_continued_training(model: keras.Model, restored: keras.Model, row: Row) -> None:
    """Both predict the same and, trained on, still do: bit for bit."""
    inputs, _ = cells.data(row)
    np.testing.assert_array_equal(
        model.predict(inputs, verbose=0), restored.predict(inputs, verbose=0)
    )
    before = weights_of(model)
    assert cells.fit(model, row, 1) == cells.fit(restored, row, 1)
    assert largest_difference(before, weights_of(model)) > 1e-3
    for ours, theirs in zip(weights_of(model), weights_of(restored), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def leaves(model: keras.Model) -> list[keras.layers.Layer]:
    """All layers that hold no others: a model's config speaks of names and calls as well."""
    return [layer for layer in model._flatten_layers() if not list(layer._layers)]


def without_names(config: Any) -> Any:
    """A config without the names that Keras gives to the layers inside of a layer."""
    if isinstance(config, dict):
        return {key: without_names(value) for key, value in config.items() if key != "name"}
    return config


@pytest.mark.few(2)
def test_keras_file(row: Row, tmp_path: Path) -> None:
    model = cells.reference(row.id).model
    path = tmp_path / "model.keras"
    model.save(path)
    restored = keras.saving.load_model(path)
    # Graph mode is an argument of `compile` that the file does not keep.
    restored.jit_compile = False
    assert [type(layer) for layer in restored.layers] == [type(layer) for layer in model.layers]
    assert [w.name for w in restored.weights] == [w.name for w in model.weights]
    for layer, other in zip(leaves(restored), leaves(model), strict=True):
        assert without_names(layer.get_config()) == without_names(other.get_config())
    check_continued_training(model, restored, row)


@pytest.mark.few(2)
def test_weights_file(row: Row, tmp_path: Path) -> None:
    model = cells.reference(row.id).model
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    restored = cells.build(row)
    assert largest_difference(weights_of(restored), weights_of(model)) > 1e-2
    cells.compiled(restored, row)
    restored.optimizer.build(restored.trainable_variables)
    restored.load_weights(path)
    check_continued_training(model, restored, row)


@pytest.mark.few(3)
def test_served(row: Row, tmp_path: Path) -> None:
    import tensorflow as tf

    model = cells.reference(row.id).model
    inputs, _ = cells.data(row)
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    outputs = model.predict(inputs, verbose=0)
    np.testing.assert_allclose(array(served.serve(inputs)), outputs, rtol=1e-6, atol=1e-6)
    # Another batch size than the one of the training.
    np.testing.assert_allclose(array(served.serve(inputs[:3])), outputs[:3], rtol=1e-5, atol=1e-6)
    assert outputs.std() > 1e-2
