"""Complex states as pairs of real ones: the nudges of holomorphic equilibrium propagation.

A batch of complex states is a real tensor with the real parts of all samples before their imaginary
parts, so that one real product acts on both, on every backend.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from keras import ops

from keras_local.dynamics.synapses import Weights
from keras_local.ops.backend import Tensor

Pair = tuple[Tensor, Tensor]


def split(states: Tensor) -> Pair:
    """Return the real and the imaginary parts."""
    real, imaginary = ops.split(states, 2, axis=0)
    return real, imaginary


def join(real: Tensor, imaginary: Tensor) -> Tensor:
    """Return the real parts and, behind them, the imaginary ones."""
    return ops.concatenate([real, imaginary], axis=0)


def product(a: Pair, b: Pair) -> Pair:
    """Return the complex product."""
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def forward(weights: Weights, below: Tensor) -> Tensor:
    """Return `below @ kernel + bias`: a real bias moves the real part alone."""
    field = replace(weights, bias=None).forward(below)
    if weights.bias is None:
        return field
    real, imaginary = split(field)
    return join(real + weights.bias, imaginary)


def sigmoid(field: Tensor) -> Tensor:
    """Return `1 / (1 + exp(-z))`, without an overflow on either side."""
    a, b = split(field)
    # For a < 0 it is 1 - sigmoid(-z): the exponential below is at most 1.
    small = ops.exp(-ops.abs(a))
    cosine, sine = small * ops.cos(b), small * ops.sin(b)
    norm = 1.0 + 2.0 * cosine + ops.square(small)
    real = ops.where(a >= 0, 1.0 + cosine, cosine + ops.square(small)) / norm
    return join(real, sine / norm)


def steep_sigmoid(field: Tensor) -> Tensor:
    """Return `1 / (1 + exp(-4 (z - 1/2)))`."""
    real, imaginary = split(field)
    return sigmoid(join(4.0 * real - 2.0, 4.0 * imaginary))


def tanh(field: Tensor) -> Tensor:
    """Return `2 / (1 + exp(-2 z)) - 1`."""
    real, imaginary = split(sigmoid(2.0 * field))
    return join(2.0 * real - 1.0, 2.0 * imaginary)


def softmax(field: Tensor) -> Tensor:
    """Return `exp(z) / sum exp(z)` along the last axis."""
    a, b = split(field)
    size = ops.exp(a - ops.max(a, axis=-1, keepdims=True))
    real, imaginary = size * ops.cos(b), size * ops.sin(b)
    total = (ops.sum(real, -1, keepdims=True), -ops.sum(imaginary, -1, keepdims=True))
    norm = ops.square(total[0]) + ops.square(total[1])
    upper = product((real, imaginary), total)
    return join(upper[0] / norm, upper[1] / norm)


RATES: Mapping[str, Callable[[Tensor], Tensor]] = {"steep_sigmoid": steep_sigmoid, "tanh": tanh}
"""The activations that are holomorphic, on complex fields."""


def circle(points: int) -> tuple[list[complex], list[int]]:
    """Return the points `exp(2 pi i t / points)` of the upper half circle, and their numbers.

    Those below are conjugates, and so are the states that belong to them: they need not settle.
    """
    half = range(points // 2 + 1)
    angles = [2.0 * math.pi * t / points for t in half]
    counts = [1 if t in (0, points / 2) else 2 for t in half]
    return [complex(math.cos(angle), math.sin(angle)) for angle in angles], counts
