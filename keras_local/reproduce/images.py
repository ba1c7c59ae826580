"""The images that the demo trains and tests on."""

from __future__ import annotations

import dataclasses
from typing import cast

import numpy as np

from keras_local import datasets
from keras_local.reproduce.settings import DemoSettings


@dataclasses.dataclass(frozen=True)
class Data:
    """Images and labels; `sizes` are the numbers of images in the whole data set."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    sizes: tuple[int, int]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.y_train.max()) + 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image."""
        return tuple(self.x_train.shape[1:])


def load(settings: DemoSettings) -> Data:
    """Load the data set of the settings, and cut it to the numbers that they say."""
    (x_train, y_train), (x_test, y_test) = datasets.load(cast(datasets.Name, settings.data.name))
    trained, tested = slice(settings.data.training), slice(settings.data.test)
    return Data(
        x_train[trained],
        y_train[trained],
        x_test[tested],
        y_test[tested],
        (len(x_train), len(x_test)),
    )
