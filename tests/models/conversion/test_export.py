"""The SavedModel: every weight once, served where this package is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import dynamics, layers
from keras_local.activations import Ramp, RePU
from keras_local.models import export, readout, to_plain
from tests.plasticity.encoders import assert_close
from tests.support import BACKEND, array, probe, weights_of

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="SavedModel is TensorFlow's")

# In a process of its own: first without Keras, then with Keras; never with this package.
SERVE = """
import json, sys
import numpy as np
sys.modules["keras_local"] = None
sys.modules["keras"] = None
import tensorflow as tf
folder, names = sys.argv[1], sys.argv[2:]
for name in names:
    served = tf.saved_model.load(f"{folder}/{name}")
    np.save(f"{folder}/{name}.served.npy", served.serve(np.load(f"{folder}/{name}.npy")))
del sys.modules["keras"]
import keras
for name in names:
    model = keras.models.load_model(f"{folder}/{name}.keras")
    loaded = model.predict(np.load(f"{folder}/{name}.npy"), verbose=0)
    np.save(f"{folder}/{name}.loaded.npy", loaded)
try:
    import keras_local
except ImportError:
    print(json.dumps(names))
"""


def feedback_net() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.FeedbackConv2D(3, 3, activation=Ramp(0.8)),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(6, activation=RePU(2.0)),
            layers.FeedbackDense(3, feedback="feedback_alignment"),
        ]
    )


def nested_net() -> keras.Model:
    common = layers.FeedbackDense(6, activation="tanh", name="common")
    inner_input = keras.Input((6,))
    inner = keras.Model(inner_input, common(keras.ops.sin(common(inner_input))))
    inputs = keras.Input((6,))
    return keras.Model(inputs, layers.HebbianDense(3)(inner(inputs)) * 0.5)


def classifier() -> keras.Model:
    kernel = np.abs(probe((64, 7), 5))
    kernel /= np.linalg.norm(kernel, axis=0)
    layer = layers.HebbianDense(7)
    encoder = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), layer])
    layer.kernel.assign(kernel)
    model = readout(encoder, classes=3)
    model.fit(np.abs(probe((30, 8, 8, 1))), np.arange(30) % 3, epochs=2, verbose=0)
    return model


MODELS: dict[str, tuple[Callable[[], keras.Model], tuple[int, ...]]] = {
    "feedback_net": (feedback_net, (8, 8, 2)),
    "nested_net": (nested_net, (6,)),
    "classifier": (classifier, (8, 8, 1)),
}


@pytest.mark.thorough
def test_served_where_the_package_is_not(tmp_path: Path) -> None:
    expected = {}
    for name, (make, shape) in MODELS.items():
        model, x = make(), np.abs(probe((5, *shape), 9))
        expected[name] = model.predict(x, verbose=0)
        assert np.std(expected[name]) > 1e-3
        np.save(tmp_path / f"{name}.npy", x)
        export(model, tmp_path / name)
        to_plain(model).save(tmp_path / f"{name}.keras")
    process = subprocess.run(
        [sys.executable, "-c", SERVE, str(tmp_path), *MODELS],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"},
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert json.loads(process.stdout.splitlines()[-1]) == list(MODELS)
    for name, scores in expected.items():
        for kind in ("served", "loaded"):
            actual = np.load(tmp_path / f"{name}.{kind}.npy")
            assert_close(actual, scores.astype("float64"), 1e-6)


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", ["feedback", "readout"])
def test_every_weight_is_written_once(kind: str, tmp_path: Path) -> None:
    """Half a million parameters; the feedback kernels would be as many again."""
    if kind == "feedback":
        model = keras.Sequential(
            [
                keras.Input((784,)),
                layers.FeedbackDense(512, activation="relu"),
                layers.FeedbackDense(240, activation="relu", feedback="feedback_alignment"),
                layers.FeedbackDense(10),
            ]
        )
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(probe((8, 784)), np.arange(8), verbose=0)
    else:
        model = readout(keras.Sequential([keras.Input((784,)), layers.HebbianDense(650)]), 10)
    parameters = sum(weight.nbytes for weight in weights_of(to_plain(model)))
    assert 2e6 < parameters < 3e6
    export(model, tmp_path / "served")
    assert parameters <= size(tmp_path / "served") <= 1.05 * parameters


def test_any_batch_size(tmp_path: Path) -> None:
    import tensorflow as tf

    model = feedback_net()
    export(model, os.fspath(tmp_path / "deep" / "served"))
    served = tf.saved_model.load(tmp_path / "deep" / "served")
    for count in (1, 4, 7):
        x = probe((count, 8, 8, 2), count)
        scores = model.predict(x, verbose=0)
        assert_close(array(served.serve(x)), scores.astype("float64"), 1e-6)


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    import tensorflow as tf

    one, other = keras.Input((4,), name="one"), keras.Input((3,), name="other")
    merged = keras.layers.Concatenate()([one, other])
    model = keras.Model([one, other], [layers.FeedbackDense(2)(merged), merged])
    export(model, tmp_path / "served")
    served = tf.saved_model.load(tmp_path / "served")
    x = [probe((5, 4)), probe((5, 3), 1)]
    expected = model.predict(x, verbose=0)
    actual = served.serve(x)
    for a, b in zip(actual, expected, strict=True):
        assert_close(array(a), b.astype("float64"), 1e-6)


def test_the_model_is_as_before(tmp_path: Path) -> None:
    model = feedback_net()
    model.compile("sgd", "mse", jit_compile=False)
    before = weights_of(model)
    export(model, tmp_path / "served")
    for one, other in zip(weights_of(model), before, strict=True):
        np.testing.assert_array_equal(one, other)
    losses = model.fit(probe((8, 8, 8, 2)), probe((8, 3)), epochs=2, verbose=0).history["loss"]
    assert losses[0] != losses[1]


def test_the_served_weights_are_copies(tmp_path: Path) -> None:
    import tensorflow as tf

    model, x = feedback_net(), probe((3, 8, 8, 2))
    scores = model.predict(x, verbose=0)
    export(model, tmp_path / "served")
    for weight in model.trainable_weights:
        weight.assign(weight + 1.0)
    served = tf.saved_model.load(tmp_path / "served")
    assert_close(array(served.serve(x)), scores.astype("float64"), 1e-6)


@pytest.mark.parametrize("model", [None, keras.layers.Dense(3), keras.Sequential()])
def test_bad_input(model: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`model`.*Received"):
        export(model, tmp_path / "served")
    assert not list(tmp_path.iterdir())


def test_a_network_serves_its_free_phase(tmp_path: Path) -> None:
    """It has no graph of layers: `to_plain` says where to go, `export` writes it."""
    import tensorflow as tf

    network, x = dynamics.EquilibriumNetwork([4, 5, 3]), np.abs(probe((6, 4)))
    export(network, tmp_path / "served")
    served = tf.saved_model.load(tmp_path / "served")
    np.testing.assert_allclose(array(served.serve(x)), array(network(x)), atol=1e-6)
    with pytest.raises(ValueError, match=r"`model` must be .*`models.export`.*EquilibriumNetwork"):
        to_plain(network)
