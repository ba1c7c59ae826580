"""What every model of the user's goes through, whatever it is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_local as kl
from tests.support import BACKEND, array, compile_options, largest_difference, weights_of

SAMPLES, CLASSES = 16, 3
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def data(shape: tuple[int, ...], seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Samples, and the labels that a random linear map gives them."""
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(SAMPLES, *shape)).astype("float32")
    flat = inputs.reshape(SAMPLES, -1)
    return inputs, np.argmax(flat @ generator.normal(size=(flat.shape[1], CLASSES)), axis=1)


def compiled(model: Any, loss: Any = LOSS, rate: float = 0.1) -> Any:
    arguments = {} if loss is None else {"loss": loss}
    model.compile(keras.optimizers.SGD(rate, momentum=0.5), **arguments, **compile_options())
    return model


def fit(model: Any, inputs: Any, labels: Any = None, epochs: int = 1) -> list[float]:
    history = model.fit(inputs, labels, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
    return [float(value) for value in history.history["loss"]]


def saves_and_goes_on(model: Any, inputs: Any, labels: Any, path: Path) -> Any:
    """Save, load, train both on: bit for bit the same."""
    model.save(path / "model.keras")
    restored = keras.saving.load_model(path / "model.keras")
    if BACKEND == "tensorflow":
        restored.jit_compile = False
    for one, other in zip(restored.layers, model.layers, strict=True):
        assert one.get_config() == other.get_config()
    before = weights_of(model)
    for each in (model, restored):
        fit(each, inputs, labels)
    assert largest_difference(before, weights_of(model)) > 1e-5
    for ours, theirs in zip(weights_of(model), weights_of(restored), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    return restored


def becomes_plain(model: Any, inputs: np.ndarray, path: Path, own: tuple[str, ...] = ()) -> Any:
    """Convert to built-in layers (and those of the modules `own`), and serve it without ours."""
    plain = kl.models.to_plain(model)
    modules = {type(layer).__module__.split(".")[0] for layer in plain.layers}
    assert modules <= {"keras", *own}, modules
    expected = model.predict(inputs, verbose=0)
    np.testing.assert_allclose(plain.predict(inputs, verbose=0), expected, rtol=1e-4, atol=1e-5)
    plain.save(path / "plain.keras")
    again = keras.saving.load_model(path / "plain.keras")
    np.testing.assert_allclose(again.predict(inputs, verbose=0), expected, rtol=1e-4, atol=1e-5)
    if BACKEND == "tensorflow":
        served_alike(model, inputs, expected, path)
    return plain


def served_alike(model: Any, inputs: np.ndarray, expected: np.ndarray, path: Path) -> None:
    import tensorflow as tf

    kl.models.export(model, path / "served")
    served = tf.saved_model.load(path / "served")
    np.testing.assert_allclose(array(served.serve(inputs)), expected, rtol=1e-4, atol=1e-5)
