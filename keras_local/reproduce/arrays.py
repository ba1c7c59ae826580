"""The arrays that an experiment trains and tests on."""

from __future__ import annotations

import dataclasses
import os
from functools import lru_cache
from typing import cast

import numpy as np

from keras_local import _runs, datasets
from keras_local import _validation as check
from keras_local.reproduce.sections import Data

Split = tuple[np.ndarray, np.ndarray]

# Digits, enlarged to these shapes, can take the place of other images.
SHAPES = {
    "mnist": (28, 28, 1),
    "fashion_mnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
    "cifar100": (32, 32, 3),
}

CLASSES = {"cifar100": 100, "natural_patches": 2}
"""The number of classes where it is not ten."""


@dataclasses.dataclass(frozen=True)
class Arrays:
    """Images and labels; `curve` are those of the learning curve.

    Attributes:
        train: Training images and labels.
        curve: Images and labels for the learning curve: held out, or the test images.
        test: Test images and labels.
        classes: Number of classes.
        stand_in: Whether these are digits in place of images that are not there.
    """

    train: Split
    curve: Split
    test: Split
    classes: int
    stand_in: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.train[0].shape[1:])

    @property
    def sha(self) -> str:
        """A hash of the arrays (of some rows, if they are large)."""
        return _runs.identity_of({"train": self.train, "curve": self.curve, "test": self.test})


def load(
    settings: Data, data_dir: str | os.PathLike[str] | None = None, stand_in: bool = False
) -> Arrays:
    """Return the arrays that the settings describe.

    Args:
        settings: The settings.
        data_dir: As in `datasets.load`.
        stand_in: Whether digits may take the place of a data set that is not there, enlarged to its
            shape: enough to see that an experiment runs. If the settings say so, they always do.
    """
    name = cast(datasets.Name, settings.name)
    instead = settings.name in SHAPES and (
        settings.stand_in or (stand_in and not datasets.is_prepared(name, data_dir))
    )
    train, test = _read(settings.name, None if data_dir is None else os.fspath(data_dir), instead)
    classes = 2 if settings.task != "classes" else CLASSES.get(settings.name, 10)
    if settings.one_each:
        first = [int(np.argmax(train[1] == label)) for label in range(classes)]
        train = test = train[0][first], train[1][first]
    # Means of pixels are those of each split; mean and variance are those of training images.
    of_test = test if settings.scale == "centred" else train
    learned = _prepared(settings, train, train, classes)
    tested = _first(_prepared(settings, test, of_test, classes), settings.test)
    curve = tested
    if settings.held_out:
        rest = len(learned[0]) - settings.held_out
        if instead:  # There are fewer digits.
            rest = max(rest, len(learned[0]) // 2)
        check.require(rest > 0, "held_out", f"less than {len(learned[0])}", settings.held_out)
        curve = _first((learned[0][rest:], learned[1][rest:]), settings.test)
        learned = learned[0][:rest], learned[1][:rest]
    learned = _first(learned, settings.train)
    return Arrays(learned, curve, tested, classes, instead)


def labelled(arrays: Arrays, count: int | None, seed: int) -> Split:
    """Return so many labelled training images, as many of each class; all for None."""
    images, labels = arrays.train
    if count is None or count >= len(images):
        return arrays.train
    numbers = np.argmax(labels, axis=-1) if labels.ndim == 2 else labels
    order = np.random.default_rng(seed).permutation(len(images))
    each = count // arrays.classes
    check.require(each > 0, "labels", f"at least {arrays.classes}", count)
    chosen = np.concatenate([order[numbers[order] == c][:each] for c in range(arrays.classes)])
    return images[chosen], labels[chosen]


@lru_cache(maxsize=2)
def _read(name: str, data_dir: str | None, instead: bool) -> tuple[Split, Split]:
    if not instead:
        return datasets.load(cast(datasets.Name, name), data_dir=data_dir)
    train, test = datasets.load("digits")
    return _enlarged(train, SHAPES[name]), _enlarged(test, SHAPES[name])


def _enlarged(split: Split, shape: tuple[int, ...]) -> Split:
    """Return images of another shape, each pixel repeated, in all channels."""
    images, labels = split
    times = -(-shape[0] // images.shape[1])
    larger = images.repeat(times, axis=1).repeat(times, axis=2)
    off = (larger.shape[1] - shape[0]) // 2
    larger = larger[:, off : off + shape[0], off : off + shape[1]]
    return np.repeat(larger, shape[2], axis=3), labels


def _prepared(settings: Data, split: Split, of: Split, classes: int) -> Split:
    """Return a split as the settings want it, scaled by the statistics of a split."""
    images, labels = split
    if settings.scale == "standard":
        images = (images - of[0].mean()) / of[0].std()
    elif settings.scale == "centred":
        images = images - of[0].mean(axis=0)
    if settings.size is not None:
        images = _padded(images, settings.size)
    if settings.flatten:
        images = images.reshape(len(images), -1)
    if settings.task == "parity":
        labels = labels % 2
    elif settings.task == "large":
        labels = (labels >= 5).astype(labels.dtype)
    if settings.one_hot:
        labels = np.eye(classes, dtype="float32")[labels]
    return images, labels


def _padded(images: np.ndarray, size: int) -> np.ndarray:
    room = size - images.shape[1]
    check.require(room >= 0, "size", f"at least {images.shape[1]}", size)
    border = (room // 2, room - room // 2)
    return np.pad(images, ((0, 0), border, border, (0, 0)))


def _first(split: Split, count: int | None) -> Split:
    return split[0][:count], split[1][:count]
