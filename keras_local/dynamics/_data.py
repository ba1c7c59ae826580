"""Samples and labels of a network: refused as arrays, and brought to one form in a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from keras_local import _validation as check
from keras_local.ops.backend import Tensor

_ROWS = 4096


def check_inputs(argument: str, x: Any, sample_shape: tuple[int, ...]) -> int:
    """Refuse samples of another shape, or with NaN; return how many there are."""
    shape = tuple(x.shape)
    allowed = f"of shape (samples, {', '.join(map(str, sample_shape))})"
    check.require(shape[1:] == sample_shape, argument, allowed, f"shape {shape}")
    values = np.asarray(ops.convert_to_numpy(x))
    numeric = values.dtype.kind in "biuf"
    check.require(numeric, argument, "numbers", f"{values.dtype} entries")
    # A few rows at a time: the mask of a whole data set would be large.
    blocks = (values[i : i + _ROWS] for i in range(0, len(values), _ROWS))
    finite = values.dtype.kind != "f" or all(np.isfinite(block).all() for block in blocks)
    check.require(finite, argument, "finite", "NaN or infinite entries")
    return len(values)


def check_labels(argument: str, y: Any, samples: int, classes: int) -> None:
    """Refuse labels that are no classes, or not one for each sample."""
    labels = np.asarray(ops.convert_to_numpy(y))
    numeric = labels.dtype.kind in "biuf"
    rows = labels.ndim == 2 and labels.shape[1] == classes
    integers = labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)
    allowed = f"{samples} integer labels, or one-hot labels of shape ({samples}, {classes})"
    fits = numeric and (rows or integers) and len(labels) == samples
    received = f"shape {labels.shape}" if numeric else f"{labels.dtype} labels"
    check.require(fits, argument, allowed, received)
    if rows:
        valid = (labels >= 0).all(axis=1) & (np.abs(labels.sum(axis=1) - 1.0) < 1e-3)
        allowed = "one-hot rows, or smoothed ones: no entry negative, the sum 1"
    else:
        valid = np.isin(labels, np.arange(classes)).reshape(-1)
        allowed = f"integers from 0 to {classes - 1}"
    check.require(bool(valid.all()), argument, allowed, labels[~valid][:3].tolist())


def class_targets(y: Any, classes: int, dtype: str) -> Tensor:
    """Return one-hot labels `(batch, classes)`; NaN for a label that is no class.

    In a graph nothing can be raised; a network changes no weight on a loss of NaN, and says so.
    """
    labels = ops.cast(ops.convert_to_tensor(y), dtype)
    shape = tuple(labels.shape)
    rows = len(shape) == 2 and shape[1] == classes
    integers = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
    allowed = f"integer labels, or one-hot labels of shape (batch, {classes})"
    check.require(rows or integers, "y", allowed, f"shape {shape}")
    if rows:
        return labels
    labels = ops.reshape(labels, (-1, 1))
    one_hot = ops.cast(ops.equal(labels, ops.arange(classes, dtype=dtype)), dtype)
    known = ops.sum(one_hot, axis=-1, keepdims=True)
    return ops.where(known > 0, one_hot, ops.full_like(one_hot, float("nan")))
