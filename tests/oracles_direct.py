"""Direct feedback once more, in NumPy and in loops, written from its formulas."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tests import oracles


def signal(kind: str, error: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What is sent to every hidden layer: `e`, `sign(e) / batch` or `t / batch`."""
    batch, classes = error.shape
    sent = np.zeros((batch, classes))
    for b, c in np.ndindex(batch, classes):
        if kind == "error":
            sent[b, c] = error[b, c]
        elif kind == "sign":
            sent[b, c] = np.sign(error[b, c]) / batch
        else:
            sent[b, c] = (1.0 if labels[b] == c else 0.0) / batch
    return sent


def send(sent: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`g_b(unit) = sum_c s_bc D_c(unit)`, over units of any number of axes."""
    arrived = np.zeros((len(sent), *weights.shape[1:]))
    for b, c in np.ndindex(*sent.shape):
        arrived[b] += sent[b, c] * weights[c]
    return arrived


def step(
    kind: str,
    inputs: np.ndarray,
    labels: np.ndarray,
    kernels: Sequence[np.ndarray],
    biases: Sequence[np.ndarray],
    direct: Sequence[np.ndarray],
    activation: Callable[[np.ndarray], np.ndarray] = np.tanh,
    derivative: Callable[[np.ndarray], np.ndarray] = oracles.tanh_derivative,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Gradients of kernels and biases: `delta_l = (s D_l) * f'(h_l)`, the last layer exact."""
    fields, activities = [], [np.asarray(inputs, "float64")]
    for kernel, bias in zip(kernels, biases, strict=True):
        fields.append(oracles.dense(activities[-1], kernel) + bias)
        activities.append(activation(fields[-1]))
    _, error = oracles.cross_entropy(fields[-1], labels)
    sent = signal(kind, error, labels)
    deltas = [
        send(sent, weights) * derivative(field)
        for weights, field in zip(direct, fields[:-1], strict=True)
    ]
    deltas.append(error)
    gradients = [
        oracles.dense_kernel_gradient(x, d) for x, d in zip(activities[:-1], deltas, strict=True)
    ]
    return gradients, [delta.sum(axis=0) for delta in deltas]
