"""`fit` that goes on where a killed process left it, in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any

import keras

from keras_local import _labels
from keras_local import _runs as runs
from keras_local import _validation as check
from keras_local._data_gate import check_counts
from keras_local._streams import as_tuple, is_stream
from keras_local.callbacks.resume import Place, ResumeExactly
from keras_local.ops.datasets import Order, ordered

Stream = Callable[[int, int], Any]
"""From the numbers of epochs and of batches that are over to batches from there on."""


def resume_fit(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    directory: str | PathLike[str],
    every: int = 100,
    batch_size: int | None = None,
    epochs: int = 1,
    verbose: int | str = "auto",
    callbacks: Any = None,
    validation_split: float = 0.0,
    validation_data: Any = None,
    shuffle: bool = True,
    class_weight: Mapping[int, float] | None = None,
    sample_weight: Any = None,
    steps_per_epoch: int | None = None,
    validation_steps: int | None = None,
    validation_batch_size: int | None = None,
    validation_freq: int | Sequence[int] = 1,
    seed: int | None = None,
) -> keras.callbacks.History:
    """Train a model with `fit`, so that a process that is killed loses nothing.

    Call it in the program as one calls `fit`, and start the program again after a kill: the run
    goes on at the last batch that was written to `directory`, and ends with the weights, the
    optimizer and the history that it would have had, bit for bit. The order of the samples is a
    function of seed, epoch and batch, so that nothing of it has to be kept. For every Keras model:
    stock layers, feedback nets, readouts, networks.

    Underneath are `callbacks.ResumeExactly` and one or two calls of `model.fit`: of the rest of the
    broken epoch, and of the epochs after it. Callbacks see one training.

    Args:
        model: A Keras model, compiled.
        x: Inputs, as arrays in any structure that `fit` takes: an array, a list, a dict. Or a
            function `x(epoch, batch)` that returns a stream of batches (a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, a generator) that begins with number `batch` of epoch `epoch`
            and does not end; it has to give the same batches at the same place each time.
        y: Targets, as arrays.
        directory: Directory of the state, for this run alone. One of another run (model, arguments
            of `compile`, data, or a number that counts) is refused.
        every: Batches between two writes; `steps_per_execution` has to divide it, and the number of
            batches of an epoch.
        batch_size: Samples a batch; 32 by default.
        epochs: Number of epochs of the whole run. A run that is over goes on if it is larger than
            before.
        verbose: As in `keras.Model.fit`.
        callbacks: Keras callbacks. Their own memory begins anew after a kill.
        validation_split: Share of the samples, the last ones, to validate on.
        validation_data: As in `keras.Model.fit`.
        shuffle: Whether each epoch has another order of samples.
        class_weight: As in `keras.Model.fit`.
        sample_weight: Weights of samples, as arrays.
        steps_per_epoch: Batches of an epoch, where `x` is a function; not for arrays.
        validation_steps: As in `keras.Model.fit`.
        validation_batch_size: As in `keras.Model.fit`.
        validation_freq: As in `keras.Model.fit`.
        seed: Of the order; by default one that follows from the weights at the start.

    Returns:
        The history of the whole run, the epochs before the kill included.

    Raises:
        ValueError: For an argument that is not as said, or a directory of another run; nothing has
            changed then.

    >>> import tempfile, numpy as np, keras, keras_local as kl
    >>> model = keras.Sequential([keras.Input((4,)), kl.layers.FeedbackDense(2)])
    >>> model.compile("sgd", "mse")
    >>> x, y = np.ones((64, 4)), np.ones((64, 2))
    >>> run = {"directory": tempfile.mkdtemp(), "every": 2, "batch_size": 8, "verbose": 0}
    >>> history = kl.callbacks.resume_fit(model, x, y, epochs=2, **run)
    >>> len(kl.callbacks.resume_fit(model, x, y, epochs=3, **run).history["loss"])
    3
    """
    check_counts(batch_size=batch_size, steps_per_epoch=steps_per_epoch)
    epochs = check.positive_integer("epochs", epochs)
    shuffle = check.flag("shuffle", shuffle)
    seed = check.seed("seed", seed)
    compiled = isinstance(model, keras.Model) and model.compiled
    check.require(compiled, "model", "a compiled keras.Model", model)
    listed = _listed(callbacks)
    run: dict[str, Any] = {} if seed is None else {"seed": seed}
    if callable(x):
        data: _Source = _Function(x, y, sample_weight, validation_split, steps_per_epoch)
    else:
        allowed = "left out with arrays: an epoch is a pass over them"
        check.require(steps_per_epoch is None, "steps_per_epoch", allowed, steps_per_epoch)
        arrays, validation_data = _checked(x, y, sample_weight, validation_split, validation_data)
        runs.require_order(model, arrays[0], shuffle)
        data = _Arrays(arrays, batch_size or 32, shuffle)
    if not model.built or not model.variables:
        model(data.first_batch()[0])
    resume = ResumeExactly(directory, every, {**run, **data.identity})
    resume.check_steps(model)
    at_once = model.steps_per_execution
    allowed = f"a divisor of the {data.steps} batches of an epoch: Keras takes no part of them"
    check.require(data.steps % at_once == 0, "steps_per_execution", allowed, at_once)
    place = resume.restore(model)
    if place.batch:
        # Compiled metrics come into being with their first batch; they get their sums afterwards.
        model.test_on_batch(*data.first_batch())
    data.seed = resume.seed if seed is None else seed
    arguments = {
        "validation_data": validation_data,
        "class_weight": class_weight,
        "validation_steps": validation_steps,
        "validation_batch_size": validation_batch_size or batch_size,
        "validation_freq": validation_freq,
        "shuffle": False,
        "verbose": verbose,
    }
    together = _OneTraining([*listed, resume], model, verbose, epochs)
    history = _fits(model, data, place, resume, together, epochs, arguments)
    history.epoch = list(resume.record["epoch"])
    history.history = {key: list(each) for key, each in resume.record["history"].items()}
    return history


def _fits(
    model: Any,
    data: _Source,
    place: Place,
    resume: ResumeExactly,
    together: _OneTraining,
    epochs: int,
    arguments: dict[str, Any],
) -> keras.callbacks.History:
    """Take the rest of the broken epoch, and the epochs after it."""
    parts = []
    if place.batch:
        parts.append((place, data.steps - place.batch, place.epoch + 1))
        place = Place(place.epoch + 1, 0)
    if place.epoch < epochs:
        parts.append((place, data.steps, epochs))
    for number, (start, steps, end) in enumerate(parts):
        if resume.stopped:
            break
        together.prepare(steps, last=number == len(parts) - 1)
        model.fit(
            data.stream(start),
            steps_per_epoch=steps,
            initial_epoch=start.epoch,
            epochs=end,
            callbacks=together,
            **arguments,
        )
    return together.history


class _Source:
    """Where batches come from: how many an epoch has, and a stream that begins anywhere."""

    steps: int
    identity: dict[str, Any]
    seed: int = 0

    def stream(self, place: Place) -> Any:
        """Return batches from a place on, without an end."""
        raise NotImplementedError

    def first_batch(self) -> tuple[Any, ...]:
        """Return some batch."""
        raise NotImplementedError


class _Arrays(_Source):
    def __init__(self, arrays: tuple[Any, ...], batch_size: int, shuffle: bool) -> None:
        self.arrays, self.shuffle = arrays, shuffle
        self.order = Order(len(keras.tree.flatten(arrays)[0]), batch_size, None)
        self.steps = self.order.steps
        self.identity = {
            "batch_size": batch_size,
            "shuffle": shuffle,
            "data": runs.identity_of_data(arrays),
        }

    def stream(self, place: Place) -> Any:
        seed = (self.seed,) if self.shuffle else None
        return ordered(self.arrays, replace(self.order, seed=seed, epoch=place[0], batch=place[1]))

    def first_batch(self) -> tuple[Any, ...]:
        first = slice(self.order.batch_size)
        batch: tuple[Any, ...] = keras.tree.map_structure(lambda each: each[first], self.arrays)
        return batch


class _Function(_Source):
    def __init__(
        self, function: Stream, y: Any, sample_weight: Any, split: Any, steps: int | None
    ) -> None:
        for name, value in (("y", y), ("sample_weight", sample_weight)):
            allowed = "left out where `x` is a function: its batches hold it"
            check.require(value is None, name, allowed, type(value).__name__)
        allowed = "0 where `x` is a function: give `validation_data`"
        check.require(split == 0, "validation_split", allowed, split)
        allowed = "given where `x` is a function: how many batches an epoch has"
        check.require(steps is not None, "steps_per_epoch", allowed, steps)
        self.function = function
        self.steps = int(steps or 0)
        self.identity = {"steps_per_epoch": self.steps}

    def stream(self, place: Place) -> Any:
        stream = self.function(*place)
        allowed = "a function that returns a tf.data.Dataset, a PyDataset or a generator"
        check.require(is_stream(stream), "x", allowed, stream)
        return stream

    def first_batch(self) -> tuple[Any, ...]:
        stream = self.stream(Place(0, 0))
        known = isinstance(stream, keras.utils.PyDataset)
        batch = stream[0] if known else next(iter(stream))
        return as_tuple("x", batch)


class _OneTraining(keras.callbacks.CallbackList):
    """Callbacks to which the fits of a run are one training, which begins and ends once."""

    def __init__(self, callbacks: list[Any], model: Any, verbose: int | str, epochs: int) -> None:
        super().__init__(
            callbacks,
            add_history=True,
            add_progbar=verbose != 0,
            model=model,
            verbose=verbose,
            epochs=epochs,
            steps=None,
        )
        self.history: keras.callbacks.History = model.history
        self._begun = self._ends = False

    def prepare(self, steps: int, last: bool) -> None:
        """Say how many batches the next epoch has, and whether the next fit is the last."""
        self.set_params({**self.params, "steps": steps})
        self._ends = last

    def on_train_begin(self, logs: Any = None) -> None:
        """Begin once."""
        if not self._begun:
            self._begun = True
            super().on_train_begin(logs)

    def on_train_end(self, logs: Any = None) -> None:
        """End with the last fit."""
        if self._ends or self.model.stop_training:
            super().on_train_end(logs)


def _listed(callbacks: Any) -> list[Any]:
    if callbacks is None:
        return []
    if isinstance(callbacks, keras.callbacks.CallbackList):
        listed = list(callbacks.callbacks)
    else:
        listed = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
    allowed = "callbacks other than BackupAndRestore: `directory` holds the state of this run"
    for each in listed:
        check.instance("callbacks", each, keras.callbacks.Callback, "a list of Keras callbacks")
        runs.refuse_backups(each, allowed)
    return listed


def _checked(
    x: Any, y: Any, sample_weight: Any, split: float, validation_data: Any
) -> tuple[tuple[Any, ...], Any]:
    """Return inputs, targets and weights in one tuple, and what there is to validate on."""
    allowed = "arrays, or a function of epoch and batch that returns a stream of batches"
    check.require(x is not None and not is_stream(x), "x", allowed, x)
    check.require(sample_weight is None or y is not None, "y", "given with `sample_weight`", y)
    named = {"x": _structure("x", x)}
    if y is not None:
        named["y"] = _structure("y", y)
    if sample_weight is not None:
        weights = _structure("sample_weight", sample_weight)
        if isinstance(named["y"], (dict, tuple)) and not isinstance(weights, (dict, tuple)):
            weights = keras.tree.map_structure(lambda _: weights, named["y"])
        named["sample_weight"] = weights
    samples = len(keras.tree.flatten(named["x"])[0])
    check.require(samples > 0, "x", "at least one sample", "none")
    for name, structure in named.items():
        for array in keras.tree.flatten(structure):
            check.require(len(array) == samples, name, f"{samples} samples", len(array))
    arrays = tuple(named.values())
    share = check.real("validation_split", split, minimum=0.0)
    check.require(share < 1.0, "validation_split", "less than 1", split)
    if share and validation_data is None:
        cut = int(samples * (1.0 - share))
        check.require(0 < cut < samples, "validation_split", "a share that leaves both", split)
        validation_data = keras.tree.map_structure(lambda each: each[cut:], arrays)
        arrays = keras.tree.map_structure(lambda each: each[:cut], arrays)
    return arrays, validation_data


def _structure(argument: str, data: Any) -> Any:
    """Return arrays in dicts and tuples: a list is a tensor to `tf.data`."""
    if isinstance(data, dict):
        return {key: _structure(argument, each) for key, each in data.items()}
    if isinstance(data, (list, tuple)) and any(hasattr(each, "shape") for each in data):
        parts = tuple(_structure(argument, each) for each in data)
        return parts if len(parts) > 1 else parts[0]
    array = _labels.as_numpy(data)
    check.require(array.ndim > 0, argument, "arrays of samples", data)
    return array
