"""What the tests of pretraining share."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tests.support import array


def dataset(*arrays: np.ndarray, batch: int | None = None) -> Any:
    """The samples in their order."""
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(arrays if len(arrays) > 1 else arrays[0])
    return data if batch is None else data.batch(batch)


def kernel_of(model: keras.Model, index: int = 0) -> np.ndarray:
    return array(model.layers[index].kernel)
