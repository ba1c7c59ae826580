"""Locally connected layers without this package: slices and an Einstein sum."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from keras_local import layers
from keras_local.activations import Ramp
from keras_local.models import to_plain
from tests.support import BACKEND, cases, probe

pytestmark = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="conversion is tested on one backend"
)

NETS = {
    "1d": (
        (9, 2),
        [
            layers.LocallyConnected1D(3, 3, 2, activation=Ramp()),
            layers.LocallyConnected1D(2, 2, padding="same", use_bias=False),
        ],
    ),
    "2d": (
        (7, 6, 2),
        [
            layers.LocallyConnected2D(3, (3, 2), (2, 1), "same", activation="relu"),
            layers.LocallyConnected2D(4, 2, 2, feedback="symmetric", kernel_regularizer="l2"),
            layers.LocallyConnected2D(2, 1, bias_constraint="non_neg"),
        ],
    ),
    "2d-channels-first": (
        (2, 7, 6),
        [
            layers.LocallyConnected2D(3, (3, 2), 2, "same", "channels_first", activation=Ramp()),
            layers.LocallyConnected2D(4, 2, data_format="channels_first"),
        ],
    ),
}


@pytest.mark.parametrize("net", cases(NETS, daily=["2d"]))
def test_same_predictions_without_this_package(net: str, tmp_path: Path) -> None:
    shape, parts = NETS[net]
    model = keras.Sequential([keras.Input(shape), *parts, keras.layers.Flatten()])
    model.compile("sgd", "mse", jit_compile=False)
    x = probe((16, *shape))
    model.fit(x, probe((16, *model.output_shape[1:]), 1), verbose=0)
    for layer in parts:
        if layer.bias is not None:
            layer.bias.assign(probe(layer.bias.shape, 4))
    plain = to_plain(model)
    expected = model.predict(x, verbose=0)
    assert expected.std() > 0.1
    np.testing.assert_allclose(plain.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-5)
    kinds = [type(layer).__name__ for layer in plain.layers]
    assert kinds.count("EinsumDense") == len(parts)
    assert "keras_local" not in plain.to_json()
    weights = [w for layer in parts for w in (layer.kernel, layer.bias) if w is not None]
    assert [tuple(w.shape) for w in plain.weights] == [tuple(w.shape) for w in weights]
    plain.save(tmp_path / "plain.keras")
    restored = keras.saving.load_model(tmp_path / "plain.keras")
    np.testing.assert_array_equal(restored.predict(x, verbose=0), plain.predict(x, verbose=0))
