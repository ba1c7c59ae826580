"""The locally connected map in NumPy, one synapse at a time; shares no code with the package."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class LocallyConnected:
    """One synapse at a time: position `p` of the outputs sees `p * stride + tap - before`."""

    taps: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str
    channels_first: bool = False

    def outputs(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if self.padding == "same":
            return tuple(-(-n // s) for n, s in zip(sizes, self.strides, strict=True))
        return tuple(
            (n - k) // s + 1 for n, k, s in zip(sizes, self.taps, self.strides, strict=True)
        )

    def synapses(self, sizes: tuple[int, ...], c_in: int) -> Iterator[tuple[Any, Any, int, int]]:
        """Every (input position, output position, input channel, row of the kernel)."""
        counts = self.outputs(sizes)
        before = [
            max((m - 1) * s + k - n, 0) // 2 if self.padding == "same" else 0
            for n, m, k, s in zip(sizes, counts, self.taps, self.strides, strict=True)
        ]
        for target in itertools.product(*map(range, counts)):
            row = -1
            for tap in itertools.product(*map(range, self.taps)):
                source = tuple(
                    p * s + t - b
                    for p, s, t, b in zip(target, self.strides, tap, before, strict=True)
                )
                inside = all(0 <= q < n for q, n in zip(source, sizes, strict=True))
                for channel in range(c_in):
                    row += 1
                    if inside:
                        yield source, target, channel, row

    def apply(self, inputs: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        x = self.last(inputs)
        y = np.zeros((len(x), *kernel.shape[:-2], kernel.shape[-1]))
        for source, target, channel, row in self.synapses(x.shape[1:-1], x.shape[-1]):
            y[(slice(None), *target)] += np.outer(
                x[(slice(None), *source, channel)], kernel[(*target, row)]
            )
        return self.first(y)

    def input_gradient(
        self, upstream: np.ndarray, kernel: np.ndarray, shape: tuple[int, ...]
    ) -> np.ndarray:
        e, x = self.last(upstream), self.last(np.zeros(shape)).copy()
        for source, target, channel, row in self.synapses(x.shape[1:-1], x.shape[-1]):
            x[(slice(None), *source, channel)] += e[(slice(None), *target)] @ kernel[(*target, row)]
        return self.first(x)

    def kernel_gradient(
        self, inputs: np.ndarray, upstream: np.ndarray, shape: tuple[int, ...]
    ) -> np.ndarray:
        x, e, gradient = self.last(inputs), self.last(upstream), np.zeros(shape)
        for source, target, channel, row in self.synapses(x.shape[1:-1], x.shape[-1]):
            gradient[(*target, row)] += (
                x[(slice(None), *source, channel)] @ e[(slice(None), *target)]
            )
        return gradient

    def last(self, values: np.ndarray) -> np.ndarray:
        values = np.asarray(values, "float64")
        return np.moveaxis(values, 1, -1) if self.channels_first else values

    def first(self, values: np.ndarray) -> np.ndarray:
        return np.moveaxis(values, -1, 1) if self.channels_first else values
