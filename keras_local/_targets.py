"""The targets that a model learns, for networks, readouts and the data gate.

- `"classes"`: one of several classes, as in `keras_local._labels`.
- `"labels"`: several labels that are each true or not, numbers from 0 to 1; one output is a binary
  label.
- `"values"`: real numbers.

Targets of labels and values are rows of as many numbers as there are outputs; with one output they
may also have the shape `(batch,)`. The kind is never guessed from the targets: integers in one
column may be classes, binary labels or values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import keras
import numpy as np
from keras import ops

from keras_local import _labels
from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local._types import Targets
from keras_local.ops.backend import Tensor
from keras_local.ops.precision import precise

KINDS: tuple[str, ...] = get_args(Targets)
_LARGE = 1e15
"""Larger bounds are those of the number format, not of a model."""


@dataclass(frozen=True)
class Expected:
    """The targets that a model accepts.

    Attributes:
        outputs: Number of classes, labels or values.
        kind: `"classes"`, `"labels"` or `"values"`.
        smoothed: Whether rows of classes may be smoothed.
        low: The smallest value; 0 for labels.
        high: The largest value; 1 for labels.
        why: Text about these bounds for a refusal.
    """

    outputs: int
    kind: Targets = "classes"
    smoothed: bool = False
    low: float = -math.inf
    high: float = math.inf
    why: str = ""

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest number that a target may be."""
        return (0.0, 1.0) if self.kind == "labels" else (self.low, self.high)

    @property
    def form(self) -> str:
        """The shape of targets, in words."""
        if self.outputs == 1:
            return "one number for each sample"
        return f"rows of {self.outputs} {self.kind}, one number for each"

    @property
    def range(self) -> str:
        """The range of targets, in words."""
        low, high = self.bounds
        if -low > _LARGE and high > _LARGE:
            return f"finite, and at most {high:.2g} in absolute value"
        if high > _LARGE:
            return f"finite, and at least {low:g}{self.why}"
        return f"from {low:g} to {high:g}{self.why}"

    def check(self, argument: str, y: Any, samples: int | None = None, where: str = "") -> None:
        """Refuse targets that the model cannot learn.

        Args:
            argument: Name of the targets in the message.
            y: An array or tensor with values.
            samples: The required number of targets; None for any number.
            where: Text about the place for the message.
        """
        if self.kind == "classes":
            _labels.check_labels(argument, y, self.outputs, samples, self.smoothed, where)
            return
        allowed = f'{self.form} (targets="{self.kind}"){where}'
        check.require(y is not None, argument, allowed, None)
        values = _labels.as_numpy(y)
        numeric = _labels.is_numeric(values)
        column = values.ndim == 1 and self.outputs == 1
        fits = column or (values.ndim == 2 and values.shape[1] == self.outputs)
        fits = numeric and fits and samples in (None, len(values))
        received = f"shape {values.shape}" if numeric else f"{values.dtype} targets"
        check.require(fits, argument, allowed, received)
        low, high = self.bounds
        if values.dtype.kind not in "biuf":  # Half precision that NumPy itself does not know.
            values = values.astype("float32")
        inside = np.isfinite(values) & (values >= low) & (values <= high)
        if not inside.all():
            wrong = values[~inside].reshape(-1)[:3].tolist()
            check.require(False, argument, f"{self.range}{where}", wrong)

    def rows(self, argument: str, y: Any, dtype: str) -> tuple[Tensor, Tensor]:
        """Return targets as rows `(batch, outputs)`, and which of them are valid, `(batch,)`.

        This is for graphs, where values are not known.

        Raises:
            ValueError: For targets of another shape.
        """
        if self.kind == "classes":
            return _labels.class_targets(argument, y, self.outputs, dtype, self.smoothed)
        rows = ops.cast(ops.convert_to_tensor(y), dtype)
        if not _labels.has_known_rank(rows):
            # A graph that was made for both `(batch,)` and `(batch, 1)`.
            rows = ops.reshape(rows, (-1, self.outputs))
        shape = _labels.static_shape(argument, rows)
        column = len(shape) == 1 and self.outputs == 1
        fits = column or (len(shape) == 2 and shape[1] in (self.outputs, None))
        allowed = f'{self.form} (targets="{self.kind}")'
        check.require(fits, argument, allowed, f"shape {shape}")
        if column:
            rows = ops.reshape(rows, (-1, 1))
        low, high = self.bounds
        inside = ops.isfinite(rows) & (rows >= low) & (rows <= high)
        return rows, ops.all(inside, axis=-1)


def target_kind(value: Any, model: str, refused: Mapping[str, str] | None = None) -> Targets:
    """Return `value` if it is a kind of targets that the model can learn.

    Args:
        value: The argument `targets`.
        model: The name of the model.
        refused: The kinds that it cannot learn, each with advice.
    """
    refused = {} if refused is None else refused
    known = isinstance(value, str) and value in KINDS
    if known and value in refused:
        able = [kind for kind in KINDS if kind not in refused]
        allowed = f"{' or '.join(map(repr, able))} for {model}: {refused[value]}"
        check.require(False, "targets", allowed, value)
    kind: Targets = check.one_of("targets", value, KINDS)
    return kind


def largest_value(dtype: str, outputs: int) -> float:
    """Return the largest value whose squared error, summed over the outputs, is finite."""
    return 0.25 * math.sqrt(float(np.finfo(precise(dtype)).max) / outputs)


def least_outputs(kind: str) -> int:
    """Return the smallest number of outputs, which is 2 for classes."""
    return 2 if kind == "classes" else 1


def check_class_weight(class_weight: Any, expected: Expected) -> None:
    """Refuse weights of classes that are not a dict from classes to finite numbers."""
    if class_weight is None:
        return
    classes = expected.outputs if expected.kind == "classes" else 2
    if expected.kind != "classes":
        binary = expected.kind == "labels" and expected.outputs == 1
        allowed = f'left out with targets="{expected.kind}": there are no classes to weigh'
        check.require(binary, "class_weight", allowed, class_weight)
    allowed = f"a dict from classes (0 to {classes - 1}) to finite numbers"
    valid = isinstance(class_weight, dict) and all(
        isinstance(key, (int, np.integer)) and 0 <= int(key) < classes for key in class_weight
    )
    check.require(valid, "class_weight", allowed, class_weight)
    for weight in class_weight.values():
        check.real("class_weight", weight)


class _Accuracy(keras.metrics.Mean):
    """A mean over samples, of which a subclass says how right each is."""

    def __init__(self, name: str = "accuracy", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)

    def right(self, y_true: Any, y_pred: Any) -> Tensor:
        """Return how right each sample is, from 0 to 1."""
        raise NotImplementedError

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch of targets and predictions."""
        if sample_weight is not None:
            sample_weight = ops.reshape(sample_weight, (-1,))
        super().update_state(self.right(y_true, y_pred), sample_weight)


@serializable
class ClassAccuracy(_Accuracy):
    """The share of the samples whose largest score is that of their class.

    Each call takes integer labels or one-hot rows, while `"accuracy"` of Keras takes only the form
    of its first call.

    Args:
        name: Name of the metric.
        dtype: Dtype of the result.
    """

    def right(self, y_true: Any, y_pred: Any) -> Tensor:
        """Return 1 for each sample whose largest of the scores `(batch, classes)` is right."""
        classes = int(y_pred.shape[-1])
        targets, _ = _labels.class_targets("y_true", y_true, classes, "float32", smoothed=True)
        same = ops.equal(ops.argmax(targets, axis=-1), ops.argmax(y_pred, axis=-1))
        return ops.cast(same, "float32")


@serializable
class LabelAccuracy(_Accuracy):
    """The share of all labels that are predicted correctly, as true or not true.

    A label is true, or predicted to be true, if its number is at least one half. Targets between 0
    and 1 are rounded in this way.

    Args:
        name: Name of the metric.
        dtype: Dtype of the result.
    """

    def right(self, y_true: Any, y_pred: Any) -> Tensor:
        """Return the share of right labels of each sample, from rows `(batch, labels)`."""
        same = ops.equal(ops.cast(y_true, y_pred.dtype) >= 0.5, y_pred >= 0.5)
        return ops.mean(ops.cast(same, "float32"), axis=-1)


ACCURACIES = {"classes": ClassAccuracy, "labels": LabelAccuracy}
"""By the kind of targets; values have none."""


def fitting_metrics(metrics: Any, kind: str) -> Any:
    """Return metrics as for `compile`; `"accuracy"` becomes the one that fits the targets.

    Raises:
        ValueError: For an accuracy of values.
    """
    if metrics is None:
        return metrics
    if isinstance(metrics, dict):
        return {name: fitting_metrics(each, kind) for name, each in metrics.items()}
    if isinstance(metrics, (list, tuple)):
        return [fitting_metrics(each, kind) for each in metrics]
    if metrics not in ("accuracy", "acc"):
        return metrics
    allowed = 'measures of values such as "mse", "mae" or "r2_score" with targets="values"'
    check.require(kind in ACCURACIES, "metrics", allowed, metrics)
    return ACCURACIES[kind](metrics)
