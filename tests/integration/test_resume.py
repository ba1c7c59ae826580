"""A training that is interrupted and taken up again ends where it would have ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import feedback, layers
from tests.support import compile_options, largest_difference, probe, weights_of

EPOCHS = 5
INPUTS = probe((24, 6, 6, 1))
TARGETS = probe((24, 2), 1)

CASES = {
    "offset-adamw": (
        feedback.KolenPollack(),
        lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    ),
    "separate-momentum": (
        feedback.KolenPollack(separate=True),
        lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    ),
    "feedback_alignment-adam": (
        feedback.FeedbackAlignment(),
        lambda: keras.optimizers.Adam(0.01),
    ),
}


class Interrupted(keras.callbacks.Callback):
    """Fails at the begin of an epoch."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == 3:
            raise KeyboardInterrupt


def net(rule: Any, optimizer: Any, start: list[np.ndarray] | None = None) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.FeedbackConv2D(3, 3, activation="tanh", feedback=rule),
            layers.FeedbackConv2D(2, 3, activation="tanh", feedback=rule),
            keras.layers.Flatten(),
            layers.FeedbackDense(2, feedback=rule),
        ]
    )
    if start is not None:
        model.set_weights(start)
    model.compile(optimizer, "mse", **compile_options())
    return model


def fit(model: keras.Model, *callbacks: keras.callbacks.Callback) -> list[float]:
    history = model.fit(
        INPUTS,
        TARGETS,
        batch_size=8,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    )
    return history.history["loss"]


@pytest.mark.few(1)
@pytest.mark.parametrize(("rule", "optimizer"), CASES.values(), ids=CASES)
def test_resumed_equals_uninterrupted(rule: Any, optimizer: Any, tmp_path: Path) -> None:
    whole = net(rule, optimizer())
    start = weights_of(whole)
    losses = fit(whole)

    first = net(rule, optimizer(), start)
    with pytest.raises(KeyboardInterrupt):
        fit(first, keras.callbacks.BackupAndRestore(tmp_path / "backup"), Interrupted())
    assert largest_difference(weights_of(first), weights_of(whole)) > 1e-3

    # A fresh process would draw other weights: none of them may survive the restoration.
    second = net(rule, optimizer())
    assert largest_difference(weights_of(second), start) > 1e-2
    rest = fit(second, keras.callbacks.BackupAndRestore(tmp_path / "backup"))

    assert len(rest) == EPOCHS - 3
    assert rest == losses[3:]
    for resumed, uninterrupted in zip(weights_of(second), weights_of(whole), strict=True):
        np.testing.assert_array_equal(resumed, uninterrupted)
