"""Losses of blocks, written from the paper's formulas with loops over samples and pairs."""

from __future__ import annotations

import numpy as np


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    product = (1e-8 + np.sqrt((a * a).sum())) * (1e-8 + np.sqrt((b * b).sum()))
    return float(np.clip((a * b).sum() / product, -1.0, 1.0))


def rows_of(outputs: np.ndarray) -> list[np.ndarray]:
    """Features of each sample: of maps (height, width, channels) the deviations of channels."""
    if outputs.ndim == 2:
        return list(outputs)
    if outputs.shape[-1] <= 3 or outputs.shape[1] == 1:
        return [sample.reshape(-1) for sample in outputs]
    found = []
    for sample in outputs:
        channels = sample.reshape(-1, sample.shape[-1])
        found.append(np.array([np.std(channel, ddof=1) for channel in channels.T]))
    return found


def similarity_loss(outputs: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """Mean over all pairs of the squared difference of similarities."""
    features = rows_of(outputs.astype("float64"))
    targets = np.eye(classes)[labels]
    total = 0.0
    for a, t in zip(features, targets, strict=True):
        for b, u in zip(features, targets, strict=True):
            total += (correlation(a, b) - correlation(t, u)) ** 2
    return total / len(features) ** 2


def pooled_shape(channels: int, side: int, limit: int) -> tuple[int, int]:
    """Height and width of pooled maps, from the rule of the authors' code."""
    kh = kw = 1
    oh = ow = side
    while channels * oh * ow > limit and kh < side:
        kh *= 2
        oh = int(np.ceil(side / kh))
        if channels * oh * ow > limit:
            kw *= 2
            ow = int(np.ceil(side / kw))
    return oh, ow


def pooled(outputs: np.ndarray, window: tuple[int, int], padding: tuple[int, int]) -> np.ndarray:
    """Average of windows side by side; padded zeros count."""
    (kh, kw), (ph, pw) = window, padding
    padded = np.pad(outputs, ((0, 0), (ph, ph), (pw, pw), (0, 0)))
    height, width = padded.shape[1] // kh, padded.shape[2] // kw
    result = np.zeros((len(outputs), height, width, outputs.shape[-1]))
    for i in range(height):
        for j in range(width):
            part = padded[:, i * kh : (i + 1) * kh, j * kw : (j + 1) * kw]
            result[:, i, j] = part.mean(axis=(1, 2))
    return result
