"""The interface of networks that learn in phases."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, ClassVar, Literal

import keras
import numpy as np
from keras import ops

from keras_local import _validation as check
from keras_local._data_gate import Gate
from keras_local._labels import concrete
from keras_local._targets import (
    Expected,
    fitting_metrics,
    largest_value,
    least_outputs,
    target_kind,
)
from keras_local._types import DType, Targets
from keras_local.dynamics._arguments import layer_arguments, layer_sizes
from keras_local.dynamics._outputs import squared
from keras_local.dynamics._steps import Handover, alarm, first_samples
from keras_local.dynamics.gradient_scale import ignores_gradient_scale
from keras_local.dynamics.guarded_model import GuardedModel
from keras_local.layers.learning_form import LearningForm
from keras_local.ops import abilities, in_strategy, replica_count, surrogate_loss
from keras_local.ops.backend import Tensor
from keras_local.ops.precision import precise
from keras_local.ops.settling import States

Changes = Sequence[tuple[keras.Variable, Tensor]]
"""Pairs of a weight and its change by the rule, a direction of ascent."""

_WATCHED = 8


class Network(GuardedModel):
    """Interface of networks that learn in phases, for example one without and one with labels.

    `compile`, `fit`, `evaluate`, `predict`, the methods for one batch, saving and `export` work as
    for any Keras model. A call of the network runs the free phase, without labels, and returns the
    class scores; the loss in the logs is that of the free phase. In training the network then runs
    its other phases, and passes the rule's changes to the optimizer as the (negative) gradient of a
    loss of value zero. Therefore every optimizer, schedule, clipping and gradient accumulation
    works, on every backend and with several replicas. `compile` takes no `loss`, because the rule
    determines what a network minimises.

    All methods check their data. If the loss, a change or a weight is not finite after a batch, the
    batch is undone with all state, and `fit` or `train_on_batch` ends with a `ValueError` that says
    what to change. With `trainable=False` training changes nothing.

    To write a network, derive from this class and implement

    - `free_phase(inputs)`, the states of all units without labels,
    - `scores(inputs, states)`, the class scores of these states,
    - `changes(inputs, targets, states, share)`, the other phases and the changes of the weights,
    - `build`, which creates the weights (call it at the end of the constructor), and `get_config`.

    The rest has a default. `cost(targets, scores)`, the loss of each sample, is half the squared
    distance. `layer_rates` returns learning rates of layers that differ, so that `compile` can warn
    of optimizers that remove the differences. `trajectories`, `energy` and `instability` are used
    by `callbacks.SettlingMonitor`, plots, and the warning of dynamics that do not settle. `remedy`
    is the advice in errors. `keras.saving.register_keras_serializable` makes the network loadable.

    `Synapses` hold the weights; their `read()` returns tensors to compute with. State that is not
    learned (counters, memories) is a weight with `trainable=False` and may be assigned in
    `changes`. It is saved, so that a training that is continued later continues identically.

    `targets` says what the network learns: one of several `"classes"`; `"labels"` that are each
    true or not, numbers from 0 to 1, where one output is a binary label; or real `"values"`. With
    one output, targets may have the shape `(batch,)`. `refused_targets` lists the targets that the
    rule of a network cannot learn.

    Args:
        sizes: Number of inputs, of units of each hidden layer, and of outputs: classes, labels or
            values.
        sample_shape: Shape of one sample; `(sizes[0],)` by default.
        targets: `"classes"`, `"labels"` or `"values"`.
        name: Name of the network.
        dtype: Precision of weights and dynamics, `"float32"` or `"float64"`; with a policy of mixed
            precision both stay in float32, and the scores have the policy's type.
        trainable: Whether the network learns.

    Input shape: `(batch, *sample_shape)`. Output shape: `(batch, sizes[-1])`.

    Raises:
        ValueError: If `sizes` are not at least two positive integers, the last at least 2 for
            classes, or if the rule cannot learn these `targets`.

    >>> import keras, numpy as np, keras_local as kl
    >>> from keras import ops
    >>> class DeltaRule(kl.dynamics.Network):
    ...     def __init__(self, sizes, **kwargs):
    ...         super().__init__(sizes, **kwargs)
    ...         self.synapses = kl.dynamics.Synapses(self.classes, dtype=self.working_dtype)
    ...         self.build((None, self.sizes[0]))
    ...     def build(self, input_shape):
    ...         if not self.synapses.built:
    ...             self.synapses.build(input_shape)
    ...         self.built = True
    ...     def free_phase(self, inputs):
    ...         return (self.synapses.read().forward(inputs),)
    ...     def scores(self, inputs, states):
    ...         return states[-1]
    ...     def changes(self, inputs, targets, states, share):
    ...         error = share[:, None] * (targets - states[-1])
    ...         kernel = ops.transpose(inputs) @ error
    ...         return [(self.synapses.kernel, kernel), (self.synapses.bias, ops.sum(error, 0))]
    >>> network = DeltaRule([4, 3])
    >>> network.compile(keras.optimizers.SGD(0.5))
    >>> history = network.fit(np.eye(4), np.array([0, 1, 2, 0]), epochs=20, verbose=0)
    >>> np.argmax(network.predict(np.eye(4), verbose=0), axis=1).tolist()
    [0, 1, 2, 0]
    """

    suits_xla: ClassVar[bool] = True
    """Whether the network is compiled with XLA also on devices where Keras does not use it."""

    refused_targets: ClassVar[Mapping[str, str]] = {
        "labels": "a network that learns them overrides `refused_targets`",
        "values": "a network that learns them overrides `refused_targets`",
    }
    """The kinds of `targets` that the rule cannot learn, each with what to do instead."""

    erased_effect: ClassVar[str] = "`rate_factors` have no effect"
    """The effect of an optimizer that removes the factors of `layer_rates`; begins the warning."""

    def __init__(
        self,
        sizes: Sequence[int],
        sample_shape: tuple[int, ...] | None = None,
        *,
        targets: Targets = "classes",
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
    ) -> None:
        kind = target_kind(targets, type(self).__name__, self.refused_targets)
        counts = layer_sizes("sizes", sizes, least_outputs(kind))
        super().__init__(autocast=False, **layer_arguments(name, dtype, trainable))
        self.targets = kind
        self.sizes = counts
        self.working_dtype = precise(self.variable_dtype)
        self.classes = counts[-1]
        self.sample_shape = (counts[0],) if sample_shape is None else tuple(sample_shape)
        self.input_spec = keras.layers.InputSpec(shape=(None, *self.sample_shape))
        self._handover = Handover()
        self._replicated = in_strategy()

    @abstractmethod
    def free_phase(self, inputs: Tensor) -> States:
        """Return the states of the units without labels, a structure of tensors.

        Args:
            inputs: Tensor `(batch, *sample_shape)` in the working type.
        """

    @abstractmethod
    def scores(self, inputs: Tensor, states: States) -> Tensor:
        """Return the scores of a free phase, `(batch, sizes[-1])`.

        These are the scores of the classes, the probabilities of the labels, or the values.
        """

    @abstractmethod
    def changes(self, inputs: Tensor, targets: Tensor, states: States, share: Tensor) -> Changes:
        """Run the phases with labels, and return the changes of the weights.

        Args:
            inputs: Tensor `(batch, *sample_shape)`.
            targets: Rows `(batch, sizes[-1])`; for classes they are one-hot.
            states: The result of `free_phase` for these inputs.
            share: Tensor `(batch,)`, how much each sample counts: 1 over the size of the global
                batch, times its sample weight. The change of a weight is the sum over samples of
                `share` times the change that the sample alone would make.

        Returns:
            Pairs of a weight and its change, a direction of ascent.
        """

    def cost(self, targets: Tensor, scores: Tensor) -> Tensor:
        """Return the loss of each sample, `(batch,)`: `1/2 |scores - targets|^2`."""
        return squared(targets, scores)

    def training_phase(self, inputs: Tensor) -> States:
        """Return the states from which `changes` starts; by default those of the free phase."""
        return self.free_phase(inputs)

    def remember(self, states: States, healthy: Tensor) -> None:
        """Store what the next batches need from this batch, at the end of a training step.

        Use it only for state that is too large to be copied in each step, and leave this state out
        of `undone_variables`; other state may be assigned in `changes`.

        Args:
            states: The result of `training_phase`.
            healthy: Whether loss and changes are finite; if not, nothing may be stored.
        """

    def energy(self, inputs: Any, states: States) -> Tensor | None:
        """Return the energy of each sample, `(batch,)`, or None for a network that has none."""
        return None

    def trajectories(self, inputs: Any, labels: Any = None) -> list[Tensor]:
        """Return the states of each layer at all times of the free phase.

        Args:
            inputs: Samples `(batch, *sample_shape)`.
            labels: Labels of the samples, to append the phase with labels (or to return only that
                phase, if it does not start from the free phase).

        Returns:
            One tensor `(times, batch, ...)` for each layer of units, the lowest first.

        Raises:
            NotImplementedError: For a network whose phases have no time steps.
        """
        raise NotImplementedError(f"{type(self).__name__} has no trajectories")

    def call(self, inputs: Tensor, training: bool | None = None, mask: Any = None) -> Tensor:
        """Return the scores at the end of the free phase, in the type of the policy.

        Raises:
            ValueError: For a mask: samples that do not count are to be left out of the batch.
        """
        allowed = f"None: {type(self).__name__} takes whole samples. Give it the ones that count"
        check.require(mask is None, "mask", allowed, "a mask")
        inputs = self._prepared(inputs)
        learns = training and bool(self.trainable_variables)
        states = self.training_phase(inputs) if learns else self.free_phase(inputs)
        scores = ops.stop_gradient(self.scores(inputs, states))
        outputs = ops.cast(scores, self.compute_dtype)
        if learns:
            self._handover.put(outputs, scores, states)
        return outputs

    def compile(
        self,
        optimizer: Any = "recommended",
        loss: None = None,
        loss_weights: None = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | Literal["auto"] = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Configure the training; arguments as in `keras.Model.compile`, without a loss.

        With `jit_compile="auto"` most networks are compiled with XLA on the CPU as well, because it
        is fast for many small steps. Keras does not use it there on TensorFlow. The default
        optimizer is `default_optimizer()`, with the learning rate that the network's page
        recommends.

        Raises:
            ValueError: If a `loss` is given, or the optimizer is not suitable for the rule.
        """
        name = type(self).__name__
        allowed = f"left out: {name} minimises its own cost (use `metrics` for others)"
        check.require(loss is None, "loss", allowed, loss)
        check.require(loss_weights is None, "loss_weights", allowed, loss_weights)
        metrics = fitting_metrics(metrics, self.targets)
        weighted_metrics = fitting_metrics(weighted_metrics, self.targets)
        if isinstance(optimizer, str) and optimizer == "recommended":
            optimizer = self.default_optimizer()
        allowed = '"recommended", a Keras optimizer, or the name of one'
        check.require(optimizer is not None, "optimizer", allowed, optimizer)
        optimizer = check.resolved("optimizer", optimizer, keras.optimizers.get, allowed)
        run_eagerly = check.flag("run_eagerly", run_eagerly)
        auto_scale_loss = check.flag("auto_scale_loss", auto_scale_loss)
        check.positive_integer("steps_per_execution", steps_per_execution)
        check.one_of("jit_compile", jit_compile, (True, False, "auto"))
        self.check_optimizer(optimizer)
        super().compile(
            optimizer=optimizer,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            auto_scale_loss=auto_scale_loss,
        )
        self._asked = jit_compile
        one_device = not self._replicated and not self.run_eagerly
        if jit_compile == "auto" and self.suits_xla and one_device:
            with warnings.catch_warnings():
                # If there is no XLA, Keras warns and does not use it.
                warnings.simplefilter("ignore")
                self.jit_compile = abilities.COMPILES

    def get_compile_config(self) -> dict[str, Any] | None:
        """Return the arguments of `compile`, with `jit_compile` as the user gave it."""
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
        """Refuse an optimizer that is not suitable for the rule, or warn about it.

        By default it warns of an optimizer that removes the factors of `layer_rates`.
        """
        erased = self.erased_rates(optimizer, self.layer_rates())
        if erased:
            warnings.warn(f"{self.erased_effect}: {erased}.", stacklevel=3)

    def erased_rates(self, optimizer: Any, rates: Sequence[float]) -> str | None:
        """Return why an optimizer removes the factors of the layers, or None."""
        if len(set(rates)) < 2 or not ignores_gradient_scale(optimizer):
            return None
        name = type(getattr(optimizer, "inner_optimizer", optimizer)).__name__
        return (
            f"{name} divides the gradient of each weight by its size, which erases the factors "
            f"{tuple(rates)} of the layers. Use keras.optimizers.SGD, with `momentum` if you like, "
            f"or an optimizer of your own that derives from it"
        )

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """Return the loss of the free phase; in training its gradient is that of the rule."""
        check.require(y is not None, "y", self.targets, y)
        inputs = self._prepared(x)
        targets = self._targets(y)
        share = ops.ones(ops.shape(targets)[:1], self.working_dtype)
        if sample_weight is not None:
            share = ops.reshape(ops.cast(sample_weight, self.working_dtype), ops.shape(share))
        samples = ops.cast(ops.shape(targets)[0] * replica_count(), self.working_dtype)
        share = share / samples
        scores, states = self._handover.take(y_pred)
        if scores is None:
            scores = ops.cast(ops.stop_gradient(y_pred), self.working_dtype)
        loss = ops.sum(share * self.cost(targets, scores))
        for regularization in self.losses:
            loss = loss + ops.cast(regularization, loss.dtype) / replica_count()
        if not training or not self.trainable_variables:
            return loss
        if states is None:
            states = self.training_phase(inputs)
        changes = self.changes(inputs, targets, states, share)
        # A phase with labels may diverge although the free phase does not.
        doubt = alarm(changes)
        loss = loss + ops.cast(doubt, loss.dtype)
        self.remember(states, ops.isfinite(loss))
        for weight, change in changes:
            # The factor is 1, and known only after all changes. Without it TensorFlow may write a
            # weight while other changes still wait for their reading of it.
            factor = (1.0 + ops.cast(doubt, loss.dtype)) / replica_count()
            loss = loss + factor * ops.cast(surrogate_loss(weight, change), loss.dtype)
        return loss

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Return the metrics; they get labels and values as rows, and probabilities from 0 to 1."""
        if self.targets != "classes":
            y = self._expected.rows("y", y, self.working_dtype)[0]
        if self.targets == "labels":
            y_pred = ops.clip(y_pred, 0.0, 1.0)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def serving_form(self) -> tuple[Callable[[Any], Tensor], list[keras.layers.InputSpec]]:
        """Return the function from samples to scores for serving, and the shape of samples.

        `models.export` calls it. The function runs only the free phase.
        """
        spec = keras.layers.InputSpec(shape=(None, *self.sample_shape), dtype=self.working_dtype)
        return (lambda inputs: self(inputs, training=False)), [spec]

    def learning_form(self) -> LearningForm:
        """Return a step of learning as functions: `models.export_learner` asks for it."""
        spec, dtype = keras.layers.InputSpec, self.working_dtype
        numbers, rows = spec("int32", (None,)), spec(dtype, (None, self.classes))
        return LearningForm(
            loss=lambda x, y: self.compute_loss(x, y, self(x, training=True)),
            infer=lambda x: self(x, training=False),
            samples=[spec(dtype, (None, *self.sample_shape))],
            targets=[numbers if self.targets == "classes" else rows],
            guarded=True,
        )

    def export(
        self,
        filepath: str | PathLike[str],
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        input_signature: Any = None,
        **keywords: Any,
    ) -> None:
        """Write the free phase as a model for serving; arguments as in `keras.Model.export`."""
        # Keras exports only a model that has been called.
        self(ops.zeros((1, *self.sample_shape), self.working_dtype))
        super().export(filepath, format, verbose, input_signature, **keywords)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return `(batch, outputs)`."""
        return (input_shape[0], self.classes)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = super().get_config()
        config.pop("autocast", None)
        # Classes are the default, because a network need not have the argument.
        kind = {} if self.targets == "classes" else {"targets": self.targets}
        return {**config, **kind, "sizes": list(self.sizes)}

    @property
    def smoothed(self) -> bool:
        """Whether the rule learns smoothed one-hot rows, and not only exact ones."""
        return True

    @property
    def value_range(self) -> tuple[float, float]:
        """The smallest and the largest value that the rule can learn."""
        return -math.inf, math.inf

    @property
    def gate(self) -> Gate:
        """The samples and targets that the network accepts."""
        return Gate(
            self.sample_shape,
            self.classes,
            self.working_dtype,
            targets=self._expected,
        )

    @property
    def _expected(self) -> Expected:
        low, high = self.value_range
        # The squared error, summed over the outputs, has to be finite.
        limit = largest_value(self.working_dtype, self.classes)
        return Expected(
            self.classes,
            self.targets,
            self.smoothed,
            max(low, -limit),
            min(high, limit),
            f", the range of the outputs of {type(self).__name__}",
        )

    @property
    def saturation(self) -> float:
        """What is left of the differences of the outputs before training if units no longer move.

        Scores of classes and labels are far apart after training. The range of values is unknown.
        """
        return 1e-3 if self.targets == "values" else 0.1

    def _first_samples(self, x: Any, y: Any) -> tuple[Any, bool, Any]:
        samples, labels, x = first_samples(self.gate, x, y, _WATCHED)
        if samples is None or labels is None:
            return samples, False, x
        return samples, len(labels) > 1 and bool(np.any(labels != labels[:1])), x

    @property
    def has_energy(self) -> bool:
        """Whether the network defines `energy`."""
        return type(self).energy is not Network.energy

    def default_optimizer(self) -> Any:
        """Return the optimizer of `compile()` without arguments, a new one each time."""
        return keras.optimizers.SGD()

    def _prepared(self, inputs: Any) -> Tensor:
        return ops.stop_gradient(ops.cast(ops.convert_to_tensor(inputs), self.working_dtype))

    def _targets(self, labels: Any) -> Tensor:
        """Return targets as rows; in a graph, a row of NaN for a target that cannot be learned."""
        expected = self._expected
        rows, valid = expected.rows("y", labels, self.working_dtype)
        known = concrete(valid)
        if known is not None and not known.all():
            expected.check("y", labels)
        # A graph cannot raise errors. A step with a loss of NaN is undone and ends the call.
        return ops.where(valid[:, None], rows, ops.full_like(rows, float("nan")))
