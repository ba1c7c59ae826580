"""Accuracy for integer and one-hot labels."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_local._labels import class_targets
from keras_local._serialization import serializable


@serializable
class ClassAccuracy(keras.metrics.Mean):
    """The share of the samples whose largest score is that of their class.

    Each call takes integer labels or one-hot rows, while `"accuracy"` of Keras takes only the form
    of its first call.

    Args:
        name: Name of the metric.
        dtype: Dtype of the result.
    """

    def __init__(self, name: str = "accuracy", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch of labels and class scores `(batch, classes)`."""
        targets, _ = class_targets("y_true", y_true, int(y_pred.shape[-1]), "float32")
        right = ops.equal(ops.argmax(targets, axis=-1), ops.argmax(y_pred, axis=-1))
        if sample_weight is not None:
            sample_weight = ops.reshape(sample_weight, (-1,))
        super().update_state(ops.cast(right, "float32"), sample_weight)
