"""Checks of arguments that all layers with a feedback rule have."""

from __future__ import annotations

import random
from typing import Any

import keras

from keras_local import _keras_objects as objects
from keras_local import _validation as check
from keras_local import feedback as feedback_rules
from keras_local.feedback import FeedbackRule


def feedback_initializer_of(identifier: Any, argument: str = "feedback_initializer") -> Any:
    """Resolve a feedback initializer without drawing from the global stream of seeds.

    Keras draws a seed for each initializer. With one more draw in each layer, all kernels above it
    would start with other values than in a stock network, or with another rule, under the same
    global seed.
    """
    state = random.getstate()
    try:
        check.require(identifier is not None, argument, "an initializer", identifier)
        return objects.initializer(argument, identifier)
    finally:
        random.setstate(state)


def rule_for(layer: keras.layers.Layer, rule: Any) -> FeedbackRule:
    """Return the rule for the attribute `feedback` of a layer that is not built yet."""
    allowed = (
        "left as it is once the layer is built, whose weights belong to the rule. Make a new "
        "layer, or use `kl.models.convert(model, feedback=...)`"
    )
    check.require(not layer.built, "feedback", allowed, rule)
    return feedback_rules.get(rule)


def connectivity_of(connectivity: Any) -> float | None:
    """Return the argument `connectivity` if it is None or a probability above 0."""
    if connectivity is None:
        return None
    return check.real("connectivity", connectivity, minimum=0.0, maximum=1.0, exclusive=True)
