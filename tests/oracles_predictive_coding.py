"""NumPy oracle of predictive coding, with column vectors as in the specification."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Arrays = list[np.ndarray]


class PredictiveCoding:
    """`W[l]` is `(n_{l+1}, n_l)`; the inputs are the rates of the lowest layer."""

    def __init__(
        self,
        W: Arrays,
        b: Arrays,
        f: Callable[[np.ndarray], np.ndarray],
        slope: Callable[[np.ndarray], np.ndarray],
        variance: float,
    ) -> None:
        self.W, self.b, self.f, self.slope, self.variance = W, b, f, slope, variance

    def feedforward(self, x: np.ndarray) -> Arrays:
        values, rates = [], x
        for w, b in zip(self.W, self.b, strict=True):
            values.append(w @ rates + b[:, None])
            rates = self.f(values[-1])
        return values

    def errors(self, x: np.ndarray, values: Arrays) -> Arrays:
        found, rates = [], x
        for k, value in enumerate(values):
            error = value - self.W[k] @ rates - self.b[k][:, None]
            found.append(error / self.variance if k == len(values) - 1 else error)
            rates = self.f(value)
        return found

    def settle(self, x: np.ndarray, y: np.ndarray, steps: int, size: float) -> Arrays:
        values = [*self.feedforward(x)[:-1], y]
        for _ in range(steps):
            e = self.errors(x, values)
            values = [
                values[k] + size * (-e[k] + self.slope(values[k]) * (self.W[k + 1].T @ e[k + 1]))
                for k in range(len(values) - 1)
            ] + [y]
        return values

    def energy(self, x: np.ndarray, values: Arrays) -> np.ndarray:
        e = self.errors(x, values)
        top = self.variance * np.sum(e[-1] ** 2, axis=0)
        return 0.5 * (top + sum(np.sum(error**2, axis=0) for error in e[:-1]))

    def changes(self, x: np.ndarray, values: Arrays) -> Arrays:
        found, rates = [], x
        for error, value in zip(self.errors(x, values), values, strict=True):
            change = np.zeros((len(error), len(rates)))
            for sample in range(x.shape[1]):
                change += self.variance * np.outer(error[:, sample], rates[:, sample])
            found.append(change / x.shape[1])
            rates = self.f(value)
        return found

    def backprop(self, x: np.ndarray, y: np.ndarray) -> Arrays:
        """Descent of half the squared distance in the feedforward network."""
        values = self.feedforward(x)
        rates = [x, *(self.f(value) for value in values[:-1])]
        delta, found = y - values[-1], []
        for k in reversed(range(len(values))):
            found.insert(0, delta @ rates[k].T / x.shape[1])
            if k:
                delta = self.slope(values[k - 1]) * (self.W[k].T @ delta)
        return found
