"""Layers made of feedback layers: what is set on them reaches their parts."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local import feedback, layers
from tests.support import array, probe

COMPOSITE: dict[str, tuple[Any, tuple[int, ...]]] = {
    "separable": (lambda **options: layers.FeedbackSeparableConv1D(4, 3, **options), (6, 2)),
    "attention": (lambda **options: layers.FeedbackMultiHeadAttention(2, 3, **options), (4, 5)),
}
composite = pytest.mark.parametrize(("make", "shape"), COMPOSITE.values(), ids=COMPOSITE)


def called(layer: Any, x: Any) -> Any:
    return layer(x, x) if isinstance(layer, layers.FeedbackMultiHeadAttention) else layer(x)


@composite
def test_a_rule_can_be_set_until_the_layer_is_built(make: Any, shape: tuple[int, ...]) -> None:
    layer = make()
    layer.feedback = "feedback_alignment"
    assert isinstance(layer.feedback, feedback.FeedbackAlignment)
    called(layer, probe((2, *shape)))
    parts = [part for part in layer._flatten_layers(include_self=False) if part.weights]
    assert len(parts) > 1
    assert all(isinstance(part.feedback, feedback.FeedbackAlignment) for part in parts)
    assert len(layer.non_trainable_variables) == len(parts)
    with pytest.raises(ValueError, match="`feedback` must be left as it is once the layer is buil"):
        layer.feedback = "kolen_pollack"
    assert isinstance(layer.feedback, feedback.FeedbackAlignment)


@composite
def test_a_detached_layer_passes_no_errors(make: Any, shape: tuple[int, ...]) -> None:
    inputs = [keras.Input(shape)]
    assert make(feedback="detached").passes_errors_to(inputs) == []
    assert make().passes_errors_to(inputs) == inputs


def test_an_activation_can_be_taken_away() -> None:
    layer = layers.FeedbackSeparableConv1D(4, 3, activation="relu")
    x = probe((2, 6, 2))
    before = array(layer(x))
    layer.activation = None
    after = array(layer(x))
    np.testing.assert_array_equal(np.maximum(after, 0), before)
    assert after.min() < 0
    assert type(layer).from_config(layer.get_config()).get_config()["activation"] == "linear"
