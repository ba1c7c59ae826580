"""What all networks with phases share: they are Keras models, and own time."""

from __future__ import annotations

import math
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from keras_local import _validation as check
from keras_local.dynamics._data import check_inputs, check_labels, class_targets
from keras_local.dynamics._watch import Watch
from keras_local.ops import in_strategy, replica_count, replica_sum, surrogate_loss
from keras_local.ops.backend import Tensor
from keras_local.ops.precision import precise
from keras_local.ops.settling import States

Changes = Sequence[tuple[keras.Variable, Tensor]]
"""Weights, each with the direction (of ascent) in which the rule moves it."""

ERASES_RATES = (
    "Adadelta",
    "Adagrad",
    "Adafactor",
    "Adam",
    "AdamW",
    "Adamax",
    "BatchManhattan",
    "Lamb",
    "Lion",
    "Muon",
    "Nadam",
    "RMSprop",
)
"""Optimizers whose step does not depend on the scale of the gradient of a weight."""


class Network(keras.Model, ABC):
    """Interface of a network that learns in phases: a Keras model that owns time.

    `compile`, `fit`, `evaluate`, `predict`, saving and `export` work as for any Keras model.
    Calling the network runs the free phase, without labels, and returns the class scores; the loss
    in the logs is that of the free phase. While training, the network then runs its other phases
    and hands the rule's changes to the optimizer as the (negative) gradient of a loss of value
    zero, so every optimizer, schedule, clipping and gradient accumulation applies, on every
    backend and with several replicas. `compile` takes no `loss`: what a network minimises is part
    of its rule.

    A final class implements

    - `free_phase(inputs)`, the states of all units without labels,
    - `scores(inputs, states)`, the class scores of these states,
    - `changes(inputs, targets, states, share)`, the other phases and the changes of the weights,
    - `cost(targets, scores)`, the loss of each sample, if it is not half the squared distance,
    - `build`, which creates the weights (call it at the end of the constructor), and `get_config`,

    and, for those who watch, `trajectories`, `energy` and `instability`; where learning rates of
    layers differ, `layer_rates`. Weights are held by
    `Synapses`, whose `read()` gives tensors to compute with. State of the network that is not
    learned (counters, memories) is a weight with `trainable=False` and may be assigned in
    `changes`; it is saved, so a training that is taken up again goes on identically.

    A batch of which any change is not finite changes no weight, and `fit` and `train_on_batch`
    end with a `ValueError` that says what to change.

    Args:
        sizes: Number of inputs, of units of each hidden layer, and of classes.
        sample_shape: Shape of one sample; `(sizes[0],)` by default.
        **kwargs: `name`, `dtype`. Weights and dynamics are in float32, in float64 with
            `dtype="float64"`.

    Input shape: `(batch, *sample_shape)`. Output shape: `(batch, sizes[-1])`.

    Raises:
        ValueError: If `sizes` are not at least two positive integers, the last at least 2.
    """

    remedy: ClassVar[str] = "a smaller learning rate"
    """What to try if the dynamics diverge; named in the error."""

    suits_xla: ClassVar[bool] = True
    """Whether the network is compiled with XLA on every device, not only where Keras does so."""

    erased_effect: ClassVar[str] = "`rate_factors` have no effect"
    """What follows where an optimizer erases the factors of `layer_rates`; begins the warning."""

    def __init__(
        self, sizes: Sequence[int], sample_shape: tuple[int, ...] | None = None, **kwargs: Any
    ) -> None:
        valid = isinstance(sizes, (list, tuple)) and len(sizes) >= 2
        allowed = "a list of at least two sizes: inputs, hidden layers if any, classes"
        check.require(valid, "sizes", allowed, sizes)
        counts = [check.positive_integer("sizes", size) for size in sizes]
        check.positive_integer("sizes", counts[-1], minimum=2)
        super().__init__(autocast=False, **kwargs)
        self.sizes = tuple(counts)
        self.working_dtype = precise(self.variable_dtype)
        self.classes = counts[-1]
        self.sample_shape = (counts[0],) if sample_shape is None else tuple(sample_shape)
        self.input_spec = keras.layers.InputSpec(shape=(None, *self.sample_shape))
        self._handover = _Handover()
        self._replicated = in_strategy()

    @abstractmethod
    def free_phase(self, inputs: Tensor) -> States:
        """Return the states of the units without labels, a structure of tensors.

        Args:
            inputs: Tensor `(batch, *sample_shape)` in the working type.
        """

    @abstractmethod
    def scores(self, inputs: Tensor, states: States) -> Tensor:
        """Return the class scores `(batch, sizes[-1])` of the states of a free phase."""

    @abstractmethod
    def changes(self, inputs: Tensor, targets: Tensor, states: States, share: Tensor) -> Changes:
        """Run the phases with labels and return how the weights are to change.

        Args:
            inputs: Tensor `(batch, *sample_shape)`.
            targets: One-hot labels `(batch, sizes[-1])`.
            states: What `free_phase` returned for these inputs.
            share: Tensor `(batch,)`, how much each sample counts: 1 over the size of the global
                batch, times its sample weight. The change of a weight is the sum over samples of
                `share` times the change that the sample alone would make.

        Returns:
            Pairs of a weight and its change, a direction of ascent.
        """

    def cost(self, targets: Tensor, scores: Tensor) -> Tensor:
        """Return the loss of each sample, `(batch,)`: `1/2 |scores - targets|^2`."""
        return 0.5 * ops.sum(ops.square(scores - targets), axis=-1)

    def training_phase(self, inputs: Tensor) -> States:
        """Return the states without labels from which `changes` goes on: of the free phase."""
        return self.free_phase(inputs)

    def energy(self, inputs: Any, states: States) -> Tensor | None:
        """Return the energy of each sample, `(batch,)`, or None for a network that has none."""
        return None

    def instability(self) -> str | None:
        """Return why the dynamics cannot settle with the weights as they are, or None."""
        return None

    def trajectories(self, inputs: Any, labels: Any = None) -> list[Tensor]:
        """Return the states of each layer at all times of the free phase.

        Args:
            inputs: Samples `(batch, *sample_shape)`.
            labels: Their labels, to append the phase with labels (or, if that starts anew, to
                follow it instead).

        Returns:
            One tensor `(times, batch, ...)` for each layer of units, the lowest first.

        Raises:
            NotImplementedError: For a network whose phases take no time.
        """
        raise NotImplementedError(f"{type(self).__name__} has no trajectories")

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Return the class scores at the end of the free phase."""
        inputs = self._prepared(inputs)
        states = self.training_phase(inputs) if training else self.free_phase(inputs)
        scores = ops.stop_gradient(self.scores(inputs, states))
        if training:
            self._handover.put(scores, states)
        return scores

    def compile(
        self,
        optimizer: Any = "sgd",
        loss: Any = None,
        metrics: Any = None,
        jit_compile: bool | str = "auto",
        **arguments: Any,
    ) -> None:
        """Configure the training; arguments as in `keras.Model.compile`, but for the loss.

        With `jit_compile="auto"` most networks are compiled with XLA on the CPU as well, where
        Keras leaves it off on TensorFlow: many small steps are what it is good at.

        Raises:
            ValueError: If a `loss` is given, or the optimizer does not suit the rule.
        """
        name = type(self).__name__
        allowed = f"left out: {name} minimises a cost of its own (`metrics` show others)"
        check.require(loss is None, "loss", allowed, loss)
        optimizer = keras.optimizers.get(optimizer)
        self.check_optimizer(optimizer)
        super().compile(optimizer=optimizer, metrics=metrics, jit_compile=jit_compile, **arguments)
        self._asked = jit_compile
        one_device = not self._replicated and not self.run_eagerly
        if jit_compile == "auto" and self.suits_xla and one_device:
            with warnings.catch_warnings():
                # Keras warns where XLA is not to be had, and leaves it off.
                warnings.simplefilter("ignore")
                self.jit_compile = keras.config.backend() != "torch"

    def get_compile_config(self) -> dict[str, Any] | None:
        """Return the arguments of `compile`, `jit_compile` as it was given."""
        config: dict[str, Any] | None = super().get_compile_config()
        return {**config, "jit_compile": self._asked} if config else config

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile with the arguments that were saved."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def layer_rates(self) -> Sequence[float]:
        """Return the factors by which the learning rates of weights differ; none by default."""
        return ()

    def check_optimizer(self, optimizer: Any) -> None:
        """Refuse, or warn of, an optimizer that does not suit the rule.

        By default it warns of one that erases the factors of `layer_rates`.
        """
        erased = self.erased_rates(optimizer, self.layer_rates())
        if erased:
            warnings.warn(f"{self.erased_effect}: {erased}.", stacklevel=3)

    def check_order(self, x: Any, shuffle: Any) -> None:
        """Refuse samples that do not come in the order that the network needs; any will do."""

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """Return the loss of the free phase; while training, its gradient is the rule's."""
        check.require(y is not None, "y", "class labels", y)
        inputs = self._prepared(x)
        targets = self._targets(y)
        share = ops.ones(ops.shape(targets)[:1], self.working_dtype)
        if sample_weight is not None:
            share = ops.reshape(ops.cast(sample_weight, self.working_dtype), ops.shape(share))
        samples = ops.cast(ops.shape(targets)[0] * replica_count(), self.working_dtype)
        share = share / samples
        loss = ops.sum(share * self.cost(targets, ops.stop_gradient(y_pred)))
        for regularization in self.losses:
            loss = loss + ops.cast(regularization, loss.dtype) / replica_count()
        if not training:
            return loss
        states = self._handover.take(y_pred)
        if states is None:
            states = self.training_phase(inputs)
        learned, alarm = _finite(self.changes(inputs, targets, states, share))
        # A phase with labels may diverge where the free phase does not.
        loss = loss + ops.cast(alarm, loss.dtype)
        for weight, change in learned:
            surrogate = surrogate_loss(weight, change) / replica_count()
            loss = loss + ops.cast(surrogate, loss.dtype)
        return loss

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        **arguments: Any,
    ) -> keras.callbacks.History:
        """Train the network; arguments as in `keras.Model.fit`.

        Raises:
            ValueError: For labels out of range, NaN in the data, or shapes that do not fit, before
                anything is changed; if the dynamics diverge, with the weights free of NaN.
        """
        self._check(x, y)
        validation = arguments.get("validation_data")
        if isinstance(validation, (tuple, list)):
            self._check(*validation[:2])
        self.check_order(x, arguments.get("shuffle", True))
        watch = Watch(x)
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.append(watch)
        else:
            given = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
            callbacks = [*(each for each in given if each is not None), watch]
        return super().fit(
            x,
            y,
            batch_size=batch_size,
            epochs=epochs,
            verbose=verbose,
            callbacks=callbacks,
            **arguments,
        )

    def evaluate(self, x: Any = None, y: Any = None, *arguments: Any, **keywords: Any) -> Any:
        """Return loss and metrics; arguments as in `keras.Model.evaluate`.

        Raises:
            ValueError: For data that do not fit.
        """
        self._check(x, y)
        return super().evaluate(x, y, *arguments, **keywords)

    def predict(self, x: Any, *arguments: Any, **keywords: Any) -> Any:
        """Return the class scores of samples; arguments as in `keras.Model.predict`.

        Raises:
            ValueError: For data that do not fit.
        """
        self._check(x)
        return super().predict(x, *arguments, **keywords)

    def train_on_batch(self, x: Any, y: Any = None, *arguments: Any, **keywords: Any) -> Any:
        """Train on one batch; arguments as in `keras.Model.train_on_batch`.

        Raises:
            ValueError: For data that do not fit, or if the dynamics diverge.
        """
        self._check(x, y)
        logs = super().train_on_batch(x, y, *arguments, **keywords)
        values = list(logs.values()) if isinstance(logs, dict) else np.atleast_1d(logs).tolist()
        self.require_finite(values[0])
        return logs

    def export(self, filepath: Any, *arguments: Any, **keywords: Any) -> None:
        """Write the free phase as a model for serving; arguments as in `keras.Model.export`."""
        # Keras exports what has been called before.
        self(ops.zeros((1, *self.sample_shape), self.working_dtype))
        super().export(filepath, *arguments, **keywords)

    def require_finite(self, loss: Any) -> None:
        """Raise a `ValueError` if a loss of training is not finite."""
        check.require(
            math.isfinite(float(loss)),
            "loss",
            f"finite. The dynamics of {type(self).__name__} diverged, or the data hold NaN or "
            f"labels that are no class. The last batch changed no weight. Try {self.remedy}",
            float(loss),
        )

    def erased_rates(self, optimizer: Any, rates: Sequence[float]) -> str | None:
        """Return what is wrong with an optimizer for factors that differ between layers."""
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        name = type(optimizer).__name__
        if len(set(rates)) < 2 or name not in ERASES_RATES:
            return None
        return (
            f"{name} divides the gradient of each weight by its size, which erases the factors "
            f"{tuple(rates)} of the layers. Use keras.optimizers.SGD"
        )

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """`(batch, classes)`."""
        return (input_shape[0], self.classes)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = super().get_config()
        config.pop("autocast", None)
        return {**config, "sizes": list(self.sizes)}

    def _prepared(self, inputs: Any) -> Tensor:
        return ops.stop_gradient(ops.cast(ops.convert_to_tensor(inputs), self.working_dtype))

    def _targets(self, labels: Any) -> Tensor:
        return class_targets(labels, self.classes, self.working_dtype)

    def _check(self, x: Any, y: Any = None) -> None:
        if not hasattr(x, "shape"):
            return  # A data set: its shapes are checked as it comes, NaN stops the training.
        count = check_inputs("x", x, self.sample_shape)
        if y is not None:
            check_labels("y", y, count, self.classes)


def _finite(changes: Changes) -> tuple[list[tuple[keras.Variable, Tensor]], Tensor]:
    """Return the changes and 0, or zeros and NaN if any change, in any replica, is not finite."""
    sums = [ops.cast(_any_sum(change), "float32") for _, change in changes]
    wrong = 1.0 - ops.cast(ops.isfinite(ops.sum(ops.stack(sums))), "float32")
    healthy = ops.equal(replica_sum(wrong), 0.0)
    kept = [
        (weight, ops.where(healthy, change, ops.zeros_like(change))) for weight, change in changes
    ]
    return kept, ops.where(healthy, 0.0, float("nan"))


def _any_sum(change: Tensor) -> Tensor:
    """Return a number that is finite if all entries are, short of an overflow, and else is not."""
    if len(change.shape) > 1:
        # XLA adds up columns side by side, and all entries one by one if it sees a single sum.
        change = ops.abs(ops.sum(change, axis=0))
    return ops.sum(change)


class _Handover:
    """Carries the states of the free phase from `call` to `compute_loss` of the same step.

    Both run in one trace, in one thread (replicas have threads of their own), and the scores tell
    whether the states belong to them: the free phase need not run twice.
    """

    def __init__(self) -> None:
        self.kept: dict[int, tuple[Any, States]] = {}

    def put(self, scores: Any, states: States) -> None:
        self.kept[threading.get_ident()] = (scores, states)

    def take(self, scores: Any) -> States | None:
        kept = self.kept.pop(threading.get_ident(), None)
        return kept[1] if kept is not None and kept[0] is scores else None

    def __deepcopy__(self, memo: dict[int, Any]) -> _Handover:
        return _Handover()
