"""Checks of class labels, for losses, readouts, networks and the data gate.

Labels are integers from 0 to `classes - 1`, of shape `(batch,)` or `(batch, 1)`, or one-hot rows of
shape `(batch, classes)`. If a rule supports it, rows may be smoothed: no entry is negative, and the
sum is 1. Wrong arrays are refused with a `ValueError`. In a compiled graph `class_targets` returns
which labels are classes, and its caller asserts it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from keras_local import _validation as check
from keras_local.ops.backend import Tensor, backend

_SUM_OFF = 1e-3
"""The largest difference of a smoothed row's sum from 1, by rounding in half precision."""


def check_labels(
    argument: str,
    labels: Any,
    classes: int,
    samples: int | None = None,
    smoothed: bool = False,
    where: str = "",
) -> None:
    """Refuse labels that are not classes, or not one for each sample.

    Args:
        argument: Name of the labels in the message.
        labels: An array or tensor with values.
        classes: The number of classes.
        samples: The required number of labels; None for any number.
        smoothed: Whether rows that sum to 1 are labels, and not only one-hot rows.
        where: Text about the place for the message, such as `" in every batch of `x`"`.
    """
    count = "" if samples is None else f"{samples} "
    allowed = f"{count}integer labels, or one-hot labels of {classes} classes{where}"
    check.require(labels is not None, argument, allowed, None)
    values = as_numpy(labels)
    numeric = is_numeric(values)
    rows = values.ndim == 2 and values.shape[1] == classes
    integers = values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)
    fits = numeric and (rows or integers) and samples in (None, len(values))
    received = f"shape {values.shape}" if numeric else f"{values.dtype} labels"
    check.require(fits, argument, allowed, received)
    if rows:
        sums = values.sum(axis=1, dtype="float64")
        valid = (values >= 0).all(axis=1) & (np.abs(sums - 1.0) < _SUM_OFF)
        allowed = "one-hot rows, or smoothed ones: no entry negative, the sum 1"
        if not smoothed:
            valid &= ((values == 0) | (values == 1)).all(axis=1)
            allowed = "one-hot rows (one entry 1, all others 0) or integer labels"
    else:
        values = values.reshape(-1)
        valid = (values >= 0) & (values < classes) & (values == np.floor(values))
        allowed = f"integers from 0 to {classes - 1}"
    if not valid.all():
        check.require(False, argument, allowed + where, values[~valid][:3].tolist())


def class_targets(
    argument: str, labels: Any, classes: int, dtype: str, smoothed: bool = False
) -> tuple[Tensor, Tensor]:
    """Return labels as rows `(batch, classes)`, and which of them are classes, `(batch,)`.

    This is for graphs, where values are not known. A label that is not a class has a row of zeros.

    Raises:
        ValueError: For labels of another shape.
    """
    labels = ops.cast(ops.convert_to_tensor(labels), dtype)
    if not has_known_rank(labels):
        return _targets_of_any_rank(argument, labels, classes, dtype, smoothed)
    shape = static_shape(argument, labels)
    rows = len(shape) == 2 and shape[1] in (classes, None)
    integers = len(shape) == 1 or shape[1:] == (1,)
    allowed = (
        "integer labels of shape (batch,) or (batch, 1), or one-hot labels of shape "
        f"(batch, {classes})"
    )
    check.require(rows or integers, argument, allowed, f"shape {shape}")
    if integers:
        labels = ops.reshape(labels, (-1, 1))
        targets = ops.cast(ops.equal(labels, ops.arange(classes, dtype=dtype)), dtype)
        return targets, ops.any(targets > 0, axis=-1)
    entries = labels >= 0 if smoothed else (labels == 0) | (labels == 1)
    total = ops.sum(labels, axis=-1)
    valid = ops.all(entries, axis=-1) & (ops.abs(total - 1.0) < _SUM_OFF)
    return ops.where(valid[:, None], labels, ops.zeros_like(labels)), valid


def _targets_of_any_rank(
    argument: str, labels: Tensor, classes: int, dtype: str, smoothed: bool
) -> tuple[Tensor, Tensor]:
    """Return the targets of a graph that serves integers in one call, rows in another."""
    rows = backend.as_rows(labels)
    integers = ops.equal(ops.shape(rows)[1], 1)
    found, known = class_targets(argument, rows[:, 0], classes, dtype)
    # Integers are repeated here, which nobody sees. Rows of another length fail.
    whole = ops.reshape(rows + ops.zeros((1, classes), dtype), (-1, classes))
    given, valid = class_targets(argument, whole, classes, dtype, smoothed)
    return ops.where(integers, found, given), ops.where(integers, known, valid)


def concrete(tensor: Any) -> np.ndarray | None:
    """Return the values of `tensor`, or None while a graph is traced and there are none."""
    try:
        return np.asarray(ops.convert_to_numpy(tensor))
    except (NotImplementedError, TypeError, ValueError, RuntimeError):
        return None  # The backends refuse symbolic tensors in different words.


def as_numpy(values: Any) -> np.ndarray:
    """Return an array, tensor, table or list as a NumPy array, of objects if it is ragged."""
    if isinstance(values, np.ndarray):
        return values
    try:
        return np.asarray(ops.convert_to_numpy(values))
    except (ValueError, TypeError):  # Ragged lists, and objects that no backend knows.
        return np.asarray(values, dtype=object)


def is_numeric(values: np.ndarray) -> bool:
    """Return whether the entries are real numbers, bools and half-precision formats included."""
    return values.dtype.kind in "biuf" or values.dtype.name.startswith(("bfloat", "float"))


def static_shape(argument: str, tensor: Any) -> tuple[int | None, ...]:
    """Return the shape of a tensor, with None for sizes that are unknown in a graph."""
    try:
        return tuple(tensor.shape)
    except ValueError:  # Unknown rank on TensorFlow, as in untyped data sets.
        check.require(False, argument, "a tensor of known rank", "a tensor of unknown rank")
        raise


def has_known_rank(tensor: Any) -> bool:
    """Return whether the number of axes is known; TensorFlow's graphs may serve several."""
    try:
        return len(tensor.shape) >= 0
    except ValueError:
        return False
