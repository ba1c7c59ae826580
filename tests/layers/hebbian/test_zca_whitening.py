"""Whitening: what the outputs are, by which way, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers
from keras_local.models import to_plain
from tests.support import array, probe


def coloured(samples: int = 400) -> np.ndarray:
    return (probe((samples, 5)) @ probe((5, 5), 1) + 3.0).astype("float32")


def test_outputs_are_white_and_centred() -> None:
    layer, x = layers.ZCAWhitening(1e-6), coloured()
    layer.adapt(x)
    y = array(layer(x))
    np.testing.assert_allclose(y.mean(axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(y.T @ y / len(y), np.eye(5), atol=2e-2)


def test_the_shortest_way() -> None:
    """The matrix is symmetric and positive; epsilon damps weak directions."""
    x = probe((4000, 3)) * np.array([1.0, 0.1, 1e-4], "float32")
    layer = layers.ZCAWhitening(1e-2)
    layer.adapt(x)
    matrix = array(layer.matrix)
    np.testing.assert_allclose(matrix, matrix.T, rtol=1e-5, atol=1e-6)
    variances = x.var(axis=0)
    expected = (variances + 1e-2 * variances.mean()) ** -0.5
    np.testing.assert_allclose(np.diag(matrix), expected, rtol=1e-2)
    assert array(layer(x))[:, 2].std() < 0.01


def test_batches_are_as_one_array() -> None:
    x, whole, parts = coloured(), layers.ZCAWhitening(), layers.ZCAWhitening()
    whole.adapt(x)
    parts.adapt((batch, np.zeros(len(batch))) for batch in np.split(x, 4))
    np.testing.assert_allclose(array(parts.matrix), array(whole.matrix), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(array(parts.mean), array(whole.mean), rtol=1e-5)


def test_before_adaptation_nothing_changes() -> None:
    x = coloured()
    np.testing.assert_allclose(array(layers.ZCAWhitening()(x)), x, rtol=1e-6)


def test_saving_and_plain_form(tmp_path: Path) -> None:
    x = coloured()
    layer = layers.ZCAWhitening()
    layer.adapt(x)
    model = keras.Sequential([keras.Input((5,)), layer])
    expected = model.predict(x, verbose=0)
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(restored.predict(x, verbose=0), expected)
    plain = to_plain(model)
    assert [type(each).__name__ for each in plain.layers] == ["InputLayer", "Dense"]
    np.testing.assert_allclose(plain.predict(x, verbose=0), expected, atol=1e-4)


WRONG: list[tuple[Any, str]] = [
    (np.ones((5,)), "data"),
    (np.ones((1, 5)), "data"),
    (np.ones((9, 5)), "data"),
    (np.full((9, 5), np.nan), "data"),
    (probe((9, 4)), "data"),
    ([], "data"),
]


@pytest.mark.parametrize(("data", "name"), WRONG)
def test_bad_data(data: Any, name: str) -> None:
    layer = layers.ZCAWhitening()
    layer.build((None, 5))
    with pytest.raises(ValueError, match=f"`{name}` must be.*Received"):
        layer.adapt(data)
    np.testing.assert_array_equal(array(layer.matrix), np.eye(5))


@pytest.mark.parametrize("epsilon", [0.0, -1.0, "1"])
def test_bad_epsilon(epsilon: Any) -> None:
    with pytest.raises(ValueError, match=r"`epsilon` must be.*Received"):
        layers.ZCAWhitening(epsilon)


def images() -> np.ndarray:
    """Smooth images: neighbours are alike."""
    x = probe((3000, 6, 6, 1))
    for axis in (1, 2):
        x = x + 0.7 * np.roll(x, 1, axis) + 0.7 * np.roll(x, -1, axis)
    return x


def neighbours(x: np.ndarray) -> float:
    return float(np.corrcoef(x[:, 2, 2, 0], x[:, 2, 3, 0])[0, 1])


@pytest.mark.parametrize("built", [False, True])
def test_images_are_whitened_as_a_whole(built: bool, tmp_path: Path) -> None:
    x, layer = images(), layers.ZCAWhitening(1e-5)
    assert neighbours(x) > 0.6
    if built:
        layer.build((None, 6, 6, 1))
    layer.adapt(x)
    y = array(layer(x))
    assert y.shape == x.shape
    assert abs(neighbours(y)) < 0.02
    flat = layers.ZCAWhitening(1e-5)
    flat.adapt(x.reshape(-1, 36))
    np.testing.assert_allclose(y.reshape(-1, 36), array(flat(x.reshape(-1, 36))), atol=1e-5)
    model = keras.Sequential([keras.Input((6, 6, 1)), layer])
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(restored.predict(x[:9], verbose=0), y[:9], atol=1e-5)
    form = layer.plain_form()
    dense = form.layer_class.from_config(form.config)
    rows = form.before(keras.ops.convert_to_tensor(x[:9]))
    outputs = dense(rows)
    dense.set_weights(form.weights)
    assert outputs.shape == (9, 36)
    np.testing.assert_allclose(array(form.behind(dense(rows), rows)), y[:9], atol=1e-4)


def test_one_axis_of_a_sequence() -> None:
    x = coloured(400).reshape(80, 5, 5)
    layer, rows = layers.ZCAWhitening(flatten=False), layers.ZCAWhitening()
    layer.adapt(x)
    rows.adapt(x.reshape(-1, 5))
    np.testing.assert_allclose(
        array(layer(x)).reshape(-1, 5), array(rows(x.reshape(-1, 5))), atol=1e-5
    )


def test_files_of_one_axis_still_load() -> None:
    config = layers.ZCAWhitening(1e-2).get_config()
    del config["flatten"]
    assert layers.ZCAWhitening.from_config(config).flatten is False


def test_images_of_another_shape() -> None:
    layer = layers.ZCAWhitening()
    layer.build((None, 6, 6, 1))
    for shape in ((10, 6, 5, 1), (10, 36), (10, 1, 6, 6, 1)):
        with pytest.raises(ValueError, match=r"`data` must be of shape \(samples"):
            layer.adapt(probe(shape))
    with pytest.raises(ValueError, match="All axes of the inputs but the batch must be defined"):
        layers.ZCAWhitening().build((None, None, 6, 1))
