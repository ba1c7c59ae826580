"""Stochastic gradient descent as a function of weights, for graphs without an optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_local import _validation as check
from keras_local.ops.backend import Tensor

_UNUSED = (
    "weight_decay",
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "use_ema",
    "loss_scale_factor",
    "gradient_accumulation_steps",
)


@dataclass(frozen=True)
class Descent:
    """The step of `keras.optimizers.SGD`: `m <- momentum m - rate g`, `w <- w + m`.

    Attributes:
        momentum: From 0 to 1; with 0 there are no slots.
        nesterov: Whether the momentum is Nesterov's.
        slots: The first values of `m`, one array for each weight; none without momentum.
    """

    momentum: float
    nesterov: bool
    slots: Sequence[Any]

    def step(
        self, weight: Tensor, gradient: Tensor, slot: Tensor | None, rate: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return the new weight and the new slot."""
        if slot is None:
            return weight - gradient * rate, None
        new = slot * self.momentum - gradient * rate
        return weight + (new * self.momentum - gradient * rate if self.nesterov else new), new


def descent_of(model: keras.Model) -> Descent:
    """Return the steps of a model's optimizer, or plain steps without an optimizer.

    Raises:
        ValueError: For an optimizer other than SGD, or one that does more than SGD.
    """
    if not model.compiled:
        return Descent(0.0, False, ())
    optimizer = model.optimizer
    kind, sgd = type(optimizer), keras.optimizers.SGD
    # A user's class that derives from SGD but makes another step is another optimizer.
    same = all(
        getattr(kind, name, None) is getattr(sgd, name)
        for name in ("update_step", "apply", "build", "apply_gradients")
    )
    allowed = "keras.optimizers.SGD, with or without momentum: a learner takes no other steps"
    check.require(isinstance(optimizer, sgd) and same, "model.optimizer", allowed, kind.__name__)
    for argument in _UNUSED:
        value = getattr(optimizer, argument, None)
        allowed = "left out: a learner takes the steps of plain SGD or of SGD with momentum"
        check.require(not value, f"model.optimizer.{argument}", allowed, value)
    if not optimizer.momentum:
        return Descent(0.0, False, ())
    return Descent(float(optimizer.momentum), bool(optimizer.nesterov), _slots(model, optimizer))


def _slots(model: keras.Model, optimizer: Any) -> list[Any]:
    weights = model.trainable_variables
    if not optimizer.built:
        return [np.zeros(tuple(weight.shape), "float32") for weight in weights]
    slots = [ops.convert_to_numpy(slot) for slot in optimizer.momentums]
    fits = [slot.shape for slot in slots] == [tuple(weight.shape) for weight in weights]
    allowed = "of the weights that learn now: compile the model again"
    check.require(fits, "model.optimizer", allowed, f"momenta of {len(slots)} other weights")
    return slots
