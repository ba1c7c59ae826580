"""Recurrent layers are converted, in both directions and over cells, and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import keras_local as kl
from tests.support import array, tensorflow_only, weights_of

stock = keras.layers
MODELS: dict[str, Callable[[], list[Any]]] = {
    "both_directions": lambda: [
        stock.Bidirectional(stock.LSTM(5, return_sequences=True, dropout=0.1)),
        stock.GRU(3),
    ],
    "cells": lambda: [
        stock.Masking(),
        stock.RNN(
            [stock.GRUCell(5, dropout=0.2), stock.LSTMCell(3), stock.SimpleRNNCell(2)],
            go_backwards=True,
            return_sequences=True,
        ),
        stock.RNN(stock.GRUCell(4)),
    ],
    "simple": lambda: [stock.SimpleRNN(3, return_sequences=True), stock.GRU(3, reset_after=False)],
}
INPUTS = np.random.default_rng(0).normal(size=(3, 6, 4)).astype("float32")
INPUTS[1, 4:] = 0.0


def model_of(name: str) -> keras.Model:
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((6, 4)), *MODELS[name](), stock.Dense(2)])


@pytest.mark.parametrize(
    "name",
    [
        "both_directions",
        *(pytest.param(n, marks=pytest.mark.thorough) for n in MODELS if n != "both_directions"),
    ],
)
def test_there_and_back(name: str, tmp_path: Path) -> None:
    model = model_of(name)
    expected = model.predict(INPUTS, verbose=0)
    converted = kl.models.convert(model, "feedback_alignment", verbose=False)
    assert not kl.models.conversion_report(converted).left
    np.testing.assert_allclose(converted.predict(INPUTS, verbose=0), expected, atol=1e-6)
    plain = kl.models.to_plain(converted)
    kinds = [type(layer).__name__ for layer in plain.layers[1:]]
    assert kinds == [type(layer).__name__ for layer in model.layers]
    np.testing.assert_array_equal(plain.predict(INPUTS, verbose=0), expected)
    before = weights_of(converted)
    converted.compile("sgd", "mse")
    converted.fit(INPUTS, expected + 1.0, verbose=0)
    assert any(np.any(a != b) for a, b in zip(before, weights_of(converted), strict=True))
    converted.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(INPUTS, verbose=0), converted.predict(INPUTS, verbose=0)
    )


def test_first_states_beside_a_mask() -> None:
    x, state = keras.Input((6, 4)), keras.Input((3,))
    outputs = stock.RNN(stock.GRUCell(3))(stock.Masking()(x), initial_state=[state])
    model = keras.Model([x, state], outputs)
    converted = kl.models.convert(model, "frfb", verbose=False)
    states = np.random.default_rng(1).normal(size=(3, 3)).astype("float32")
    found, wanted = (each.predict([INPUTS, states], verbose=0) for each in (converted, model))
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    # Keras drops the mask of the graph where states are handed over; by hand it stays.
    mask = keras.ops.any(INPUTS != 0, axis=-1)
    found, wanted = (
        array(each.layers[-1](INPUTS, initial_state=[states], mask=mask))
        for each in (converted, model)
    )
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    others = converted.predict([INPUTS, 0 * states], verbose=0)
    assert np.abs(others - wanted).max() > 0.01


def test_each_direction_has_feedback_of_its_own() -> None:
    converted = kl.models.convert(model_of("both_directions"), "frfb", verbose=False)
    both = converted.layers[0].forward_layer, converted.layers[0].backward_layer
    one, other = (array(layer.feedback_kernel) for layer in both)
    assert np.abs(one - other).max() > 0.1
    assert [entry.name for entry in both[0].error_kernels()] == ["inputs", "recurrent"]


@pytest.mark.slow
def test_leaky_units_have_a_plain_form() -> None:
    """A GRU with constant gates; without a leak, too."""
    model = keras.Sequential(
        [
            keras.Input((6, 4)),
            kl.layers.LeakyRNN(5, 4.0, time_rule="eprop", return_sequences=True, go_backwards=True),
            kl.layers.LeakyRNN(3, 1.0, "relu", use_bias=False),
        ]
    )
    plain = kl.models.to_plain(model)
    assert [type(layer).__name__ for layer in plain.layers[1:]] == ["GRU", "GRU"]
    np.testing.assert_allclose(
        plain.predict(INPUTS, verbose=0), model.predict(INPUTS, verbose=0), atol=1e-5
    )


def test_an_own_activation_inside_has_none() -> None:
    layer = kl.layers.FeedbackGRU(3, kl.activations.Ramp())
    model = keras.Sequential([keras.Input((6, 4)), layer])
    with pytest.raises(ValueError, match="Ramp inside of FeedbackGRU"):
        kl.models.to_plain(model)


@pytest.mark.thorough
@tensorflow_only
def test_export(tmp_path: Path) -> None:
    import tensorflow as tf

    model = kl.models.convert(model_of("both_directions"), "frfb", verbose=False)
    expected = model.predict(INPUTS, verbose=0)
    kl.models.export(model, tmp_path / "saved")
    served = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_allclose(served.serve(INPUTS), expected, atol=1e-5)


@pytest.mark.thorough
@tensorflow_only
def test_export_to_onnx(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    model = kl.models.convert(model_of("simple"), "frfb", verbose=False)
    path = str(tmp_path / "model.onnx")
    plain = kl.models.to_plain(model)
    plain.predict(INPUTS, verbose=0)
    plain.export(path, format="onnx", verbose=False)
    session = runtime.InferenceSession(path)
    found = session.run(None, {session.get_inputs()[0].name: INPUTS})[0]
    np.testing.assert_allclose(found, model.predict(INPUTS, verbose=0), atol=1e-5)


@pytest.mark.thorough
@tensorflow_only
def test_export_to_litert(tmp_path: Path) -> None:
    """LiteRT has no loop over batches of any size: the steps are written out."""
    runtime = pytest.importorskip("ai_edge_litert.interpreter")
    layers = [stock.SimpleRNN(3, return_sequences=True, unroll=True), stock.GRU(3, unroll=True)]
    model = keras.Sequential([keras.Input((6, 4)), *layers, stock.Dense(2)])
    model = kl.models.convert(model, "frfb", verbose=False)
    path = tmp_path / "model.tflite"
    kl.models.export(model, path, format="litert")
    served = runtime.Interpreter(str(path)).get_signature_runner()
    (name,) = served.get_input_details()
    (found,) = served(**{name: INPUTS}).values()
    np.testing.assert_allclose(found, model.predict(INPUTS, verbose=0), atol=1e-5)


def test_a_cell_without_a_form() -> None:
    class Own:
        state_size = 2

        def call(self, inputs: Any, states: Any) -> Any:
            return inputs, states

    with pytest.raises(ValueError, match=r"`cell` must be a keras\.layers\.SimpleRNNCell.*Own"):
        kl.layers.FeedbackRNN(Own())
