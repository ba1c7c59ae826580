"""Wrong use says so: regularizers and optimizers that part kernel and feedback kernel."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
import pytest

from keras_local import feedback, layers
from tests.support import BACKEND, compile_options

knows_the_model = pytest.mark.skipif(
    BACKEND == "jax", reason="there Keras calls the layers of a model without saying of which"
)

SEPARATE = feedback.KolenPollack(separate=True)


def messages(rule: Any, optimizer: Any, **arguments: Any) -> list[str]:
    """What one fit warns of, from the making of the layers on."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = keras.Sequential(
            [
                keras.Input((3,)),
                layers.FeedbackDense(4, feedback=rule, name="hidden", **arguments),
                keras.layers.Dense(2),
            ]
        )
        model.compile(optimizer, "mse", **compile_options())
        for _ in range(2):
            model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    return [str(w.message) for w in caught if "Layer 'hidden'" in str(w.message)]


@knows_the_model
def test_global_norm_with_a_trained_feedback_kernel() -> None:
    found = messages(SEPARATE, keras.optimizers.SGD(0.1, global_clipnorm=1.0))
    assert len(found) == 1
    assert "`global_clipnorm` counts the gradients of the feedback kernel" in found[0]
    assert "`clipnorm`" in found[0]


@pytest.mark.parametrize("rule", ["kolen_pollack", feedback.KolenPollack(decay=0.1)])
def test_regularizer_with_kolen_pollack(rule: Any) -> None:
    found = messages(rule, keras.optimizers.SGD(0.1), kernel_regularizer="l2")
    assert len(found) == 1
    assert "`kernel_regularizer` acts on the kernel alone" in found[0]
    assert "`weight_decay`" in found[0]


@knows_the_model
def test_adam_with_coupled_decay() -> None:
    found = messages("kolen_pollack", keras.optimizers.Adam(0.1), kernel_regularizer="l2")
    assert any("Adam rescales the gradient of the `kernel_regularizer`" in text for text in found)


@pytest.mark.parametrize(
    ("rule", "optimizer"),
    [
        ("kolen_pollack", keras.optimizers.SGD(0.1, global_clipnorm=1.0)),  # one trained kernel
        ("feedback_alignment", keras.optimizers.SGD(0.1, global_clipnorm=1.0)),
        (SEPARATE, keras.optimizers.SGD(0.1, clipnorm=1.0)),
        (SEPARATE, keras.optimizers.AdamW(0.1, weight_decay=0.1)),
    ],
    ids=["offset", "fixed", "each-clipped", "decoupled"],
)
def test_silence_where_nothing_is_wrong(rule: Any, optimizer: Any) -> None:
    assert messages(rule, optimizer) == []


def test_unknown_alias_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'activation_alignment', 'brsf', .*'weight_mirror'"):
        layers.FeedbackDense(3, feedback="kolen-pollack")
