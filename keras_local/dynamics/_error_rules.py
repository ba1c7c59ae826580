"""How layers of `TemporalDifferenceNetwork` turn an error into a signal to learn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras import ops

from keras_local.ops.backend import Tensor


@dataclass(frozen=True)
class Arrival:
    """What is known at the units of a hidden layer.

    Attributes:
        error: The error of this batch, sent down by the layer above.
        last_error: That of the batch before, sent down alike, if the rule remembers it.
        rate: Activity of the units.
        last_rate: Their activity in the batch before, if the rule remembers it.
    """

    error: Tensor
    last_error: Any
    rate: Tensor
    last_rate: Any


@dataclass(frozen=True)
class ErrorRule:
    """How a hidden layer turns an error that arrives into what it learns from and sends on.

    Attributes:
        signal: Function from an `Arrival` to that signal; None where hidden layers do not learn.
        remembers: What is kept of a batch for the next: `"error"`, `"rates"`, or None.
        tied: Whether there are no weights for errors beside the forward ones.
        at_outputs: Function from the error of this batch and that of the last to the signal of the
            output layer, with the squared distance; None where that is the error itself.
    """

    signal: Callable[[Arrival], Tensor] | None
    remembers: str | None = None
    tied: bool = False
    at_outputs: Callable[[Tensor, Tensor], Tensor] | None = None


def _difference(at: Arrival) -> Tensor:
    return at.error - at.last_error


def _error_product(at: Arrival) -> Tensor:
    return at.error * (at.error - at.last_error)


def _activation_product(at: Arrival) -> Tensor:
    return at.error * (at.rate - at.last_rate)


def _sloped(at: Arrival) -> Tensor:
    """Return the error times the derivative of the hyperbolic tangent."""
    return at.error * (1.0 - ops.square(at.rate))


def _as_it_comes(at: Arrival) -> Tensor:
    return at.error


RULES = {
    "error_difference": ErrorRule(_difference, remembers="error", at_outputs=ops.subtract),
    "error_product": ErrorRule(_error_product, remembers="error"),
    "activation_product": ErrorRule(_activation_product, remembers="rates"),
    "feedback_alignment": ErrorRule(_sloped),
    "linear_feedback_alignment": ErrorRule(_as_it_comes),
    "backprop": ErrorRule(_sloped, tied=True),
    "frozen": ErrorRule(None, tied=True),
}
