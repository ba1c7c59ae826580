"""What a model says about its learning, for those who write it to a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True)
class LearningForm:
    """One step of learning as functions, and what they are called with.

    A model whose training is not that of `keras.Model` offers it by a method `learning_form()`.
    Both functions are traced with the weights exchanged for tensors, so that they must read weights
    as every Keras model does, and assign to them by `assign`.

    Attributes:
        loss: Function of samples and targets, in training, to a scalar whose gradient is that of a
            step; what it assigns to weights is part of the step.
        infer: Function of samples to outputs.
        samples: One `keras.layers.InputSpec` for each input, its batch axis None.
        targets: Likewise for the labels; none for a model that learns without. An empty tuple is
            followed by `loss(samples, None)`.
        guarded: Whether a step is undone where the loss, or a weight behind it, is not finite.

    A single input, or label, is handed over as a tensor, several as a list.
    """

    loss: Callable[[Any, Any], Any]
    infer: Callable[[Any], Any]
    samples: Sequence[keras.layers.InputSpec]
    targets: Sequence[keras.layers.InputSpec] = ()
    guarded: bool = False


def learning_form(model: Any) -> LearningForm | None:
    """Return what a model says about its learning, or None for one that says nothing."""
    own = getattr(model, "learning_form", None)
    form: LearningForm | None = own() if callable(own) else None
    return form
