"""Plasticity once more, in NumPy and in loops, written from the formulas.

Nothing here is imported from the package, and nothing is fast: one sample, one unit, one synapse at
a time, in float64. Kernels are `(inputs, units)`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Krotov:
    """The fast ranking form of Krotov and Hopfield's rule; rank 1 is the winner."""

    p: float = 2.0
    rank: int = 2
    delta: float = 0.4

    def strength(self, weight: float) -> float:
        """`sign(w) |w|^(p-1)`: what a synapse adds to the current for an input of 1."""
        size = abs(weight) ** (self.p - 1.0)
        return size if weight > 0.0 else -size if weight < 0.0 else 0.0

    def currents(self, inputs: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        """`I_bk = sum_i v_bi sign(w_ik) |w_ik|^(p-1)`."""
        strengths = np.zeros(kernel.shape)
        for i, k in np.ndindex(*kernel.shape):
            strengths[i, k] = self.strength(float(kernel[i, k]))
        currents = np.zeros((len(inputs), kernel.shape[1]))
        for b, i in np.ndindex(*inputs.shape):
            currents[b] += float(inputs[b, i]) * strengths[i]
        return currents

    def gains(self, currents: np.ndarray) -> np.ndarray:
        """1 for the unit of rank 1, `-delta` for the unit of the given rank, 0 for the others."""
        gains = np.zeros(currents.shape)
        for b in range(len(currents)):
            # Of equal currents the unit of lower index comes first.
            order = sorted(range(currents.shape[1]), key=lambda k, b=b: (-currents[b, k], k))
            gains[b, order[0]] = 1.0
            gains[b, order[self.rank - 1]] = -self.delta
        return gains

    def change(self, inputs: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        """`D_ik = sum_b g_bk (v_bi - I_bk w_ik)`."""
        currents = self.currents(inputs, kernel)
        gains = self.gains(currents)
        change = np.zeros(kernel.shape)
        for b, k in zip(*np.nonzero(gains), strict=True):
            for i in range(len(kernel)):
                drawn = float(inputs[b, i]) - currents[b, k] * float(kernel[i, k])
                change[i, k] += gains[b, k] * drawn
        return change

    def step(self, inputs: np.ndarray, kernel: np.ndarray, step_size: float) -> np.ndarray:
        """`w + step_size * D / max |D|`."""
        change = self.change(inputs, kernel)
        largest = max(abs(float(entry)) for entry in change.ravel())
        moved = np.array(kernel, "float64")
        for index in np.ndindex(*kernel.shape):
            moved[index] += step_size * change[index] / max(largest, 1e-30)
        return moved

    def train(
        self, batches: Iterable[np.ndarray], kernel: np.ndarray, step_size: float
    ) -> np.ndarray:
        """A step of the same size on each batch."""
        for batch in batches:
            kernel = self.step(batch, kernel, step_size)
        return kernel

    def epochs(
        self, batches: list[np.ndarray], kernel: np.ndarray, step_size: float, epochs: int
    ) -> np.ndarray:
        """Epochs of falling step size: `step_size * (1 - e / E)` in epoch e of E."""
        for epoch in range(epochs):
            kernel = self.train(batches, kernel, step_size * (1.0 - epoch / epochs))
        return kernel

    def closest_rivals(self, inputs: np.ndarray, kernel: np.ndarray) -> float:
        """How close two currents that decide a rank come, over the size of the currents.

        Rounding decides below about 1e-6: another program may then rank another unit.
        """
        currents = np.sort(self.currents(inputs, kernel), axis=1)[:, ::-1]
        gaps = []
        for row in currents:
            gaps.append(row[0] - row[1])
            gaps.append(row[self.rank - 2] - row[self.rank - 1])
            if self.rank < len(row):
                gaps.append(row[self.rank - 1] - row[self.rank])
        return min(gaps) / float(np.max(np.abs(currents)))


def unit_lengths(kernel: np.ndarray) -> np.ndarray:
    """Euclidean length of each unit's weights."""
    lengths = np.zeros(kernel.shape[1])
    for k in range(kernel.shape[1]):
        lengths[k] = sum(float(weight) ** 2 for weight in kernel[:, k]) ** 0.5
    return lengths
