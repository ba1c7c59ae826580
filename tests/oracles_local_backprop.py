"""NumPy oracle of Baserdem's network, with column vectors as in the specification."""

from __future__ import annotations

import numpy as np

Arrays = list[np.ndarray]


def rate(u: np.ndarray, steepness: float, kind: str) -> np.ndarray:
    if kind == "linear":
        return steepness * u
    top = steepness if kind == "resu" else np.inf
    return np.minimum(top, np.maximum(0.0, steepness * u))


class LocalBackprop:
    """`W[b]` is `(n_b, m_b)` and `A[b]` is `(m_{b+1}, n_b)`; samples are columns."""

    def __init__(
        self,
        W: Arrays,
        A: Arrays,
        B: Arrays,
        steepness: float,
        tau: float,
        kind: str,
        precision: Arrays | list[float] | None = None,
    ) -> None:
        self.W, self.A, self.B = W, A, [b[:, None] for b in B]
        self.steepness, self.tau, self.kind = steepness, tau, kind
        self.precision = precision or [1.0] * (len(W) + 1)

    def units(self, X: Arrays, x: np.ndarray, y: np.ndarray) -> tuple[Arrays, Arrays]:
        F = [rate(a - b, self.steepness, self.kind) for a, b in zip(X, self.B, strict=True)]
        D = [x - self.W[0].T @ F[0]]
        for b in range(1, len(self.W)):
            D.append(self.A[b - 1] @ F[b - 1] - self.W[b].T @ F[b])
        D.append(self.A[-1] @ F[-1] - y)
        return F, D

    def run(
        self, x: np.ndarray, y: np.ndarray, steps: int, step: float, blocked: bool = False
    ) -> tuple[Arrays, Arrays, Arrays, Arrays]:
        """`X`, `F`, `D` and `dX/dt` at the last of `steps` evaluations, from `X = 0`."""
        X = [np.zeros((len(w), x.shape[1])) for w in self.W]
        for each in range(steps):
            F, D = self.units(X, x, y)
            V = []
            for b in range(len(X)):
                v = -(X[b] + self.B[b]) / self.tau + self.W[b] @ (self.precision[b] * D[b])
                if not (blocked and b == len(X) - 1):
                    v = v - self.A[b].T @ (self.precision[b + 1] * D[b + 1])
                V.append(v)
            if each < steps - 1:
                X = [a + step * v for a, v in zip(X, V, strict=True)]
        return X, F, D, V

    def energy(self, x: np.ndarray, y: np.ndarray, steps: int, step: float) -> float:
        """The relaxed energy, with what the leak adds, summed over samples."""
        _, F, D, _ = self.run(x, y, steps, step)
        total = 0.0
        for p, d in zip(self.precision, D, strict=True):
            total += 0.5 * p * np.sum(d**2)
        for f, b in zip(F, self.B, strict=True):
            total += (np.sum(f**2) / (2 * self.steepness) + 2 * np.sum(b * f)) / self.tau
        return float(total)


def generator_gradients(x: np.ndarray, y: np.ndarray, W: Arrays) -> Arrays:
    """Backpropagation in the linear network from labels to images: descent of its loss."""
    h = [y]
    for w in reversed(W):
        h.insert(0, w.T @ h[0])
    d = x - h[0]
    found = []
    for b, w in enumerate(W):
        found.append(h[b + 1] @ d.T)
        d = w @ d
    return found


def inverse_gradients(x: np.ndarray, y: np.ndarray, W: Arrays) -> Arrays:
    """Descent of `1/2 |F_L - y|^2` for forward weights `W^{-T}`, expressed in `W`."""
    h = [x]
    for w in W:
        h.append(np.linalg.solve(w.T, h[-1]))
    d, found = h[-1] - y, []
    for b in reversed(range(len(W))):
        d = np.linalg.solve(W[b], d)
        found.insert(0, h[b + 1] @ d.T)
    return found


def classifier_gradients(x: np.ndarray, y: np.ndarray, A: Arrays, kind: str) -> Arrays:
    """Backpropagation from images to labels, the last layer linear: descent."""
    h, fields = [x], []
    for b, a in enumerate(A):
        fields.append(a @ h[-1])
        h.append(fields[-1] if kind == "linear" or b == len(A) - 1 else np.maximum(0, fields[-1]))
    d, found = h[-1] - y, []
    for b in reversed(range(len(A))):
        found.insert(0, -d @ h[b].T)
        d = A[b].T @ d
        if b and kind == "relu":
            d = d * (fields[b - 1] > 0)
    return found
