"""Models, data and measures that the tests of the callbacks share."""

from __future__ import annotations

import math

import keras
import numpy as np

from keras_local.layers import FeedbackDense
from keras_local.losses import LocalHinge
from tests.support import array

MEASURES = ("alignment_angle", "norm_ratio", "weight_correlation")


def angle(layer):
    w, b = array(layer.kernel).ravel(), array(layer.feedback_kernel).ravel()
    return math.degrees(math.acos(w @ b / math.sqrt((w @ w) * (b @ b))))


def data(shape=(4,), samples=32, classes=3):
    rng = np.random.default_rng(0)
    return rng.normal(size=(samples, *shape)).astype("float32"), rng.integers(0, classes, samples)


def train(model, monitors, epochs=1, shape=(4,), classes=3, **kwargs):
    model.compile(keras.optimizers.SGD(0.1), LocalHinge(), **kwargs)
    x, y = data(shape, classes=classes)
    callbacks = monitors if isinstance(monitors, list) else [monitors]
    return model.fit(x, y, batch_size=16, epochs=epochs, callbacks=callbacks, verbose=0)


def reported(history):
    keys = [key for key in history.history if "/" in key]
    names = sorted({key.split("/", 1)[1] for key in keys})
    assert sorted(keys) == sorted(f"{measure}/{name}" for measure in MEASURES for name in names)
    return names


def stack(feedback="kolen_pollack"):
    return keras.Sequential(
        [
            keras.Input((4,)),
            FeedbackDense(6, activation="tanh", feedback=feedback, name="first"),
            FeedbackDense(5, activation="tanh", feedback=feedback, name="second"),
            FeedbackDense(3, feedback=feedback, name="third"),
        ]
    )


class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.low = FeedbackDense(5, name="low")
        self.blocks = [FeedbackDense(4, name="middle"), FeedbackDense(3, name="high")]

    def call(self, inputs):
        x = self.low(inputs)
        for block in self.blocks:
            x = block(x)
        return x


def gradients_of(logs):
    return {key: value for key, value in logs.items() if "gradient_angle/" in key}
