"""Complex states as pairs of real states, for holomorphic equilibrium propagation.

A batch of complex states is a real tensor with the real parts of all samples before their imaginary
parts, so that one real product acts on both, on every backend.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from keras import ops

from keras_local.dynamics.synapses import Weights, correlate, total
from keras_local.ops import settle
from keras_local.ops.backend import Tensor

Pair = tuple[Tensor, Tensor]
States = tuple[Tensor, ...]


def split(states: Tensor) -> Pair:
    """Return the real and the imaginary parts."""
    real, imaginary = ops.split(states, 2, axis=0)
    return real, imaginary


def join(real: Tensor, imaginary: Tensor) -> Tensor:
    """Return the real parts, followed by the imaginary parts."""
    return ops.concatenate([real, imaginary], axis=0)


def product(a: Pair, b: Pair) -> Pair:
    """Return the complex product."""
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def forward(weights: Weights, below: Tensor) -> Tensor:
    """Return `below @ kernel + bias`; a real bias changes only the real part."""
    field = replace(weights, bias=None).forward(below)
    if weights.bias is None:
        return field
    real, imaginary = split(field)
    return join(real + weights.bias, imaginary)


def sigmoid(field: Tensor) -> Tensor:
    """Return `1 / (1 + exp(-z))` without overflow."""
    a, b = split(field)
    # For a < 0 the formula is 1 - sigmoid(-z), so that the exponential below is at most 1.
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
    sums = (ops.sum(real, -1, keepdims=True), -ops.sum(imaginary, -1, keepdims=True))
    norm = ops.square(sums[0]) + ops.square(sums[1])
    upper = product((real, imaginary), sums)
    return join(upper[0] / norm, upper[1] / norm)


RATES: Mapping[str, Callable[[Tensor], Tensor]] = {"steep_sigmoid": steep_sigmoid, "tanh": tanh}
"""The activations that are holomorphic, on complex fields."""


HEADS: Mapping[str, Callable[[Tensor], Tensor]] = {"classes": softmax, "labels": sigmoid}
"""The readouts above the states for each kind of targets, on complex fields."""


@dataclass(frozen=True)
class Circle:
    """The nudges `nudge exp(2 pi i t / points)` on the upper half of their circle.

    The nudges on the lower half are their conjugates, and so are their states, which need not
    settle. The batch is repeated once for each nudge.

    Attributes:
        points: Number of nudges on the whole circle.
        nudge: Their strength.
        size: Number of samples in the batch.
        dtype: Dtype of the states.
    """

    points: int
    nudge: float
    size: Tensor
    dtype: str

    @property
    def angles(self) -> list[float]:
        """The angles of the nudges."""
        return [2.0 * math.pi * t / self.points for t in range(self.points // 2 + 1)]

    @property
    def counts(self) -> list[int]:
        """How many nudges of the whole circle each nudge represents: itself and its conjugate."""
        return [1 if t in (0, self.points / 2) else 2 for t in range(self.points // 2 + 1)]

    def column(self, values: list[float]) -> Tensor:
        """Return one number for each nudge as a column for the repeated batch."""
        return ops.repeat(ops.convert_to_tensor(values, self.dtype), self.size)[:, None]

    def copies(self, tensor: Tensor) -> Tensor:
        """Return the batch, repeated for each nudge."""
        return ops.tile(tensor, (len(self.angles), *(1 for _ in tensor.shape[1:])))

    @property
    def strength(self) -> Pair:
        """The nudges, as real and imaginary parts."""
        cosines = [self.nudge * math.cos(angle) for angle in self.angles]
        sines = [self.nudge * math.sin(angle) for angle in self.angles]
        return self.column(cosines), self.column(sines)

    @property
    def inverse(self) -> Pair:
        """One divided by each nudge, times the nudge's share in the mean over the circle."""
        scale = 1.0 / (self.points * self.nudge)
        pairs = list(zip(self.angles, self.counts, strict=True))
        return (
            self.column([scale * count * math.cos(angle) for angle, count in pairs]),
            self.column([-scale * count * math.sin(angle) for angle, count in pairs]),
        )

    @property
    def mean(self) -> Tensor:
        """The share of each nudge in the mean over the circle."""
        return self.column([count / self.points for count in self.counts])


def nudged_states(
    circle: Circle,
    weights: list[Weights],
    rate: Callable[[Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
    states: States,
    steps: int,
    head: Callable[[Tensor], Tensor] | None = None,
) -> States:
    """Return the complex states after `steps` steps from the free states, for each nudge.

    Args:
        circle: The nudges.
        weights: Weights of all connections; one more than there are states if a softmax is above.
        rate: The activation, on complex fields.
        inputs: Inputs of the batch.
        targets: Rows of targets.
        states: States of the free phase.
        steps: Number of steps.
        head: The readout above the states, on complex fields; None if outputs are states.
    """
    drive, aims = circle.copies(weights[0].forward(inputs)), circle.copies(targets)
    strength = circle.strength

    def pull(layer: Tensor) -> Tensor:
        if head is None:
            return join(*product(strength, _error(layer, aims)))
        error = join(*product(strength, _readout_error(weights[-1], layer, aims, head)))
        return weights[-1].backward(error)

    def step(layers: States) -> States:
        settled = []
        for index, layer in enumerate(layers):
            if index:
                field = forward(weights[index], layers[index - 1])
            else:
                field = join(drive, ops.zeros_like(drive))
            if index + 1 < len(layers):
                field = field + weights[index + 1].backward(layers[index + 1])
            else:
                field = field + pull(layer)
            settled.append(rate(field))
        return tuple(settled)

    real = tuple(map(circle.copies, states))
    start = tuple(join(layer, ops.zeros_like(layer)) for layer in real)
    return settle(step, start, steps)  # type: ignore[no-any-return]


def contrasts(
    circle: Circle, inputs: Tensor, phases: States, share: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Return the mean over the circle of `1 / nudge` times the correlations, for each layer."""
    inverse, shares = circle.inverse, circle.copies(share)
    found: list[tuple[Tensor, Tensor]] = []
    below: tuple[Tensor, Tensor | None] = (circle.copies(inputs), None)
    for layer in phases:
        above = product(inverse, split(layer))
        kernel = correlate(below[0], above[0], shares)
        if below[1] is not None:
            kernel = kernel - correlate(below[1], above[1], shares)
        found.append((kernel, total(above[0], shares)))
        below = split(layer)
    return found


def readout_change(
    circle: Circle,
    readout: Weights,
    top: Tensor,
    targets: Tensor,
    share: Tensor,
    head: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Return the change of a readout above the states by the cross-entropy at nudged states.

    Args:
        circle: The nudges.
        readout: The weights below the softmax.
        top: The highest layer of states, as `nudged_states` returns it.
        targets: Rows of targets.
        share: How much each sample counts.
        head: The softmax or the sigmoid, on complex fields.
    """
    error = _readout_error(readout, top, circle.copies(targets), head)
    real, imaginary = split(top)
    shares = circle.copies(share) * circle.mean[:, 0]
    kernel = correlate(real, error[0], shares) - correlate(imaginary, error[1], shares)
    return kernel, total(error[0], shares)


def _readout_error(
    readout: Weights, top: Tensor, aims: Tensor, head: Callable[[Tensor], Tensor]
) -> Pair:
    return _error(head(forward(readout, top)), aims)


def _error(outputs: Tensor, aims: Tensor) -> Pair:
    real, imaginary = split(outputs)
    return aims - real, -imaginary
