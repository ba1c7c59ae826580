"""Direct feedback over time: a token's error goes to the same token, whatever the length."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import layers, models
from tests.support import array, model_gradients, probe, tensorflow_only, train

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
KINDS: dict[str, Any] = {
    "error": layers.DirectFeedback,
    "sign": lambda **options: layers.DirectFeedback(sign=True, **options),
    "target": layers.DirectRandomTarget,
}


def tokenwise(shape: tuple[int | None, ...]) -> keras.Model:
    parts = [keras.layers.Dense(5, "tanh", name="one"), keras.layers.Dense(4, "tanh", name="two")]
    return keras.Sequential([keras.Input(shape), *parts, keras.layers.Dense(3, name="logits")])


def pair(kind: str) -> tuple[keras.Model, keras.Model]:
    """One model of sequences of any length, and the same one of tokens."""
    options = {"feedback_initializer": keras.initializers.RandomNormal(seed=1)}
    one = models.direct(tokenwise((None, 6)), KINDS[kind](**options))
    other = models.direct(tokenwise((6,)), KINDS[kind](**options))
    other.set_weights(one.get_weights())
    return one, other


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_equals_the_model_of_flattened_tokens(kind: str) -> None:
    """Two lengths in one model; no weight has a time axis."""
    sequences, tokens = pair(kind)
    assert all(len(weight.shape) < 3 for weight in sequences.weights)
    for steps in (4, 7):
        x = probe((5, steps, 6), steps)
        y = np.random.default_rng(steps).integers(0, 3, (5, steps))
        found = trained(sequences, x, y)
        expected = trained(tokens, x.reshape(-1, 6), y.reshape(-1))
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def trained(model: keras.Model, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    model.compile(keras.optimizers.SGD(0.5), LOSS, run_eagerly=True)
    model.train_on_batch(x, y)
    return [array(weight) for weight in model.weights]


@pytest.mark.parametrize("kind", KINDS)
def test_masked_tokens_teach_nothing(kind: str) -> None:
    """As if they were not there: their content is never seen, and the share is that of the rest."""
    _, tokens = pair(kind)
    x, keep = probe((5, 6, 6), 3), np.arange(6)[None] < np.array([6, 2, 5, 1, 3])[:, None]
    y = np.random.default_rng(0).integers(0, 3, (5, 6))
    inputs = keras.Input((None, 6))
    masked = keras.layers.Masking(-9.0)(inputs)
    model = keras.Model(inputs, tokenwise((None, 6))(masked))
    model = models.direct(model, KINDS[kind]())
    model.set_weights(tokens.get_weights())
    expected = trained(tokens, x[keep], y[keep])
    x[~keep] = -9.0
    for one, other in zip(trained(model, x, y), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_hidden_tensor_without_time_gets_the_sum() -> None:
    """By NumPy: `sum_t e_bt B`, at a tensor that all tokens share."""
    inputs = keras.Input((4, 6))
    pooled = keras.layers.GlobalAveragePooling1D()(inputs)
    hidden = keras.layers.Dense(5, name="hidden")(pooled)
    above = keras.layers.RepeatVector(4)(keras.ops.stop_gradient(hidden))
    logits = keras.layers.Dense(3)(keras.layers.Concatenate()([inputs, above]))
    layer = layers.DirectFeedback()
    model = keras.Model(inputs, layer([logits, hidden]))
    x, error = probe((2, 4, 6)), probe((2, 4, 3), 1)
    errors = keras.ops.convert_to_tensor(error)
    gradients, _ = model_gradients(model, x, lambda outputs: keras.ops.sum(outputs * errors))
    sent = error.sum(axis=1) @ array(layer.feedback_kernels[0])
    expected = x.mean(axis=1).T @ sent
    np.testing.assert_allclose(gradients["0:kernel"], expected, rtol=1e-4, atol=1e-5)


def test_another_time_axis_is_refused() -> None:
    inputs = keras.Input((8, 6))
    hidden = keras.layers.Conv1D(5, 2, strides=2, activation="tanh", name="half")(inputs)
    upper = keras.layers.UpSampling1D()(keras.ops.stop_gradient(hidden))
    logits = keras.layers.Dense(3)(upper)
    with pytest.raises(ValueError, match="`inputs` must be hidden tensors with the time axis"):
        layers.DirectFeedback()([logits, hidden])


@tensorflow_only
def test_another_time_axis_of_unknown_length_stops_the_step() -> None:
    inputs = keras.Input((None, 6))
    hidden = keras.layers.Conv1D(5, 2, strides=2, activation="tanh", name="half")(inputs)
    upper = keras.layers.UpSampling1D()(keras.ops.stop_gradient(hidden))
    logits = keras.layers.Dense(3)(upper)
    model = keras.Model(inputs, layers.DirectFeedback()([logits, hidden]))
    model.compile("sgd", LOSS, jit_compile=False)
    with pytest.raises(Exception, match="as many time steps as the logits"):
        model.train_on_batch(probe((2, 8, 6)), np.zeros((2, 8), "int32"))


@pytest.mark.daily
@pytest.mark.parametrize("kind", ["direct_feedback", "direct_random_target"])
def test_attention_between_the_hooks(kind: Any) -> None:
    """Two blocks of attention, hooks behind each, sequences of unknown length: it learns."""
    inputs = keras.Input((None, 6))
    x: Any = keras.layers.Dense(16)(inputs)
    for block in "ab":
        attended = keras.layers.MultiHeadAttention(2, 8, name=f"attention_{block}")(x, x)
        x = keras.layers.LayerNormalization()(keras.layers.Add()([x, attended]))
        inner = keras.layers.Dense(16, name=f"lower_{block}")(
            keras.layers.Dense(32, "relu", name=f"upper_{block}")(x)
        )
        x = keras.layers.LayerNormalization(name=f"block_{block}")(keras.layers.Add()([x, inner]))
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    directed = models.direct(model, kind, hooks=["block_a", "block_b"])
    data = probe((64, 5, 6), 2)
    # The class of a token is that of the largest input of the token before.
    labels = np.roll(data[..., :3].argmax(axis=-1), 1, axis=1)
    optimizer = keras.optimizers.Adam(0.01)
    losses = train(directed, optimizer, data, labels, LOSS, epochs=15, batch_size=16)
    assert losses[-1] < 0.9 * losses[0]
