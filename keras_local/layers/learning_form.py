"""The description of a model's learning, for functions that write it to a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True)
class LearningForm:
    """One step of learning as functions, with the specifications of their inputs.

    A model whose training differs from that of `keras.Model` returns it from a method
    `learning_form()`. Both functions are traced with tensors in place of the weights. Therefore
    they must read weights like every Keras model, and assign to them by `assign`.

    Attributes:
        loss: Function of samples and targets, in training, to a scalar whose gradient is that of a
            step; what it assigns to weights is part of the step.
        infer: Function of samples to outputs.
        samples: One `keras.layers.InputSpec` for each input, its batch axis None.
        targets: The same for the labels; empty for a model that learns without labels, of which
            `loss(samples, None)` is called.
        guarded: Whether a step is undone if the loss, or a weight after it, is not finite.

    A single input or label is passed as a tensor, several as a list.
    """

    loss: Callable[[Any, Any], Any]
    infer: Callable[[Any], Any]
    samples: Sequence[keras.layers.InputSpec]
    targets: Sequence[keras.layers.InputSpec] = ()
    guarded: bool = False


def learning_form(model: Any) -> LearningForm | None:
    """Return the `learning_form` of a model, or None for a model without the method."""
    own = getattr(model, "learning_form", None)
    form: LearningForm | None = own() if callable(own) else None
    return form
