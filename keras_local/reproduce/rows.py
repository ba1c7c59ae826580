"""What the demo records about each model that it trained."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_local.reproduce.images import Data
from keras_local.reproduce.progress import Stage
from keras_local.reproduce.results import Score, Trained


def curve_of(history: keras.callbacks.History, passes: int = 1) -> dict[str, list[float]]:
    """Return the test error after each epoch, and the number of passes over the images."""
    return {
        "passes": [passes * (epoch + 1) for epoch in history.epoch],
        "test_error": [1.0 - accuracy for accuracy in history.history["val_accuracy"]],
    }


def row_of(
    key: str,
    label: str,
    detail: str,
    model: keras.Model,
    data: Data,
    seconds: float,
    curve: dict[str, list[float]],
    angles: dict[str, list[float]] | None = None,
) -> Trained:
    """Return the row of a trained model in the table of errors."""
    return Trained(
        key=key,
        label=label,
        detail=detail,
        test=score(model, data.x_test, data.y_test),
        training=score(model, data.x_train, data.y_train),
        weights=sum(int(np.prod(weight.shape)) for weight in _learned(model)),
        seconds=seconds,
        curve=curve,
        angles=angles or {},
    )


def _learned(model: keras.Model) -> list[Any]:
    # Without the feedback weights, which are not part of the model that is served.
    return [weight for weight in model.trainable_weights if "feedback" not in weight.name]


def score(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> Score:
    """Count the images that a model assigns to a wrong class."""
    scores = model.predict(images, batch_size=1000, verbose=0)
    return Score(int(np.count_nonzero(np.argmax(scores, axis=-1) != labels)), len(labels))


def say_error(stage: Stage, row: Trained) -> None:
    """Show the test error on the line of a stage."""
    stage.say(f"test error {row.test.error:.2%}")
