"""Rules by which layers of `TemporalDifferenceNetwork` turn an error into a learning signal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras import ops

from keras_local.ops.backend import Tensor


@dataclass(frozen=True)
class Arrival:
    """The signals at the units of a hidden layer.

    Attributes:
        error: The error of this batch, sent down by the layer above.
        last_error: The error of the last batch, sent down in the same way, if the rule remembers
            it.
        rate: Activity of the units.
        last_rate: Their activity in the last batch, if the rule remembers it.
    """

    error: Tensor
    last_error: Any
    rate: Tensor
    last_rate: Any


@dataclass(frozen=True)
class ErrorRule:
    """A rule by which a hidden layer turns an incoming error into its learning signal.

    Attributes:
        signal: Function from an `Arrival` to the signal by which the layer learns, and which it
            sends down; None if hidden layers do not learn.
        remembers: What is stored of a batch for the next: `"error"`, `"rates"`, or None.
        tied: Whether errors use the forward weights.
        at_outputs: Function from the errors of this and the last batch to the signal of the output
            layer, for the squared distance; None if that is the error itself.
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
