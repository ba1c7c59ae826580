"""All changes of a step are known before the first weight is written."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_local.dynamics import PredictiveCodingNetwork
from tests.support import tensorflow_only


class OneBroken(PredictiveCodingNetwork):
    """A network of which one change is not finite."""

    def changes(self, *arguments: Any) -> Any:
        found = list(super().changes(*arguments))
        weight, change = found[-1]
        return [*found[:-1], (weight, change * float("nan"))]


@tensorflow_only
def test_each_gradient_waits_for_all_changes() -> None:
    """If one depended on its own change alone, its weight might be written before the others read
    it: TensorFlow keeps no order between a reading and a write that its optimizer moves."""
    import tensorflow as tf

    network = OneBroken([3, 4, 2])
    x, y = ops.ones((2, 3)), np.array([0, 1])
    with tf.GradientTape() as tape:
        loss = network.compute_loss(x, y, network(x, training=True), training=True)
    gradients = tape.gradient(loss, [each.value for each in network.trainable_variables])
    assert len(gradients) == 4
    assert all(np.isnan(keras.ops.convert_to_numpy(each)).all() for each in gradients)
