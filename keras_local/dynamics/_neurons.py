"""Activation functions of networks that settle: their values, and their potentials."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from keras import ops

from keras_local.ops.backend import Tensor


@dataclass(frozen=True)
class Neuron:
    """An activation function `s = rate(u)` and its potential.

    Attributes:
        rate: Function of the field `u`.
        potential: Function `G` of the rate with `G'(s) = u`: the energy of a unit is `G(s) - u s`.
        low: The smallest rate.
        high: The largest rate.
    """

    rate: Callable[[Tensor], Tensor]
    potential: Callable[[Tensor], Tensor]
    low: float = 0.0
    high: float = 1.0


def _steep_sigmoid(field: Tensor) -> Tensor:
    return ops.sigmoid(4.0 * field - 2.0)


def _steep_sigmoid_potential(rate: Tensor) -> Tensor:
    return 0.5 * rate + 0.25 * (_x_log_x(rate) + _x_log_x(1.0 - rate))


def _tanh_potential(rate: Tensor) -> Tensor:
    return 0.5 * (_x_log_x(1.0 + rate) + _x_log_x(1.0 - rate))


def _x_log_x(x: Tensor) -> Tensor:
    return x * ops.log(ops.where(x > 0, x, ops.ones_like(x)))


NEURONS: Mapping[str, Neuron] = {
    "unit_clip": Neuron(lambda u: ops.clip(u, 0.0, 1.0), lambda s: 0.5 * ops.square(s)),
    "half_clip": Neuron(lambda u: ops.clip(0.5 * u, 0.0, 1.0), ops.square),
    "steep_sigmoid": Neuron(_steep_sigmoid, _steep_sigmoid_potential),
    "tanh": Neuron(ops.tanh, _tanh_potential, low=-1.0),
    "sigmoid": Neuron(ops.sigmoid, lambda s: _x_log_x(s) + _x_log_x(1.0 - s)),
    "linear": Neuron(lambda u: u, lambda s: 0.5 * ops.square(s), low=-math.inf, high=math.inf),
}


def sigmoid_change(before: Tensor, step: Tensor, after: Tensor) -> Tensor:
    """Return `sigmoid(before + step) - sigmoid(before)`, exact for a small step.

    Args:
        before: Potentials.
        step: What is added to them.
        after: `sigmoid(before + step)`.
    """
    rates = ops.sigmoid(before)
    return ops.tanh(0.5 * step) * (after + rates - 2.0 * after * rates)
