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
