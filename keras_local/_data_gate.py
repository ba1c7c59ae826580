"""The data gate, the one place that decides which data a model accepts.

A `Gate` knows which data the model needs (shape of a sample, number of classes, precision) and
refuses everything else with a `ValueError` that names the argument, before anything has changed. It
checks arrays of every library as a whole. In streams (`tf.data.Dataset`, `keras.utils.PyDataset`,
torch's `DataLoader`, generators and other iterators) it checks each batch when it is drawn, so that
the check does not consume a one-shot source. After a refusal in the middle of a stream, the model
is restored to its state before the call.

A model uses it in every method that takes data:

    self._gate = Gate((784,), classes=10)              # in the constructor

    def fit(self, x=None, y=None, ...):                # Keras' arguments, all of them
        with self._gate.guard(self) as guard:
            x, y, sample_weight = guard.training(
                x, y, sample_weight, class_weight=class_weight, steps_per_epoch=steps_per_epoch
            )
            validation_data = guard.validation(validation_data, validation_steps)
            return super().fit(x, y, sample_weight=sample_weight, ...)

    def evaluate(self, x=None, y=None, ..., sample_weight=None, steps=None, **keywords):
        if keywords.get("_use_cached_eval_dataset"):   # From `fit`, which has checked it.
            return super().evaluate(...)
        with self._gate.guard(self) as guard:
            x, y, sample_weight = guard.evaluation(x, y, sample_weight, steps)
            return super().evaluate(...)

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        with self._gate.guard(self) as guard:
            return super().predict(guard.inputs(x, steps), ...)

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, ...):
        x, y, sample_weight = self._gate.batch(x, y, sample_weight, class_weight)
        ...                                            # test_on_batch alike

    def predict_on_batch(self, x):
        return super().predict_on_batch(self._gate.inputs("x", x))

`Gate.peeked(x, samples)` returns the first inputs of any source, and the source without losing
them; `Gate.arrays(...)` reads a source that has an end into memory. `keras_local._labels` defines
what a label is, also for losses.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from keras_local import _labels
from keras_local import _validation as check
from keras_local._streams import (
    BatchCheck,
    Refusal,
    batches_of,
    first_batches,
    is_empty,
    is_endless,
    is_stream,
    refusal_in,
    wrapped,
)
from keras_local._targets import Expected, check_class_weight
from keras_local.ops.precision import precise
from keras_local.ops.surrogate import scope_of

_ROWS = 4096
_MOST_BATCHES = 200_000
"""If a source that is read into memory has more batches, it is assumed to have no end."""

Data = tuple[Any, Any, Any]
"""Inputs, labels and sample weights; a stream replaces all three."""


@dataclass(frozen=True)
class Gate:
    """The data that a model accepts.

    Attributes:
        sample_shape: Shape of one sample; None for a size that may be any.
        classes: Number of classes, or of labels or values; None for a model that takes no targets.
        dtype: Dtype in which the model computes; inputs have to be finite in it.
        power: Highest power of the inputs that is summed over a sample. The sum has to be finite in
            the dtype in which weights learn. It is 2 if inputs and currents are multiplied.
        smoothed: Whether the model accepts smoothed one-hot labels.
        targets: The targets; None means labels of `classes` classes.
    """

    sample_shape: tuple[int | None, ...]
    classes: int | None = None
    dtype: str = "float32"
    power: float = 2.0
    smoothed: bool = False
    targets: Expected | None = None

    @property
    def expected(self) -> Expected | None:
        """The targets that the model accepts; None for a model without targets."""
        if self.targets is not None or self.classes is None:
            return self.targets
        return Expected(self.classes, smoothed=self.smoothed)

    @property
    def limit(self) -> float:
        """The largest absolute value of an input."""
        entries = math.prod(size or 1 for size in self.sample_shape)
        largest = _largest(precise(self.dtype)) / max(entries, 1)
        return float(min(_largest(self.dtype), largest ** (1.0 / max(self.power, 1.0))))

    def inputs(self, argument: str, x: Any, where: str = "") -> Any:
        """Return an array of samples, or refuse it if the model cannot use it."""
        x = _one_array(argument, x, where)
        shape = tuple(x.shape)
        allowed = f"of shape {(None, *self.sample_shape)}{where}"
        check.require(fits(shape[1:], self.sample_shape) and shape != (), argument, allowed, shape)
        check.require(shape[0] != 0, argument, f"at least one sample{where}", shape)
        require_finite(argument, x, self.limit, where)
        return x

    def labels(self, argument: str, y: Any, samples: int, where: str = "") -> Any:
        """Return targets, or refuse them if the model cannot learn them."""
        if isinstance(y, (list, tuple)):
            y = y[0] if len(y) == 1 and hasattr(y[0], "shape") else _labels.as_numpy(y)
        check.require(not isinstance(y, dict), argument, f"an array of labels{where}", "a dict")
        expected = self.expected
        if expected is not None:
            expected.check(argument, y, samples, where)
        return y

    def weights(self, argument: str, sample_weight: Any, samples: int, where: str = "") -> Any:
        """Return sample weights, or refuse them unless each sample has one finite number."""
        if sample_weight is None:
            return None
        values = _labels.as_numpy(sample_weight)
        allowed = f"{samples} finite numbers, one for each sample{where}"
        valid = _labels.is_numeric(values) and values.shape in ((samples,), (samples, 1))
        check.require(valid, argument, allowed, f"{values.dtype} of shape {values.shape}")
        require_finite(argument, values, _largest("float32"), where)
        return sample_weight if hasattr(sample_weight, "shape") else values

    def batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        names: tuple[str, str, str] = ("x", "y", "sample_weight"),
        where: str = "",
    ) -> Data:
        """Return arrays of inputs, labels and weights, or refuse them if they do not fit."""
        x = self.inputs(names[0], x, where)
        if self.classes is not None:
            y = self.labels(names[1], y, len(x), where)
            self.class_weight(class_weight)
        return x, y, self.weights(names[2], sample_weight, len(x), where)

    def class_weight(self, class_weight: Any) -> None:
        """Refuse weights of classes that are not a dict from classes to finite numbers."""
        expected = self.expected
        check_class_weight(class_weight, Expected(0) if expected is None else expected)

    @contextmanager
    def guard(self, model: Any) -> Iterator[Guard]:
        """Check the data of one call of a method of `model`, and undo the call after a refusal."""
        guard = Guard(self, model)
        try:
            yield guard
        except Exception as error:
            refusal = guard.refusal(error)
            if refusal is None:
                raise
            guard.restore()
            raise ValueError(str(refusal)) from None
        guard.require_batches()

    def peeked(self, x: Any, samples: int, argument: str = "x") -> tuple[np.ndarray, Any]:
        """Return the first inputs of a source, checked, and the source without losing them.

        Args:
            x: An array or a stream.
            samples: How many inputs are wanted; a stream gives whole batches, or all it has.
            argument: The source's name in messages.
        """
        if not is_stream(x):
            x = self.inputs(argument, x)
            return _labels.as_numpy(x[:samples]), x
        where = f" in every batch of `{argument}`"
        batches, x = first_batches(x, samples)
        check.require(bool(batches), argument, "a source of at least one batch", "an empty one")
        parts = [_labels.as_numpy(self.inputs(argument, batch[0], where)) for batch in batches]
        return np.concatenate(parts), x

    def arrays(self, argument: str, x: Any, y: Any = None, steps: Any = None) -> tuple[Any, Any]:
        """Return inputs and labels as arrays; a stream is read once, to its end or for some steps.

        Without `classes`, labels in a stream are ignored.
        """
        if not is_stream(x):
            return self.batch(x, y, names=(argument, "y", "sample_weight"))[:2]
        allowed = f"left out: a stream given as `{argument}` holds it"
        check.require(y is None, "y", allowed, type(y).__name__)
        _require_steps(argument, x, "steps_per_epoch", steps)
        check_counts(steps_per_epoch=steps)
        labelled = self.classes is not None
        checked = BatchCheck(self, argument, labelled)
        kept: list[Any] = []
        for batch in itertools.islice(batches_of(x), steps):
            check.require(
                len(kept) < _MOST_BATCHES,
                argument,
                "a source with an end, or `steps_per_epoch` must be given",
                "an infinite one",
            )
            x_batch, y_batch, _ = checked(batch, strict=False)
            kept.append((_labels.as_numpy(x_batch), _labels.as_numpy(y_batch) if labelled else 0))
        check.require(bool(kept), argument, "a source of at least one batch", "an empty one")
        inputs = np.concatenate([batch[0] for batch in kept])
        return inputs, np.concatenate([batch[1] for batch in kept]) if labelled else None


class Guard:
    """The gate in one call of a method: the accepted data, and the model before the call."""

    def __init__(self, gate: Gate, model: Any) -> None:
        self.gate, self.model = gate, model
        self.checks: list[BatchCheck] = []
        self.before: list[tuple[Any, np.ndarray]] = []

    def training(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        steps_per_epoch: Any = None,
    ) -> Data:
        """Return the checked data of `fit`."""
        self.gate.class_weight(class_weight)
        admitted = self._admit(("x", "y", "sample_weight"), x, y, sample_weight)
        if is_stream(x):
            _require_steps("x", x, "steps_per_epoch", steps_per_epoch)
            self._remember(with_optimizer=True)
        return admitted

    def evaluation(
        self, x: Any, y: Any = None, sample_weight: Any = None, steps: Any = None
    ) -> Data:
        """Return the checked data of `evaluate`."""
        if is_stream(x):
            _require_steps("x", x, "steps", steps)
        return self._admit(("x", "y", "sample_weight"), x, y, sample_weight)

    def inputs(self, x: Any, steps: Any = None) -> Any:
        """Return the checked inputs of `predict`."""
        if not is_stream(x):
            return self.gate.inputs("x", x)
        _require_steps("x", x, "steps", steps)
        return self._checked("x", x, labelled=False)

    def validation(self, validation_data: Any, validation_steps: Any = None) -> Any:
        """Return the checked `validation_data` of `fit`."""
        name = "validation_data"
        if validation_data is None:
            return None
        if is_stream(validation_data):
            _require_steps(name, validation_data, "validation_steps", validation_steps)
            self._remember(with_optimizer=True)
            return self._checked(name, validation_data, labelled=self.gate.classes is not None)
        counts = (2, 3) if self.gate.classes is not None else (1, 2, 3)
        fits = isinstance(validation_data, (tuple, list)) and len(validation_data) in counts
        allowed = "a dataset, or a tuple (x, y) or (x, y, sample_weight)"
        if self.gate.classes is None:
            allowed = "a dataset, or a tuple (x,), (x, y) or (x, y, sample_weight)"
        check.require(fits, name, allowed, type(validation_data).__name__)
        if is_stream(validation_data[0]):
            check.require(False, name, allowed, "a stream inside a tuple")
        x, y, sample_weight = (*validation_data, None, None)[:3]
        where = f" in `{name}`"
        x, y, sample_weight = self.gate.batch(x, y, sample_weight, where=where)
        return (x, y) if sample_weight is None else (x, y, sample_weight)

    def refusal(self, error: BaseException) -> Exception | None:
        """Return the refusal that caused an error of another library, or None."""
        recorded = [each.refused for each in self.checks if each.refused is not None]
        if recorded:
            return recorded[0]
        found = refusal_in(error)
        if found is None:
            # In these ways Keras' loops end if there was no batch at all.
            without = isinstance(error, (StopIteration, UnboundLocalError))
            empty = [
                each.argument for each in self.checks if not each.drawn and (without or each.ended)
            ]
            found = Refusal(_empty(empty[0])) if empty else None
        return found

    def require_batches(self) -> None:
        """Refuse a stream that had no batch, after the call."""
        tracker = getattr(self.model, "_loss_tracker", None)
        for each in self.checks[:1]:
            idle = not each.drawn
            if each.source is not None:  # A graph does not count the batches that it draws.
                idle = tracker is not None and not float(ops.convert_to_numpy(tracker.count))
                idle = idle and not first_batches(each.source, 1)[0]
            if idle:
                raise ValueError(_empty(each.argument))

    def restore(self) -> None:
        """Give all variables the values from before the call."""
        for variable, value in self.before:
            variable.assign(value)

    def _admit(self, names: tuple[str, str, str], x: Any, y: Any, sample_weight: Any) -> Data:
        if not is_stream(x):
            return self.gate.batch(x, y, sample_weight, names=names)
        for name, value in zip(names[1:], (y, sample_weight), strict=True):
            allowed = f"left out: a stream given as `{names[0]}` holds it"
            check.require(value is None, name, allowed, type(value).__name__)
        return self._checked(names[0], x, labelled=self.gate.classes is not None), None, None

    def _checked(self, argument: str, source: Any, labelled: bool) -> Any:
        if not self.before:  # Keras' loop on JAX loses the variables if it is left in the middle.
            self._remember(with_optimizer=False)
        each = BatchCheck(self.gate, argument, labelled)
        self.checks.append(each)
        return wrapped(source, each)

    def _remember(self, with_optimizer: bool) -> None:
        optimizer = getattr(self.model, "optimizer", None)
        variables = list(self.model.variables)
        if optimizer is not None and with_optimizer:
            if not optimizer.built:
                with scope_of(self.model):
                    optimizer.build(self.model.trainable_variables)
            variables += optimizer.variables
        self.before = [(each, np.array(ops.convert_to_numpy(each))) for each in variables]


def fits(shape: tuple[Any, ...], wanted: tuple[int | None, ...]) -> bool:
    """Return whether a shape, which may have unknown sizes, is an allowed one."""
    return len(shape) == len(wanted) and all(
        None in (size, want) or size == want for size, want in zip(shape, wanted, strict=True)
    )


def require_finite(argument: str, x: Any, limit: float, where: str = "") -> None:
    """Refuse entries that are not finite numbers within a limit, a few rows at a time."""
    whole = isinstance(x, np.ndarray) or not hasattr(x, "__getitem__") or hasattr(x, "iloc")
    rows = _labels.as_numpy(x) if whole else x
    for start in range(0, max(len(rows), 1), _ROWS):
        values = _labels.as_numpy(rows[start : start + _ROWS])
        numeric = _labels.is_numeric(values)
        check.require(numeric, argument, f"numbers{where}", f"{values.dtype} entries")
        if values.dtype.kind not in "biuf":  # A half precision unknown to NumPy.
            values = values.astype("float32")
        if values.dtype.itemsize == 1 or not values.size:
            continue
        # Two reductions read less memory than a mask, and both return NaN if there is one.
        low, high = float(values.min()), float(values.max())
        if math.isfinite(low) and math.isfinite(high) and max(-low, high) <= limit:
            continue
        finite = bool(np.isfinite(values).all())
        allowed = "finite" if not finite else f"finite, and at most {limit:.2g} in absolute value"
        received = f"{low:.3g} to {high:.3g}" if finite else "NaN or infinite entries"
        check.require(False, argument, allowed + where, received)


def _one_array(argument: str, x: Any, where: str) -> Any:
    """Return the single array of inputs, also from a list of numbers or of one array."""
    allowed = f"an array or a dataset{where}"
    received = f"a {type(x).__name__}"
    check.require(
        x is not None and not isinstance(x, (dict, str, bytes)), argument, allowed, received
    )
    if isinstance(x, (list, tuple)):
        if any(hasattr(each, "shape") and len(each.shape) for each in x):
            check.require(len(x) == 1, argument, allowed, f"{received} of {len(x)} arrays")
            x = x[0]
        else:
            x = _labels.as_numpy(x)
            check.require(_labels.is_numeric(x), argument, f"numbers{where}", f"{received}")
    check.require(hasattr(x, "shape"), argument, allowed, received)
    dense = not hasattr(x, "toarray") and not hasattr(x, "dense_shape")
    check.require(dense, argument, f"dense{where}", f"a sparse {type(x).__name__}")
    return x


def _largest(dtype: str) -> float:
    """Return the largest finite number of a floating type."""
    largest = {"float16": 65504.0, "bfloat16": 3.38e38}.get(dtype)
    return largest if largest is not None else float(np.finfo(dtype).max)


def _require_steps(argument: str, x: Any, steps_name: str, steps: Any) -> None:
    check.require(not is_empty(x), argument, "a source of at least one batch", "an empty one")
    if steps is None:
        allowed = f"a source with an end, where `{steps_name}` is not given"
        check.require(not is_endless(x), argument, allowed, "an infinite one")


def check_counts(**counts: Any) -> None:
    """Refuse numbers of samples, steps or epochs that are not None or integers of at least 1.

    For example `check_counts(batch_size=batch_size, epochs=epochs)`.
    """
    for argument, count in counts.items():
        if count is not None:
            check.positive_integer(argument, count)


def _empty(argument: str) -> str:
    return check.refusal(argument, "a source of at least one batch", "an empty one")
