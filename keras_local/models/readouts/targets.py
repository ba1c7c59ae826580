"""The units, the loss and the metric of a readout that fit its targets."""

from __future__ import annotations

from typing import Any

import keras

from keras_local import _validation as check
from keras_local._targets import ACCURACIES, Expected
from keras_local.losses import PowerLoss, target_kinds


def output_units(expected: Expected, use_bias: bool) -> keras.layers.Dense:
    """Return the last layer: linear, or sigmoid for labels."""
    activation = "sigmoid" if expected.kind == "labels" else None
    return keras.layers.Dense(
        expected.outputs, activation=activation, use_bias=use_bias, name="scores"
    )


def fitting_loss(loss: Any, expected: Expected) -> Any:
    """Return the loss that the user gave, or the default for the targets.

    Raises:
        ValueError: For an object that is not a loss, or for a loss for other targets.
    """
    if loss is None:
        return {
            "classes": lambda: PowerLoss(power=6.0, beta=0.3),
            "labels": keras.losses.BinaryCrossentropy,
            "values": keras.losses.MeanSquaredError,
        }[expected.kind]()
    found = check.resolved("loss", loss, keras.losses.get, "a Keras loss")
    served = target_kinds(found) or (expected.kind,)
    allowed = f'a loss for targets="{expected.kind}"; this one is for {" and ".join(served)}'
    check.require(expected.kind in served, "loss", allowed, loss)
    return found


def fitting_metric(expected: Expected) -> keras.metrics.Metric:
    """Return the metric for the targets: accuracy, or explained variance for values."""
    if expected.kind in ACCURACIES:
        return ACCURACIES[expected.kind]()
    return keras.metrics.R2Score(name="r2_score")


def as_rows(expected: Expected, y: Any) -> Any:
    """Return labels and values as rows of the outputs' shape, and classes unchanged."""
    return y if expected.kind == "classes" else expected.rows("y", y, "float32")[0]
