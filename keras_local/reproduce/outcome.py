"""What the run of one variant with one seed needs to know, and what it returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_local.reproduce.arrays import Arrays
from keras_local.reproduce.sections import Settings

Callbacks = Sequence[keras.callbacks.Callback]


@dataclasses.dataclass(frozen=True)
class Run:
    """One variant with one seed.

    Attributes:
        settings: Its settings.
        seed: The seed of weights, feedback weights and order.
        arrays: The data, or None for a measure without data.
        folder: Folder for the state of the run, from which it goes on after a kill.
        shared: Folder for encoders that several variants have in common.
        callbacks: Returns callbacks for a `fit`: progress and logs, by the name of the phase.
        images: Returns other images by the name of their data set.
        fields: Whether the result should contain receptive fields.
    """

    settings: Settings
    seed: int
    arrays: Arrays | None
    folder: Path
    shared: Path
    callbacks: Callable[[str], list[keras.callbacks.Callback]]
    images: Callable[[str], np.ndarray]
    fields: bool = False


@dataclasses.dataclass
class Outcome:
    """What came out.

    Attributes:
        final: The numbers that are compared.
        history: Numbers after each epoch, by name; `initial` of a run stand in `extra`.
        extra: Other numbers.
        arrays: Arrays for figures.
    """

    final: dict[str, float]
    history: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    arrays: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


def tested(wrong: int, images: int, **others: float) -> dict[str, float]:
    """Return the final numbers of a classifier."""
    return {"test_error": wrong / images, "wrong": wrong, "images": images, **others}


def wrong_of(scores: Any, labels: np.ndarray) -> int:
    """Return how many rows of scores have their largest entry at another class."""
    numbers = np.argmax(labels, axis=-1) if labels.ndim == 2 else labels
    return int(np.sum(np.argmax(np.asarray(scores), axis=-1) != numbers))
