"""Real handwritten digits: hidden layers that learn by direct signals, beside ones that do not."""

from __future__ import annotations

import functools
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import datasets, layers
from tests.support import BACKEND, cases

pytestmark = [
    pytest.mark.daily,
    pytest.mark.skipif(BACKEND != "tensorflow", reason="long runs on one backend only"),
]

KINDS = {
    "error": layers.DirectFeedback,
    "sign": lambda: layers.DirectFeedback(sign=True),
    "target": layers.DirectRandomTarget,
}


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    (x, y), (xe, ye) = datasets.load("digits", flatten=True)
    return x, y, xe, ye


@functools.cache
def accuracy(kind: str | None, classes: int, units: int) -> float:
    """Percent of the test images, two hidden layers; None trains the last layer alone."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((64,))
    hidden: list[Any] = [inputs]
    for _ in range(2):
        dense = layers.FeedbackDense(units, "tanh", feedback="detached", trainable=kind is not None)
        hidden.append(dense(hidden[-1]))
    logits = layers.FeedbackDense(classes, feedback="detached")(hidden[-1])
    outputs = logits if kind is None else KINDS[kind]()([logits, *hidden[1:]])
    model = keras.Model(inputs, outputs)
    x, y, xe, ye = digits()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.SGD(0.03, momentum=0.9)
    model.compile(optimizer, loss, steps_per_execution=14, jit_compile=False)
    model.fit(x, y % classes, epochs=30, batch_size=100, verbose=0)
    found = np.argmax(model.predict(xe, verbose=0), axis=1)
    return float(100.0 * np.mean(found == ye % classes))


@pytest.mark.slow
@pytest.mark.parametrize("kind", cases(KINDS, daily=["error", "target"]))
def test_even_or_odd(kind: str) -> None:
    assert accuracy(kind, 2, 16) > accuracy(None, 2, 16) + 5.0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["error", "target"])
def test_ten_classes(kind: str) -> None:
    """Of ten classes nine have a positive error: signs drive all units one way (see the docs)."""
    assert accuracy(kind, 10, 32) > accuracy(None, 10, 32) + 3.0
