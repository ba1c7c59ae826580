"""Exact resume in the middle of an epoch: the state of `fit` in a file, and a fit that goes on."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_local import _runs as runs
from keras_local import _validation as check
from keras_local.ops.surrogate import scope_of

_NAME = "fit.npz"


class Place(NamedTuple):
    """Where a run stands.

    Attributes:
        epoch: Number of epochs that are over.
        batch: Number of batches of the next epoch that are over.
    """

    epoch: int
    batch: int


class ResumeExactly(keras.callbacks.Callback):
    """Keeps the state of `fit` in a file, from which a run goes on in the middle of an epoch.

    After every so many batches and after each epoch, one file is replaced as a whole: the place in
    the run, all variables of the model with the state of its random generators, the optimizer, the
    sums of the metrics, and the history. A process may be killed at any moment. What it loses are
    the batches since the last write, and those are learned again in the same way: the run ends with
    the same weights, bit for bit, if the batches come in the same order. That is the part of the
    data: `callbacks.resume_fit` cares for it, and is what most need.

    Unlike `keras.callbacks.BackupAndRestore`, it does not repeat the whole epoch with weights that
    have seen half of it, and restores dropout and other noise. What other callbacks remember (the
    patience of `EarlyStopping`) begins anew.

    Call `restore` before `fit`, and put this callback behind all others. The compiled metrics of a
    new model come into being with its first batch: they get the sums of the broken epoch if
    `model.test_on_batch` was called before, else the logs of that epoch are those of its rest.

    Args:
        directory: Directory of the file, for this run alone.
        every: Batches between two writes; `steps_per_execution` of `compile` has to divide it. A
            write costs about as much time as saving the weights.
        run: What else tells this run from others, for example `{"batch_size": 32}`: a dict from
            names to strings and numbers. Another one in the file is refused.

    Raises:
        ValueError: If an argument is not as said. By `restore`, with nothing changed, if the file
            is of another run or cannot be read. When training begins, if `restore` was not called
            for this model, or `steps_per_execution` does not divide `every`.

    >>> import tempfile, numpy as np, keras, keras_local as kl
    >>> model = keras.Sequential([keras.Input((4,)), kl.layers.FeedbackDense(2)])
    >>> model.compile("sgd", "mse")
    >>> resume = kl.callbacks.ResumeExactly(tempfile.mkdtemp(), every=10)
    >>> resume.restore(model)
    Place(epoch=0, batch=0)
    >>> history = model.fit(np.ones((8, 4)), np.ones((8, 2)), verbose=0, callbacks=[resume])
    >>> resume.restore(model)
    Place(epoch=1, batch=0)
    """

    def __init__(
        self,
        directory: str | PathLike[str],
        every: int = 100,
        run: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.every = check.positive_integer("every", every)
        allowed = "a dict from names to strings and numbers"
        run = {} if run is None else run
        valid = isinstance(run, Mapping) and all(isinstance(key, str) for key in run)
        valid = valid and all(isinstance(each, (str, int, float, bool)) for each in run.values())
        check.require(valid, "run", allowed, run)
        self.run = dict(run)
        self.path = runs.path_of("directory", directory) / _NAME
        self.seed = 0
        self.stopped = False
        self.record: dict[str, Any] = {"epoch": [], "history": {}}
        self._for: Any = None
        self._identity: dict[str, Any] = {}
        self._start = Place(0, 0)
        self._saved: runs.Saved | None = None
        self._epoch = self._batch = 0
        self._last: int | None = None

    def restore(self, model: keras.Model) -> Place:
        """Give a model and its optimizer the state that the file holds, and return its place.

        If there is no file, write one: a run that is killed before the first write begins again
        with the same weights. `seed` is then a number that follows from these weights, and it stays
        the same for the run; `stopped` says whether a callback has ended the run before.

        Args:
            model: The model, built and compiled.
        """
        check.require(isinstance(model, keras.Model), "model", "a keras.Model", model)
        compiled = model.compiled and model.optimizer is not None
        check.require(compiled, "model", "compiled with an optimizer", model.name)
        allowed = "built: call it on a batch of inputs, or give it a `keras.Input`"
        check.require(model.built and bool(model.variables), "model", allowed, model.name)
        runs.directory("directory", self.path.parent)
        with scope_of(model):
            if not model.optimizer.built:
                model.optimizer.build(model.trainable_variables)
            self._identity = {
                "model": runs.identity_of_model(model),
                "compile": _identity_of_compile(model),
                "optimizer": runs.identity_of_optimizer(model.optimizer),
                **self.run,
            }
            saved = runs.read("directory", self.path)
            if saved is None:
                self.seed = runs.seed_from(model.variables)
                self.record, self.stopped = {"epoch": [], "history": {}}, False
                self._write(model, Place(0, 0))
            else:
                self._take(model, saved)
        self._for, self._saved = model, saved
        self._start = Place(0, 0) if saved is None else Place(*saved.facts["place"])
        return self._start

    def check_steps(self, model: Any) -> None:
        """Refuse a model of which several steps at once would pass over a write."""
        steps = model.steps_per_execution
        allowed = f"a multiple of the {steps} steps that `steps_per_execution` takes at once"
        check.require(self.every % steps == 0, "every", allowed, self.every)

    def on_train_begin(self, logs: Any = None) -> None:
        """Refuse a fit that cannot be resumed; bring back what `fit` itself has begun anew."""
        allowed = "restored before `fit`: call `restore(model)` with the model that is trained"
        check.require(self._for is self._model, "ResumeExactly", allowed, self._model.name)
        self.check_steps(self._for)
        if self._saved is not None and self._start.batch:
            with scope_of(self._for):
                self._assign(self._for, self._saved)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Give the metrics of a broken epoch the sums that they had."""
        self._epoch, self._batch = epoch, 0
        if self._saved is not None and epoch == self._start.epoch:
            self._batch = self._start.batch
            sums = self._saved.arrays.get("metrics", [])
            if self._batch and len(sums) == len(self._for.metrics_variables):
                with scope_of(self._for):
                    runs.assign(self._for.metrics_variables, sums)
        self._saved = None
        steps = self.params.get("steps")
        self._last = None if steps is None else self._batch + steps

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Write after every so many batches; the end of an epoch is written with its logs."""
        self._batch += self._for.steps_per_execution
        over = self._last is not None and self._batch >= self._last
        if not over and self._batch % self.every == 0:
            self._write(self.model, Place(self._epoch, self._batch))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write the end of the epoch."""
        self.record["epoch"].append(epoch)
        for key, value in (logs or {}).items():
            self.record["history"].setdefault(key, []).append(np.asarray(value).tolist())
        self.stopped = bool(self.model.stop_training)
        self._write(self.model, Place(epoch + 1, 0))

    def _take(self, model: Any, saved: runs.Saved) -> None:
        runs.require_same("directory", self.path, saved.facts["identity"], self._identity)
        for name, variables in _variables(model).items():
            runs.require_shapes("directory", variables, saved.arrays.get(name, []))
        self.seed, self.record = saved.facts["seed"], saved.facts["record"]
        self.stopped = saved.facts["stopped"]
        self._assign(model, saved)

    def _assign(self, model: Any, saved: runs.Saved) -> None:
        for name, variables in _variables(model).items():
            runs.assign(variables, saved.arrays.get(name, []))

    def _write(self, model: Any, place: Place) -> None:
        arrays = {name: runs.numbers_of(each) for name, each in _variables(model).items()}
        if place.batch:
            arrays["metrics"] = runs.numbers_of(model.metrics_variables)
        if not all(_is_finite(each) for group in arrays.values() for each in group):
            return  # Training has diverged: the last good state is worth more.
        facts = {
            "identity": self._identity,
            "place": list(place),
            "seed": self.seed,
            "record": self.record,
            "stopped": self.stopped,
        }
        runs.write(self.path, facts, arrays)


def _variables(model: Any) -> dict[str, list[Any]]:
    """Return what a run consists of, but for the sums of metrics, which exist in an epoch only."""
    return {"model": list(model.variables), "optimizer": list(model.optimizer.variables)}


def _identity_of_compile(model: Any) -> str:
    """Return what `compile` was told, without the optimizer and without how many steps at once."""
    try:
        config = dict(model.get_compile_config() or {})
    except (NotImplementedError, TypeError, ValueError):  # A loss of the user's without a config.
        return "unknown"
    for name in ("optimizer", "steps_per_execution"):
        config.pop(name, None)
    return runs.identity_of(config)


def _is_finite(array: np.ndarray) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())
