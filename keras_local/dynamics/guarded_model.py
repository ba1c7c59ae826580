"""A Keras model that checks data in every method, and undoes steps that diverge."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from keras_local import _validation as check
from keras_local._data_gate import Gate, check_counts
from keras_local.dynamics._settling_watch import Watch
from keras_local.dynamics._typed_model import Model
from keras_local.ops import guarded_step
from keras_local.ops.surrogate import scope_of

Verbosity = bool | int | str


class GuardedModel(Model, ABC):
    """Interface of a model that checks its data and undoes steps that diverge.

    `fit`, `train_on_batch`, `evaluate`, `test_on_batch`, `predict`, `predict_on_batch` and
    `validation_data` take the same data as in Keras, and all data are checked: arrays before
    anything happens, batches of data sets, generators and `PyDataset`s when they arrive. A call
    that refuses its data has changed nothing. If a loss or a weight is not finite after a training
    step, the step is undone with the optimizer and all state, and training ends with a
    `ValueError`.
    """

    remedy: ClassVar[str] = "a smaller learning rate"
    """What to try if the dynamics diverge; named in the error."""

    @property
    @abstractmethod
    def gate(self) -> Gate:
        """The samples and labels that the model accepts."""

    @property
    def undone_variables(self) -> list[Any]:
        """The variables that are restored when a step of training diverges; by default all."""
        metrics = {id(each) for each in self.metrics_variables}
        own = [each for each in self.variables if id(each) not in metrics]
        return own + ([] if self.optimizer is None else list(self.optimizer.variables))

    def check_order(self, x: Any, shuffle: Any) -> None:
        """Refuse an order of samples that the network cannot use; by default none."""

    def begin_data(self) -> None:
        """Note that the next batch holds the first samples again; by default nothing follows.

        `fit` says so where it begins its data, and before each epoch that begins them anew.
        """

    def check_arguments(
        self,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        validation_data: Any = None,
    ) -> None:
        """Refuse arguments that the model does not use; by default none."""

    def instability(self) -> str | None:
        """Return why the dynamics cannot settle with the present weights, or None."""
        return None

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Verbosity = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Sequence[int] = 1,
    ) -> keras.callbacks.History:
        """Train the network; arguments as in `keras.Model.fit`.

        Raises:
            ValueError: For labels out of range, NaN in the data, or shapes that do not fit, with
                nothing changed; if the dynamics diverge, with the weights before that batch.
        """
        check_counts(
            batch_size=batch_size,
            steps_per_epoch=steps_per_epoch,
            validation_steps=validation_steps,
            validation_batch_size=validation_batch_size,
        )
        check.positive_integer("epochs", epochs, minimum=0)
        check.positive_integer("initial_epoch", initial_epoch, minimum=0)
        share = check.real("validation_split", validation_split, minimum=0.0)
        check.require(share < 1.0, "validation_split", "less than 1", validation_split)
        check.flag("shuffle", shuffle)
        self.check_arguments(y, sample_weight, class_weight, validation_data)
        self.check_order(x, shuffle)
        with self._guarded() as guard:
            x, y, sample_weight = guard.training(
                x, y, sample_weight, class_weight=class_weight, steps_per_epoch=steps_per_epoch
            )
            validation_data = guard.validation(validation_data, validation_steps)
            samples, varied, x = self._first_samples(x, y)
            self.begin_data()
            anew = steps_per_epoch is None
            with _watched(self, callbacks, samples, anew, varied) as callbacks:
                return super().fit(
                    x,
                    y,
                    batch_size=batch_size,
                    epochs=epochs,
                    verbose=verbose,
                    callbacks=callbacks,
                    validation_split=validation_split,
                    validation_data=validation_data,
                    shuffle=shuffle,
                    class_weight=class_weight,
                    sample_weight=sample_weight,
                    initial_epoch=initial_epoch,
                    steps_per_epoch=steps_per_epoch,
                    validation_steps=validation_steps,
                    validation_batch_size=validation_batch_size,
                    validation_freq=validation_freq,
                )

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Verbosity = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **keywords: Any,
    ) -> Any:
        """Return loss and metrics; arguments as in `keras.Model.evaluate`.

        Raises:
            ValueError: For data that do not fit, or if the dynamics diverge.
        """
        arguments = {"batch_size": batch_size, "verbose": verbose, "callbacks": callbacks}
        arguments |= {"steps": steps, "return_dict": return_dict, **keywords}
        if keywords.get("_use_cached_eval_dataset"):  # `fit` has checked these data.
            logs = super().evaluate(x, y, sample_weight=sample_weight, **arguments)
        else:
            check_counts(batch_size=batch_size, steps=steps)
            self.check_arguments(y, sample_weight)
            with self._guarded() as guard:
                x, y, sample_weight = guard.evaluation(x, y, sample_weight, steps)
                logs = super().evaluate(x, y, sample_weight=sample_weight, **arguments)
        self._require_finite_loss(logs, "The network has not changed.")
        return logs

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Verbosity = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """Return the class scores of samples; arguments as in `keras.Model.predict`.

        Raises:
            ValueError: For data that do not fit, or if the dynamics diverge.
        """
        check_counts(batch_size=batch_size, steps=steps)
        with self._guarded() as guard:
            x = guard.inputs(x, steps)
            scores = super().predict(x, batch_size, verbose, steps, callbacks)
        self._require_finite_scores(scores)
        return scores

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Train on one batch; arguments as in `keras.Model.train_on_batch`.

        Raises:
            ValueError: For data that do not fit, or if the dynamics diverge; nothing has changed.
        """
        self.check_arguments(y, sample_weight, class_weight)
        x, y, sample_weight = self.gate.batch(x, y, sample_weight, class_weight)
        logs = super().train_on_batch(x, y, sample_weight, class_weight, return_dict)
        self._require_finite_loss(logs, "The batch has changed nothing.")
        return logs

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """Return loss and metrics of one batch; arguments as in `keras.Model.test_on_batch`.

        Raises:
            ValueError: For data that do not fit, or if the dynamics diverge.
        """
        self.check_arguments(y, sample_weight)
        x, y, sample_weight = self.gate.batch(x, y, sample_weight)
        logs = super().test_on_batch(x, y, sample_weight, return_dict)
        self._require_finite_loss(logs, "The network has not changed.")
        return logs

    def predict_on_batch(self, x: Any) -> Any:
        """Return the class scores of one batch.

        Raises:
            ValueError: For data that do not fit, or if the dynamics diverge.
        """
        scores = super().predict_on_batch(self.gate.inputs("x", x))
        self._require_finite_scores(scores)
        return scores

    def train_step(self, *arguments: Any) -> Any:
        """Make a training step, and undo it if the loss or a weight is not finite after it."""
        return guarded_step(self, super().train_step, arguments, self.undone_variables)

    def make_train_function(self, force: bool = False) -> Any:
        """Return the function that makes a training step, with the optimizer's variables."""
        self._build_optimizer()
        return super().make_train_function(force)

    def require_finite(self, loss: Any, after: str = "The last batch has changed nothing.") -> None:
        """Raise a `ValueError` if a loss is not finite.

        Args:
            loss: The loss.
            after: What the message says about the state of the network.
        """
        check.require(
            math.isfinite(float(loss)),
            "loss",
            f"finite. The dynamics of {type(self).__name__} diverged, or numbers in the data are "
            f"too large for it. {after} Try {self.remedy}",
            float(loss),
        )

    @contextmanager
    def _guarded(self) -> Iterator[Any]:
        """Check the data of a call, and remove sums of metrics that are not finite."""
        try:
            with self.gate.guard(self) as guard:
                yield guard
        except BaseException:
            self.reset_metrics()
            raise

    def _build_optimizer(self) -> None:
        """Create the optimizer's variables on the devices of the network's variables."""
        if self.optimizer is None or self.optimizer.built:
            return
        with scope_of(self):
            self.optimizer.build(self.trainable_variables)

    @property
    def has_energy(self) -> bool:
        """Whether the free phase descends an energy, so that it can be watched."""
        return False

    def _first_samples(self, x: Any, y: Any) -> tuple[Any, bool, Any]:
        """Return some samples to watch, or None, whether targets differ, and the whole source."""
        return None, False, x

    def _require_finite_loss(self, logs: Any, after: str) -> None:
        values = list(logs.values()) if isinstance(logs, dict) else np.atleast_1d(logs).tolist()
        if not math.isfinite(float(values[0])):
            self.reset_metrics()
        self.require_finite(values[0], after)

    def _require_finite_scores(self, scores: Any) -> None:
        finite = bool(ops.convert_to_numpy(ops.all(ops.isfinite(scores))))
        check.require(
            finite,
            "x",
            f"samples for which {type(self).__name__} settles. Its scores are not finite, because "
            f"the weights are too large. Train again with {self.remedy}",
            "samples with scores of NaN or infinity",
        )


@contextmanager
def _watched(
    model: GuardedModel, callbacks: Any, samples: Any, anew: bool, varied: bool
) -> Iterator[Any]:
    """Add a `Watch` to callbacks, and remove it from a user's `CallbackList` afterwards."""
    watch = Watch(samples, anew, varied)
    if not isinstance(callbacks, keras.callbacks.CallbackList):
        given = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
        yield [*(each for each in given if each is not None), watch]
        return
    watch.set_model(model)
    callbacks.callbacks.append(watch)
    try:
        yield callbacks
    finally:
        callbacks.callbacks.remove(watch)
