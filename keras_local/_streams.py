"""The kinds of streams of batches, and the check of each kind, batch by batch.

This is a part of the data gate (`keras_local._data_gate`). A stream is passed on as the same kind
of object, so that Keras treats it as before. A `tf.data.Dataset` gets the checks in its own graph,
where they also work with XLA; the batches of other streams are checked when they are drawn.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterator
from typing import Any

import keras

from keras_local import _validation as check
from keras_local.ops.datasets import asserted


class Refusal(ValueError):
    """A batch that the gate refuses."""


class BatchCheck:
    """A check of each batch of a stream, which remembers the first refused batch.

    Args:
        gate: The `Gate`.
        argument: Name of the stream in messages.
        labelled: Whether a batch has to have labels.
    """

    def __init__(self, gate: Any, argument: str, labelled: bool) -> None:
        self.gate, self.argument, self.labelled = gate, argument, labelled
        self.refused: Refusal | None = None
        self.drawn = 0
        self.ended = False
        self.source: Any = None

    def __call__(self, batch: Any, strict: bool = True) -> tuple[Any, ...]:
        """Return the batch as a tuple; `strict` is False for sources that Keras does not see."""
        where = f" in every batch of `{self.argument}`"
        names = (self.argument, "y", "sample_weight")
        try:
            batch = as_tuple(self.argument, batch)
            x, y, sample_weight = (*batch, None, None)[:3]
            if self.labelled:
                x, y, sample_weight = self.gate.batch(x, y, sample_weight, names=names, where=where)
            else:
                x = self.gate.inputs(self.argument, x, where)
        except ValueError as error:
            self.refused = Refusal(str(error))
            raise self.refused from None
        self.drawn += 1
        return (x, y, sample_weight)[: len(batch)] if strict else (x, y, sample_weight)


class CheckedPyDataset(keras.utils.PyDataset):
    """A `PyDataset` with checked batches, and the workers and epochs of the original."""

    def __init__(self, source: Any, each: BatchCheck) -> None:
        super().__init__(source.workers, source.use_multiprocessing, source.max_queue_size)
        self.source, self.each = source, each

    @property
    def num_batches(self) -> int | None:
        """Number of batches, None for a dataset without an end."""
        number: int | None = self.source.num_batches
        return number

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return self.each(self.source[index])

    def on_epoch_begin(self) -> None:
        """Call the method of the original."""
        self.source.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Call the method of the original."""
        self.source.on_epoch_end()


class CheckedCollate:
    """The function by which a `DataLoader` makes a batch of samples, with a check."""

    def __init__(self, collate: Any, each: BatchCheck) -> None:
        self.collate, self.each = collate, each

    def __call__(self, samples: Any) -> list[Any]:
        """Return the batch."""
        return list(self.each(self.collate(samples)))


def is_dataset(x: Any) -> bool:
    """Return whether `x` is a `tf.data.Dataset`, or one distributed by a strategy."""
    return hasattr(x, "element_spec")


def is_loader(x: Any) -> bool:
    """Return whether `x` is a torch `DataLoader`, without importing torch."""
    return any(
        parent.__name__ == "DataLoader" and "torch.utils.data" in parent.__module__
        for parent in type(x).__mro__
    )


def is_stream(x: Any) -> bool:
    """Return whether batches are drawn from `x` one after the other."""
    known = is_dataset(x) or isinstance(x, keras.utils.PyDataset) or is_loader(x)
    return known or hasattr(x, "__next__")


def is_endless(x: Any) -> bool:
    """Return whether a stream says that it has no end; some streams do not know."""
    return _count(x) == -1


def is_empty(x: Any) -> bool:
    """Return whether a stream says that it has no batch; some streams do not know."""
    return _count(x) == 0


def _count(x: Any) -> int | None:
    """Return a stream's number of batches: -1 for no end, None if it does not know."""
    if isinstance(x, keras.utils.PyDataset):
        number = x.num_batches
        return -1 if number is None else int(number)
    if is_dataset(x):
        cardinality = x.cardinality
        return int(cardinality() if callable(cardinality) else cardinality)
    if is_loader(x) and hasattr(x.dataset, "__len__"):
        return len(x)
    return None


def wrapped(source: Any, each: BatchCheck) -> Any:
    """Return a stream of the same kind with checked batches."""
    if is_dataset(source):
        return _wrapped_dataset(source, each)
    if isinstance(source, keras.utils.PyDataset):
        return CheckedPyDataset(source, each)
    if is_loader(source):
        loader = copy.copy(source)
        loader.collate_fn = CheckedCollate(source.collate_fn, each)
        return loader
    return _checked_batches(source, each)


def _checked_batches(source: Iterator[Any], each: BatchCheck) -> Iterator[Any]:
    for batch in source:
        yield each(batch)
    each.ended = True


def _wrapped_dataset(source: Any, each: BatchCheck) -> Any:
    if not hasattr(source, "map"):
        return source  # A dataset that a strategy has distributed cannot be checked here.
    each.source = source
    spec = require_spec(each, source.element_spec)
    gate = each.gate
    return asserted(
        source,
        sample_shape=gate.sample_shape,
        limit=gate.limit,
        expected=gate.expected if each.labelled else None,
        argument=each.argument,
        parts=len(spec),
    )


def require_spec(each: BatchCheck, spec: Any) -> tuple[Any, ...]:
    """Refuse a `tf.data.Dataset` whose elements cannot be batches for the model."""
    argument, gate = each.argument, each.gate
    allowed = f"a dataset of batches of inputs of shape {(None, *gate.sample_shape)}"
    if each.labelled:
        allowed += ", each with its labels: (inputs, labels)"
    check.require(not isinstance(spec, dict), argument, allowed, "a dataset of dicts")
    parts = spec if isinstance(spec, tuple) else (spec,)
    fits = (2 if each.labelled else 1) <= len(parts) <= 3
    check.require(fits, argument, allowed, f"a dataset of {len(parts)} parts")
    for part in parts:
        single = hasattr(part, "dtype") and hasattr(part, "shape")
        dense = (
            single and "Ragged" not in type(part).__name__ and "Sparse" not in type(part).__name__
        )
        check.require(dense, argument, allowed, f"a dataset of {part}")
        real = part.dtype.is_floating or part.dtype.is_integer or part.dtype.is_bool
        check.require(real, argument, "a dataset of numbers", f"a dataset of {part.dtype.name}")
        check.require(part.shape.rank is not None, argument, allowed, "a dataset of unknown rank")
    shape = tuple(parts[0].shape)
    same = len(shape) == len(gate.sample_shape) + 1 and all(
        None in (size, want) or size == want
        for size, want in zip(shape[1:], gate.sample_shape, strict=True)
    )
    unbatched = len(shape) == len(gate.sample_shape)
    hint = "; call `.batch(...)` on it" if unbatched else ""
    check.require(same, argument, allowed + hint, f"elements of shape {shape}")
    if each.labelled:
        if len(parts) == 3:
            weights = tuple(parts[2].shape)
            plain = len(weights) == 1 or (len(weights) == 2 and weights[1] in (1, None))
            allowed = f"one number for each sample in every batch of `{argument}`"
            check.require(plain, "sample_weight", allowed, f"shape {weights}")
        labels = tuple(parts[1].shape)
        expected = gate.expected
        column = expected.kind == "classes" or expected.outputs == 1
        widths = (1, None, expected.outputs) if column else (None, expected.outputs)
        plain = (len(labels) == 1 and column) or (len(labels) == 2 and labels[1] in widths)
        allowed = f"integers, or one-hot labels of {gate.classes} classes"
        if expected.kind != "classes":
            allowed = f'{expected.form} (targets="{expected.kind}")'
        check.require(plain, "y", f"{allowed} in every batch of `{argument}`", f"shape {labels}")
    return tuple(parts)


def as_tuple(argument: str, batch: Any) -> tuple[Any, ...]:
    """Return a batch as a tuple of one to three parts."""
    if isinstance(batch, list):
        batch = tuple(batch)
    parts: tuple[Any, ...] = batch if isinstance(batch, tuple) else (batch,)
    allowed = "a source of batches (inputs,), (inputs, labels) or (inputs, labels, weights)"
    check.require(1 <= len(parts) <= 3, argument, allowed, f"a tuple of {len(parts)}")
    return parts


def batches_of(x: Any) -> Iterator[tuple[Any, ...]]:
    """Iterate once over the batches of a stream."""
    for batch in x:
        yield as_tuple("x", batch)


def first_batches(x: Any, samples: int) -> tuple[list[tuple[Any, ...]], Any]:
    """Return the first batches, with at least `samples` inputs if possible, and the stream."""
    batches: list[Any] = []
    count = 0
    iterator = iter(x)
    for batch in iterator:
        batches.append(batch)
        first = as_tuple("x", batch)[0]
        count += len(first) if hasattr(first, "shape") and len(first.shape) else 1
        if count >= samples:
            break
    if iterator is x:  # A one-shot source: the batches that were drawn are put in front again.
        # It becomes a generator, because Keras takes no other iterators.
        x = (batch for batch in itertools.chain(batches, iterator))
    return [as_tuple("x", batch) for batch in batches], x


def refusal_in(error: BaseException | None) -> Refusal | None:
    """Return the refusal that a library has packed into its own error."""
    while error is not None:
        if isinstance(error, Refusal):
            return error
        graph = re.search(r"Refused: (`.*?)\] \[(.*?)\]", str(error))
        if graph:
            return Refusal(graph[1] + graph[2])
        worker = re.search(r"Refusal: (`.*)", str(error))
        if worker:
            return Refusal(worker[1])
        error = error.__cause__ or error.__context__
    return None
