"""Hebbian rules once more, in NumPy and in loops, written from the formulas.

Nothing here is imported from the package, and nothing is fast: one sample, one unit at a time, in
float64. Kernels are `(inputs, units)`, samples `(samples, inputs)`. Every function returns the sum
over samples of the change, without normaliser or rate.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np


def by_gain(
    x: np.ndarray,
    w: np.ndarray,
    gains: Callable[[np.ndarray], list[float]],
    decay: Callable[[float, float], float],
) -> np.ndarray:
    """`sum_b g_bk x_b - decay(g_bk, u_bk) w_k`."""
    x, w = x.astype("float64"), w.astype("float64")
    change = np.zeros(w.shape)
    for sample in x:
        currents = np.array([sample @ w[:, k] for k in range(w.shape[1])])
        for k, gain in enumerate(gains(currents)):
            change[:, k] += gain * sample - decay(gain, currents[k]) * w[:, k]
    return change


def projected(gain: float, current: float) -> float:
    return gain * current


def none(gain: float, current: float) -> float:
    return 0.0


def softmax(scores: np.ndarray) -> list[float]:
    powers = [math.exp(score - max(scores)) for score in scores]
    return [power / sum(powers) for power in powers]


def soft_hebb(x: np.ndarray, w: np.ndarray, beta: float, anti_hebbian: bool) -> np.ndarray:
    def gains(u: np.ndarray) -> list[float]:
        shares = softmax(beta * u)
        best = max(range(len(u)), key=lambda k: u[k])
        return [y if k == best or not anti_hebbian else -y for k, y in enumerate(shares)]

    return by_gain(x, w, gains, projected)


def hard_wta(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    def gains(u: np.ndarray) -> list[float]:
        best = max(range(len(u)), key=lambda k: u[k])
        return [1.0 if k == best else 0.0 for k in range(len(u))]

    return by_gain(x, w, gains, projected)


def kwta(x: np.ndarray, w: np.ndarray, winners: int) -> np.ndarray:
    """The mean over its own wins of `x - w`, for each unit."""
    x, w = x.astype("float64"), w.astype("float64")
    won: list[list[np.ndarray]] = [[] for _ in range(w.shape[1])]
    for sample in x:
        cosines = [
            sample @ w[:, k] / np.linalg.norm(w[:, k]) / np.linalg.norm(sample)
            for k in range(w.shape[1])
        ]
        for k in sorted(range(len(cosines)), key=lambda k: -cosines[k])[:winners]:
            won[k].append(sample - w[:, k])
    means = [np.mean(each, axis=0) if each else np.zeros(len(w)) for each in won]
    return np.stack(means, axis=1)


def hebb(x: np.ndarray, w: np.ndarray, decay: float) -> np.ndarray:
    return by_gain(x, w, list, lambda gain, current: decay)


def oja(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return by_gain(x, w, list, projected)


def reconstructing(
    x: np.ndarray, w: np.ndarray, activity: Callable[[float], float], before: bool
) -> np.ndarray:
    """`y_k (x - sum_l y_l w_l)`, over the units l up to k, or over all."""
    x, w = x.astype("float64"), w.astype("float64")
    change = np.zeros(w.shape)
    for sample in x:
        y = [activity(float(sample @ w[:, k])) for k in range(w.shape[1])]
        for k in range(w.shape[1]):
            left = np.array(sample)
            for j in range(w.shape[1]):
                if j <= k or not before:
                    left -= y[j] * w[:, j]
            change[:, k] += y[k] * left
    return change


def bcm(
    x: np.ndarray, w: np.ndarray, theta: np.ndarray, bounded: bool, inhibition: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """The change, and the mean square of the activity."""
    x, w = x.astype("float64"), w.astype("float64")
    units = w.shape[1]
    lateral = np.eye(units)
    for i, j in itertools.permutations(range(units), 2):
        lateral[i, j] = inhibition
    change, squares = np.zeros(w.shape), np.zeros(units)
    for sample in x:
        y = np.maximum(np.linalg.inv(lateral) @ (w.T @ sample), 0.0)
        squares += y**2 / len(x)
        for k in range(units):
            phi = y[k] * (y[k] - theta[k])
            change[:, k] += (phi / theta[k] if bounded else phi) * sample
    return change, squares


def similarity_matching(
    x: np.ndarray, w: np.ndarray, lateral: np.ndarray, tau: float
) -> tuple[np.ndarray, np.ndarray]:
    """The changes of forward and of lateral weights, both summed over samples."""
    x, w = x.astype("float64"), w.astype("float64")
    forward, sideways = np.zeros(w.shape), np.zeros(lateral.shape)
    for sample in x:
        y = np.linalg.inv(lateral.astype("float64")) @ (w.T @ sample)
        forward += 2.0 * (np.outer(sample, y) - w)
        sideways += (np.outer(y, y) - lateral) / tau
    return forward, sideways


def nonlinear(x: np.ndarray, w: np.ndarray, f: Callable[[float], float]) -> np.ndarray:
    return by_gain(x, w, lambda u: [f(float(each)) for each in u], none)


def sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value))


def convallis_slope(v: float) -> float:
    return 2.0 * sigmoid((v - 0.8) / 0.1) - sigmoid((v - 0.3) / 0.1)


def steady_state(currents: np.ndarray, inhibition: float) -> np.ndarray:
    """Rest of `dh_k/dt = I_k - w sum_{l != k} max(h_l, 0) - h_k`, by trying every active set."""
    units = len(currents)
    for size in range(units + 1):
        for chosen in itertools.combinations(range(units), size):
            rows = np.eye(units)
            for k in range(units):
                for j in chosen:
                    if j != k:
                        rows[k, j] = inhibition
            h = np.linalg.solve(rows, currents)
            if {k for k in range(units) if h[k] > 0.0} == set(chosen):
                return h
    raise AssertionError("no state of rest")


def slow_krotov(
    x: np.ndarray, w: np.ndarray, p: float, delta: float, threshold: float, inhibition: float
) -> np.ndarray:
    x, w = x.astype("float64"), w.astype("float64")
    change = np.zeros(w.shape)
    strengths = np.sign(w) * np.abs(w) ** (p - 1.0)
    for sample in x:
        currents = np.array([sample @ strengths[:, k] for k in range(w.shape[1])])
        h = steady_state(currents, inhibition)
        for k in range(w.shape[1]):
            gain = 1.0 if h[k] >= threshold else -delta if h[k] > 0.0 else 0.0
            change[:, k] += gain * (sample - currents[k] * w[:, k])
    return change


def patches(images: np.ndarray, size: tuple[int, int], strides: tuple[int, int]) -> np.ndarray:
    """All windows without padding, `(batch, rows, columns, taps * channels)`."""
    batch, height, width, _ = images.shape
    rows = range(0, height - size[0] + 1, strides[0])
    columns = range(0, width - size[1] + 1, strides[1])
    cut = [
        [[images[b, i : i + size[0], j : j + size[1]].reshape(-1) for j in columns] for i in rows]
        for b in range(batch)
    ]
    return np.array(cut)


def foldiak_answers(
    x: np.ndarray,
    w: np.ndarray,
    lateral: np.ndarray,
    threshold: np.ndarray,
    steps: int,
    step: float,
) -> np.ndarray:
    """Answers 0 or 1 after `steps` Euler steps from rest, for a slope of 10."""
    answers = np.zeros((len(x), w.shape[1]))
    for b, sample in enumerate(x.astype("float64")):
        h = [0.0] * w.shape[1]
        for _ in range(steps):
            inputs = [
                float(sample @ w[:, k]) + sum(lateral[k, j] * h[j] for j in range(len(h)))
                for k in range(len(h))
            ]
            h = [
                one + step * (sigmoid(10.0 * (drive - limit)) - one)
                for one, drive, limit in zip(h, inputs, threshold, strict=True)
            ]
        answers[b] = [float(one > 0.5) for one in h]
    return answers


def foldiak(
    x: np.ndarray,
    w: np.ndarray,
    lateral: np.ndarray,
    threshold: np.ndarray,
    steps: int,
    step: float,
) -> np.ndarray:
    """`y_k (x - w_k)`, summed over samples."""
    change = np.zeros(w.shape)
    for sample, y in zip(x, foldiak_answers(x, w, lateral, threshold, steps, step), strict=True):
        for k in np.flatnonzero(y):
            change[:, k] += sample - w[:, k]
    return change
