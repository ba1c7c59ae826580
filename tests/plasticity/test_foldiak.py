"""Foldiak's rule: outputs that are settled, and depend on weights that the rule learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers
from keras_local.models import pretrain, to_plain
from keras_local.plasticity import Foldiak
from tests import oracles_hebbian as oracle
from tests.plasticity.encoders import fit_steps
from tests.support import array, probe, tensorflow_only


def bars(samples: int) -> np.ndarray:
    """Images of 5 by 5 pixels in which each row and each column is on with probability .15."""
    rng = np.random.default_rng(0)
    on = rng.random((samples, 10)) < 0.15
    return np.maximum(on[:, :5, None], on[:, None, 5:]).astype("float32").reshape(-1, 25)


def settled_layer(units: int = 6, inputs: int = 5) -> layers.HebbianDense:
    layer = layers.HebbianDense(units, Foldiak(0.2, steps=20, step=0.3))
    layer.build((None, inputs))
    rng = np.random.default_rng(3)
    lateral = -rng.uniform(size=(units, units)) * (1.0 - np.eye(units))
    layer.own_weights[0].assign(lateral + lateral.T)
    layer.own_weights[1].assign(rng.uniform(-0.5, 0.5, units))
    return layer


def expected_outputs(layer: Any, x: np.ndarray) -> np.ndarray:
    return oracle.foldiak_answers(
        x, array(layer.kernel), *(array(weight) for weight in layer.own_weights), 20, 0.3
    )


def test_the_layer_returns_settled_answers() -> None:
    layer, x = settled_layer(), probe((40, 5))
    expected = expected_outputs(layer, x)
    linear = (x @ array(layer.kernel) > array(layer.own_weights[1])).astype("float32")
    assert np.any(expected != linear), "inhibition decides"
    np.testing.assert_array_equal(array(layer(x)), expected)


@pytest.mark.slow
def test_each_bar_gets_a_unit() -> None:
    """Ten units and ten bars: every unit learns a bar of its own, and is active as often."""
    start = np.random.default_rng(1).random((25, 10))
    layer = layers.HebbianDense(10, Foldiak(0.15, steps=30))
    model = keras.Sequential([keras.Input((25,)), layer])
    layer.kernel.assign(start / np.linalg.norm(start, axis=0))
    x = bars(2000)
    pretrain(model, x, epochs=20, batch_size=10, step_size=0.05, verbose=0)
    y = model.predict(x, verbose=0)
    np.testing.assert_allclose(y.mean(axis=0), 0.15, atol=0.04)
    templates = np.concatenate([np.repeat(np.eye(5), 5, axis=1), np.tile(np.eye(5), (1, 5))])
    kernel = array(layer.kernel)
    cosines = templates @ kernel / np.linalg.norm(kernel, axis=0) / np.sqrt(5.0)
    assert sorted(cosines.argmax(axis=0)) == list(range(10))
    assert np.min(cosines.max(axis=0)) > 0.8
    lateral = array(layer.own_weights[0])
    np.testing.assert_array_equal(np.diag(lateral), 0.0)
    assert np.max(lateral) <= 0.0
    np.testing.assert_allclose(lateral, lateral.T, atol=1e-5)


def test_the_next_layer_learns_from_settled_answers() -> None:
    below = settled_layer()
    model = keras.Sequential([keras.Input((5,)), below, layers.HebbianDense(4, "hebb")])
    below.trainable = False
    x, above = probe((20, 5)), model.layers[1]
    start = array(above.kernel)
    pretrain(model, x, epochs=1, batch_size=20, step_size=0.1, verbose=0)
    y = expected_outputs(below, x)
    np.testing.assert_allclose(
        array(above.kernel) - start, 0.1 * y.T @ (y @ start) / len(x), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", ["dense", "conv", "local"])
def test_plain_form_and_saving(kind: str, tmp_path: Path) -> None:
    make, shape = {
        "dense": (layers.HebbianDense, (5,)),
        "conv": (lambda units, rule: layers.HebbianConv2D(units, 2, plasticity=rule), (4, 4, 2)),
        "local": (
            lambda units, rule: layers.HebbianLocallyConnected2D(units, 2, plasticity=rule),
            (4, 4, 2),
        ),
    }[kind]
    layer = make(4, Foldiak(0.3, steps=10))
    model = keras.Sequential([keras.Input(shape), layer])
    x = probe((30, *shape))
    fit_steps(model, x, 0.2, 5)
    assert np.min(array(layer.own_weights[0])) < 0.0
    expected = model.predict(x, verbose=0)
    assert set(np.unique(expected)) == {0.0, 1.0}
    plain = to_plain(model)
    assert {type(each).__module__.split(".")[0] for each in plain.layers} == {"keras"}
    np.testing.assert_array_equal(plain.predict(x, verbose=0), expected)
    for each, name in ((plain, "plain"), (model, "model")):
        each.save(tmp_path / f"{name}.keras")
        restored = keras.saving.load_model(tmp_path / f"{name}.keras")
        np.testing.assert_array_equal(restored.predict(x, verbose=0), expected)


@tensorflow_only
def test_onnx_file_has_one_input(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    model, x = keras.Sequential([keras.Input((5,)), settled_layer()]), probe((12, 5))
    plain = to_plain(model)
    plain(x)
    plain.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    (inputs,) = session.get_inputs()
    (outputs,) = session.run(None, {inputs.name: x})
    np.testing.assert_array_equal(outputs, model.predict(x, verbose=0))


def test_nothing_reports_convergence() -> None:
    layer = settled_layer()
    model = keras.Sequential([keras.Input((5,)), layer])
    histories = pretrain(model, probe((20, 5)), epochs=2, batch_size=10, step_size=0.1, verbose=0)
    assert "converged" not in histories[layer.name].history


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"probability": 0.0}, "probability"),
        ({"probability": 1.5}, "probability"),
        ({"lateral_rate": -0.1}, "lateral_rate"),
        ({"threshold_rate": None}, "threshold_rate"),
        ({"slope": 0.0}, "slope"),
        ({"steps": 0}, "steps"),
        ({"step": "0.1"}, "step"),
    ],
)
def test_bad_input(arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be.*Received"):
        Foldiak(**arguments)
