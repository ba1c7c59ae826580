"""Losses of blocks: worked values, the oracle, invariants, heads, refusals."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local.models.local import LocalLoss, Mixed, Prediction, Similarity
from keras_local.models.local import heads as local_heads
from keras_local.models.local.losses import block_loss
from keras_local.models.local.similarity import features, similarity
from tests import oracles_local_losses as oracle
from tests.support import array, probe, value_and_gradients

ROWS = np.array([[1, 2, 4], [2, 1, 0], [0, 0, 3]], "float32")
LABELS = np.array([0, 1, 0])


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes, dtype="float32")[labels]


def test_worked_example_of_rows() -> None:
    targets = one_hot(LABELS, 3)
    found = array(similarity(ROWS))
    np.testing.assert_allclose(found[0, 1:], [-0.981981, 0.944911], atol=1e-6)
    np.testing.assert_allclose(found[1, 2], -0.866025, atol=1e-6)
    np.testing.assert_allclose(array(similarity(targets))[0], [1, -0.5, 1], atol=1e-6)
    loss = Similarity(projection=False)
    value, (gradient,) = value_and_gradients(lambda h: loss(None, h, targets), ROWS)
    assert value == pytest.approx(0.0820699, abs=1e-7)
    expected = [[-0.0120, 0.0180, -0.0060], [-0.0352, 0.0703, -0.0352], [-0.0212, 0.0212, 0]]
    np.testing.assert_allclose(gradient, expected, atol=5e-5)


def test_worked_example_of_the_mix() -> None:
    loss = Mixed([(0.01, Prediction()), (0.99, Similarity(projection=False))])
    head = loss.head(keras.KerasTensor((None, 3)), 3)
    head.build((None, 3))
    value = loss(head, keras.ops.convert_to_tensor(ROWS), one_hot(LABELS, 3))
    assert float(value) == pytest.approx(0.0922353, abs=1e-6)
    assert block_loss("loss", "pred_sim") == Mixed([(0.01, Prediction()), (0.99, Similarity())])


def test_worked_example_of_maps() -> None:
    first = [[1, 2, 3, 4], [0, 0, 0, 2], [1, 0, 0, 1], [0, 0, 0, 0]]
    second = [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 4, 0, 4]]
    maps = np.array([first, second], "float32").transpose(0, 2, 1).reshape(2, 2, 2, 4)
    deviations = array(features(keras.ops.convert_to_tensor(maps)))
    expected = [[1.290994, 1, 0.577350, 0], [0, 0, 0, 2.309401]]
    np.testing.assert_allclose(deviations, expected, atol=1e-6)
    loss = Similarity(projection=False)
    targets = one_hot(np.array([0, 1]), 2)
    value, (gradient,) = value_and_gradients(lambda h: loss(None, h, targets), maps)
    assert value == pytest.approx(0.010862, abs=1e-6)
    # A dead channel has no gradient, and no NaN.
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_target_of_two_classes_is_below_zero(classes: int) -> None:
    found = array(similarity(one_hot(np.arange(classes), classes)))
    np.testing.assert_allclose(found[0, 1], -1.0 / (classes - 1), atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 5), (5, 4, 4, 6), (5, 3, 3, 3), (5, 1, 4, 6)])
def test_similarity_agrees_with_the_oracle(shape: tuple[int, ...]) -> None:
    outputs, labels = probe(shape), np.arange(shape[0]) % 3
    value = Similarity(projection=False)(None, outputs, one_hot(labels, 3))
    assert float(value) == pytest.approx(oracle.similarity_loss(outputs, labels, 3), abs=1e-6)


def test_similarity_ignores_size_and_shift() -> None:
    targets = one_hot(np.arange(6) % 3, 3)
    loss = Similarity(projection=False)
    assert float(loss(None, 5.0 * targets + 2.0, targets)) == pytest.approx(0.0, abs=1e-12)
    outputs = probe((6, 5))
    _, (gradient,) = value_and_gradients(lambda h: loss(None, h, targets), outputs)
    centred = outputs - outputs.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(gradient.sum(axis=1), 0.0, atol=1e-7)
    np.testing.assert_allclose((gradient * centred).sum(axis=1), 0.0, atol=1e-7)


def test_a_dead_sample_has_no_gradient_and_counts_on_the_diagonal() -> None:
    outputs = probe((2, 4))
    outputs[1] = 0.0
    loss = Similarity(projection=False)
    targets = one_hot(np.array([0, 0]), 2)
    value, (gradient,) = value_and_gradients(lambda h: loss(None, h, targets), outputs)
    assert value == pytest.approx(3.0 / 4.0, abs=1e-6)
    np.testing.assert_array_equal(gradient[1], 0.0)
    assert np.isfinite(gradient).all()


def test_weights_of_samples() -> None:
    outputs, targets = probe((4, 5)), one_hot(np.array([0, 1, 0, 1]), 2)
    weights = np.array([1.0, 0.0, 2.0, 1.0], "float32")
    found = float(Similarity(projection=False)(None, outputs, targets, weights))
    wanted = 0.0
    labels = np.argmax(targets, axis=1)
    for i in range(4):
        for j in range(4):
            difference = oracle.correlation(outputs[i], outputs[j]) - (
                1.0 if labels[i] == labels[j] else -1.0
            )
            wanted += weights[i] * weights[j] * difference**2 / 16.0
    assert found == pytest.approx(wanted, abs=1e-6)
    loss = Prediction()
    head = loss.head(keras.KerasTensor((None, 5)), 2)
    head.build((None, 5))
    found = float(loss(head, keras.ops.convert_to_tensor(outputs), targets, weights))
    assert found == pytest.approx(np.log(2.0), abs=1e-6)


POOLS = [
    (128, 32, 4096, (8, 4), (0, 0), (4, 8)),
    (128, 32, 2048, (8, 8), (0, 0), (4, 4)),
    (128, 32, 1024, (16, 8), (0, 0), (2, 4)),
    (128, 28, 4096, (8, 4), (4, 0), (4, 7)),
    (128, 28, 2048, (8, 8), (4, 4), (4, 4)),
    (128, 28, 1024, (16, 8), (8, 4), (2, 4)),
    (512, 7, 4096, (4, 2), (2, 1), (2, 4)),
    (512, 7, 2048, (4, 4), (2, 2), (2, 2)),
    (512, 7, 1024, (8, 4), (4, 2), (1, 2)),
]


@pytest.mark.parametrize(("channels", "side", "limit", "window", "padding", "size"), POOLS)
def test_windows_of_the_prediction(
    channels: int,
    side: int,
    limit: int,
    window: tuple[int, int],
    padding: tuple[int, int],
    size: tuple[int, int],
) -> None:
    assert oracle.pooled_shape(channels, side, limit) == size
    assert local_heads.windows([side, side], channels, limit) == (list(window), list(padding))
    head = Prediction(limit).head(keras.KerasTensor((None, side, side, channels)), 10)
    head.build((None, side, side, channels))
    assert tuple(head.layers[-1].kernel.shape) == (channels * size[0] * size[1], 10)


def test_zeros_at_the_borders_count() -> None:
    maps = probe((2, 7, 7, 8))
    window, padding = local_heads.windows([7, 7], 8, 64)
    head = keras.Sequential(local_heads.pooled((None, 7, 7, 8), 64))
    expected = oracle.pooled(maps, tuple(window), tuple(padding)).reshape(2, -1)  # type: ignore[arg-type]
    np.testing.assert_allclose(array(head(maps)), expected, atol=1e-6)


def test_a_head_starts_at_the_logarithm_of_the_classes() -> None:
    loss = Prediction()
    head = loss.head(keras.KerasTensor((None, 4, 4, 3)), 10)
    head.build((None, 4, 4, 3))
    value, scores = loss.with_scores(
        head, keras.ops.convert_to_tensor(probe((5, 4, 4, 3))), one_hot(np.arange(5), 10), None
    )
    assert float(value) == pytest.approx(np.log(10.0), abs=1e-6)
    np.testing.assert_array_equal(array(scores), 0.0)


def count(layer: Any) -> int:
    return sum(int(np.prod(weight.shape)) for weight in layer.trainable_weights)


def test_larger_heads() -> None:
    c, classes = 6, 10
    normed = 2 * c
    hidden = 3 * (4 * c * 4 * c + 4 * c + 2 * 4 * c)
    last = 4 * c * classes + classes
    expected = {
        "mlp": hidden + last,
        "mlp-sr": 3 * (c * c + normed) + hidden + last,
        "cnn": 2 * (9 * c * c + c + normed) + normed + last,
    }
    for name, wanted in expected.items():
        head = Prediction(head=name).head(keras.KerasTensor((None, 10, 10, c)), classes)  # type: ignore[arg-type]
        head.build((None, 10, 10, c))
        assert count(head) == wanted, name
        assert tuple(head(probe((3, 10, 10, c))).shape) == (3, classes)


def test_windows_of_almost_equal_size() -> None:
    layer = local_heads.AdaptiveAveragePooling((3, 2))
    maps = probe((2, 7, 4, 5))
    rows = [maps[:, a:b].mean(axis=1) for a, b in ((0, 3), (2, 5), (4, 7))]
    expected = np.stack([row.reshape(2, 2, 2, 5).mean(axis=2) for row in rows], axis=1)
    np.testing.assert_allclose(array(layer(maps)), expected, atol=1e-6)


def test_biological_forms() -> None:
    shape = (None, 4, 4, 6)
    outputs = keras.ops.convert_to_tensor(probe((5, 4, 4, 6)))
    labels = np.array([0, 1, 2, 1, 0])
    loss = Prediction(bio=True)
    head = loss.head(keras.KerasTensor(shape), 3)
    names = sorted(weight.name for weight in head.trainable_weights)
    assert names == ["bias", "kernel"]
    value = float(loss(head, outputs, one_hot(labels, 3)))
    # All bits are predicted with probability one half at the start.
    assert value == pytest.approx(np.log(2.0), abs=1e-6)
    # The error to the block goes through fixed weights, though the readout is zero.
    maps = probe((5, 4, 4, 6))
    _, (gradient,) = value_and_gradients(lambda h: loss(head, h, one_hot(labels, 3)), maps)
    codes = array(head.codes)
    bits = (codes[labels] > 0).astype("float64")
    error = (0.5 - bits) / bits.size
    feedback = array(head.readout.feedback_kernel)
    np.testing.assert_allclose(gradient.reshape(5, -1), error @ feedback.T, atol=1e-7)
    bound = 1.0 / np.sqrt(4 * 4 * 6)
    assert 0.9 * bound < np.abs(feedback).max() <= bound
    similar = Similarity(bio=True)
    head = similar.head(keras.KerasTensor(shape), 3)
    assert not head.trainable_weights
    rows = oracle.rows_of(maps.astype("float64"))
    codes = array(head.codes).astype("float64")
    total = 0.0
    for i in range(5):
        for j in range(5):
            wanted = oracle.correlation(codes[labels[i]], codes[labels[j]])
            total += (oracle.correlation(rows[i], rows[j]) - wanted) ** 2 / 25.0
    assert float(similar(head, outputs, one_hot(labels, 3))) == pytest.approx(total, abs=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        Prediction(1024, keras.losses.CategoricalFocalCrossentropy(from_logits=True)),
        Prediction(head="mlp-sr"),
        Similarity(False),
        Mixed([(0.99, Prediction(bio=True)), (0.01, Similarity(bio=True))]),
    ],
)
def test_configs(loss: LocalLoss) -> None:
    config = keras.saving.serialize_keras_object(loss)
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == loss.get_config()
    assert again.additive == loss.additive


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: Prediction(0), "limit"),
        (lambda: Prediction(2**70), "limit"),
        (lambda: Prediction(loss="mse"), "loss"),  # type: ignore[arg-type]
        (lambda: Prediction(loss=keras.losses.MeanSquaredError), "loss"),  # type: ignore[arg-type]
        (lambda: Prediction(head="mlp_sr"), "head"),  # type: ignore[arg-type]
        (lambda: Prediction(bio=1), "bio"),  # type: ignore[arg-type]
        (lambda: Prediction(bio=True, head="cnn"), "head"),
        (lambda: Similarity(projection=1), "projection"),  # type: ignore[arg-type]
        (lambda: Similarity(True, bio=True), "projection"),
        (lambda: Mixed([]), "parts"),
        (lambda: Mixed([(-1.0, "pred")]), "parts"),
        (lambda: Mixed("pred"), "parts"),  # type: ignore[arg-type]
        (lambda: Mixed([(1.0, "bred")]), "parts"),  # type: ignore[list-item]
        (lambda: block_loss("loss", "predsim"), "loss"),
        (lambda: block_loss("loss", None), "loss"),
        (lambda: block_loss("loss", Prediction), "loss"),
        (lambda: block_loss("loss", keras.losses.MeanSquaredError()), "loss"),
    ],
)
def test_refusals(make: Any, argument: str) -> None:
    with pytest.raises(ValueError, match=rf"^`{argument}` must be"):
        make()
