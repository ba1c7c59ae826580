"""The interface of every layer that learns without labels, by a plasticity rule."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Unpack

import keras
from keras import activations, constraints, initializers, ops

from keras_local import _keras_objects as objects
from keras_local import _validation as check
from keras_local import plasticity as plasticity_rules
from keras_local._types import (
    Activation,
    ConstraintLike,
    DType,
    InitializerLike,
    LayerArguments,
    RegularizerLike,
)
from keras_local.layers import masks
from keras_local.layers.feedback.layer import Shape
from keras_local.layers.hebbian.alarm import DivergenceAlarm
from keras_local.layers.own_losses import OwnLosses
from keras_local.layers.plain_form import (
    ErrorKernel,
    PlainForm,
    plain_activation,
    plain_twin,
    twin_config,
)
from keras_local.ops import (
    LinearMap,
    Masked,
    abilities,
    after,
    read,
    replica_count,
    replica_sum,
    surrogate_loss,
)
from keras_local.ops.backend import Tensor
from keras_local.ops.precision import precise
from keras_local.plasticity import PlasticityLike, PlasticityRule


class HebbianLayer(OwnLosses, keras.layers.Layer):
    """Interface of layers whose kernel learns by a plasticity rule, without labels.

    Forward `y = activation(M(x, W))`, without bias. In training the layer passes the rule's change
    to the optimizer as the (negative) gradient of a loss of value zero:

        gradient of W = -local_rate * (change of the rule) + global_rate * (gradient of all losses)

    Therefore `compile` and `fit` work as always, and by default no other loss changes the kernel.
    Errors always pass to the layers below. Samples that a Keras mask leaves
    out are left out of what is learned.

    To write a layer, implement `linear_map` and `kernel_shape`, and `arrange` if the inputs are
    padded or reshaped before.

    Args:
        units: Number of units, or of filters.
        plasticity: A `keras_local.plasticity` rule or its alias.
        activation: Activation function; none by default.
        kernel_initializer: Initializer of the kernel; normal with standard deviation 1 by default.
        kernel_constraint: A Keras constraint; by default the constraint of the rule.
        local_rate: Factor on the change of the rule, at least 0.
        global_rate: Factor on the gradient of the losses, at least 0.
        activity_regularizer: Regularizer of the outputs.
        name: Name of the layer.
        dtype: Precision, or a Keras dtype policy; weights and learning stay in float32 under mixed
            precision.
        trainable: Whether the layer learns.
        **kwargs: The other arguments of every Keras layer.
    """

    plain: ClassVar[Any]

    def __init__(
        self,
        units: int,
        plasticity: PlasticityLike = "krotov_hopfield",
        activation: Activation = None,
        kernel_initializer: InitializerLike | None = None,
        kernel_constraint: ConstraintLike = None,
        local_rate: float = 1.0,
        global_rate: float = 0.0,
        *,
        activity_regularizer: RegularizerLike = None,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        rule = plasticity_rules.get(plasticity)
        rule.check_units(units)
        local_rate = check.real("local_rate", local_rate, minimum=0.0)
        global_rate = check.real("global_rate", global_rate, minimum=0.0)
        function = objects.activation("activation", activation)
        initializer = objects.initializer("kernel_initializer", kernel_initializer)
        constraint = objects.constraint("kernel_constraint", kernel_constraint)
        policy = objects.dtype_policy("dtype", dtype)
        quantised = getattr(policy, "quantization_mode", None) is not None
        check.require(not quantised, "dtype", "a precision without quantisation", dtype)
        super().__init__(
            name=name,
            dtype=policy,
            trainable=check.flag("trainable", trainable),
            activity_regularizer=objects.regularizer("activity_regularizer", activity_regularizer),
            **kwargs,
        )
        self.units = units
        self._plasticity = rule
        self.activation = function
        self.kernel_initializer = initializer or keras.initializers.RandomNormal(stddev=1.0)
        self.kernel_constraint = constraint
        self.local_rate = local_rate
        self.global_rate = global_rate
        # Sorting under XLA is many times slower on a CPU. Therefore Keras runs models with this
        # layer as plain graphs; set `supports_jit` to True to use XLA.
        self.supports_jit = abilities.SORTS_FAST_COMPILED
        self.supports_masking = True

    @property
    def plasticity(self) -> PlasticityRule:
        """The plasticity rule, which cannot be exchanged once the layer is built."""
        return self._plasticity

    @plasticity.setter
    def plasticity(self, rule: PlasticityLike) -> None:
        if self.built:
            raise AttributeError(
                f"`plasticity` of layer {self.name!r} cannot be exchanged: the layer is built with "
                f"the weights of {type(self._plasticity).__name__}. Make a new layer."
            )
        rule = plasticity_rules.get(rule)
        rule.check_units(self.units)
        self._plasticity = rule

    @property
    @abstractmethod
    def linear_map(self) -> LinearMap:
        """Return the linear map that uses the kernel, channels last."""

    @abstractmethod
    def kernel_shape(self, input_shape: Shape) -> tuple[int, ...]:
        """Return the shape of the kernel, or refuse the inputs."""

    def arrange(self, inputs: Tensor) -> Tensor:
        """Return the inputs of the map; by default the inputs of the layer."""
        return inputs

    def samples_of(self, present: Tensor) -> Tensor:
        """Return which outputs are samples to learn from, with a last axis of 1.

        Args:
            present: Which inputs there are, a boolean tensor of their shape with a last axis of 1.
        """
        return self.arrange(present)

    def map_of(self, arranged: Tensor) -> LinearMap:
        """Return the map for the given inputs; by default it does not depend on them."""
        return self.linear_map

    def build(self, input_shape: Shape) -> None:
        """Create the kernel, and the weights that the rule declares."""
        shape = self.kernel_shape(input_shape)
        dtype = precise(self.variable_dtype)
        self.kernel = self.add_weight(
            name="kernel",
            shape=shape,
            initializer=self.kernel_initializer,
            constraint=self._obeyed(),
            dtype=dtype,
            autocast=False,
        )
        self._own = [
            self.add_weight(
                name=weight.name,
                shape=weight.shape,
                initializer=weight.initializer,
                trainable=weight.trainable,
                dtype=dtype,
                autocast=False,
            )
            for weight in self.plasticity.own_weights(shape, self.linear_map)
        ]
        self.alarm = DivergenceAlarm(self._divergence)
        self.built = True

    def _divergence(self) -> str:
        """Return the message for changes that are not finite."""
        return (
            f"Learning diverged: in layer {self.name!r} the rule {type(self.plasticity).__name__} "
            "computes a change that is not finite, or too large to be squared. The weights keep "
            "their last finite values. Make the step size smaller (`step_size` of `pretrain`, "
            "`learning_rate` of the optimizer), scale the inputs down, or bound the changes by a "
            "`normaliser` or the weights by a `constraint` of the rule; inputs must not be NaN."
        )

    def _obeyed(self) -> Any:
        rule = self.plasticity
        if self.kernel_constraint is not None or not rule.constrains:
            return self.kernel_constraint
        # On JAX the optimizer sees only its own weights.
        able = abilities.CONSTRAINTS_READ_WEIGHTS or not rule.remembers
        check.require(able, "plasticity", "a rule whose constraint needs no memory, on JAX", rule)
        return _RuleConstraint(self)

    def call(
        self,
        inputs: Tensor,
        modulator: Tensor | None = None,
        training: bool | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return `activation(M(inputs, kernel))`; in training, add the rule's loss.

        `modulator`, if given, is a third factor on the change of each sample. Its shape is
        `(batch,)`, or one that broadcasts against the outputs. It affects only learning.
        Samples that `mask` leaves out are seen as zeros, and nothing is learned from them: they
        are in no sum, count, mean or memory.
        """
        present = None
        if mask is not None:
            present = masks.spread(mask, inputs)
            inputs = masks.without(inputs, present)
            present = self.samples_of(present)
        arranged = self.arrange(inputs)
        linear_map = self.map_of(arranged)
        kernel, own = read(self.kernel), tuple(read(weight) for weight in self._own)
        reached = self._reached(kernel)
        used = self.plasticity.forward_kernel(reached, *own, linear_map=self.linear_map)
        sums = linear_map.apply(arranged, ops.cast(used, self.compute_dtype))
        outputs = self.plasticity.outputs(sums, *own, linear_map=self.linear_map)
        silent = modulator is None and self.plasticity.needs_modulator
        if training and self.trainable and self.local_rate > 0.0 and not silent:
            factor = None if modulator is None else self._factor(modulator, outputs)
            changes = self._learn(linear_map, arranged, outputs, kernel, own, factor, present)
            # What this layer needs in order to learn is not held while the layers above learn.
            outputs = after(outputs, changes)
        return outputs if self.activation is None else self.activation(outputs)

    def _reached(self, kernel: Tensor) -> Tensor:
        """Return the kernel as the losses see it: with `global_rate` times their gradient."""
        still = ops.stop_gradient(kernel)
        if self.global_rate == 0.0:
            return still
        if self.global_rate == 1.0:
            return kernel
        # The difference is exactly zero.
        return still + self.global_rate * (kernel - still)

    def _learn(
        self,
        linear_map: LinearMap,
        arranged: Tensor,
        outputs: Tensor,
        kernel: Tensor,
        own: tuple[Tensor, ...],
        modulator: Tensor | None,
        present: Tensor | None,
    ) -> list[Tensor]:
        """Hand the changes over to the optimizer, and return them."""
        rule = self.plasticity
        kernel = ops.stop_gradient(kernel)
        own = tuple(ops.stop_gradient(weight) for weight in own)
        pre, post = ops.stop_gradient(arranged), None
        if self.compute_dtype == self.kernel.dtype:
            if rule.metric_is_identity:
                post = ops.stop_gradient(outputs)
        else:
            # Only the outputs have half precision.
            pre = ops.cast(pre, self.kernel.dtype)
            linear_map = self.map_of(pre)
        if post is None:
            post = rule.currents(pre, kernel, *own, linear_map=linear_map)
        if present is not None:
            linear_map = Masked(linear_map, present)
        factors = {} if modulator is None else {"modulator": modulator}
        change = rule.update(pre, kernel, *own, linear_map=linear_map, post=post, **factors)
        changes, otherwise = [change], [None]
        if own:
            updates = rule.own_updates(pre, post, kernel, *own, linear_map=linear_map, **factors)
            for weight, value, update in zip(self._own, own, updates, strict=True):
                changes.append(update if weight.trainable else _common(update))
                otherwise.append(None if weight.trainable else value)
        if present is not None:
            changes = masks.where_learned(linear_map, post, changes, otherwise)
        (change, *steps), alarm = self.alarm.let_through(changes, otherwise)
        self.add_loss(alarm)
        self._hand_over(self.kernel, change)
        for weight, step in zip(self._own, steps, strict=True):
            if weight.trainable:
                self._hand_over(weight, step)
            else:
                weight.assign(step)
        return [change, *steps]

    def _factor(self, modulator: Tensor, outputs: Tensor) -> Tensor:
        """Return the third factor in a shape that broadcasts against the outputs."""
        modulator = ops.cast(ops.stop_gradient(modulator), self.kernel.dtype)
        rank, missing = len(modulator.shape), len(outputs.shape) - len(modulator.shape)
        check.require(missing >= 0, "modulator", "of no higher rank than the outputs", rank)
        return ops.reshape(modulator, (*ops.shape(modulator), *(1,) * missing))

    def _hand_over(self, weight: keras.Variable, change: Tensor) -> None:
        """Pass a change to the optimizer; each replica adds its share."""
        share = self.local_rate / replica_count()
        self.add_loss(surrogate_loss(weight, change if share == 1.0 else change * share))

    def input_length(self, inputs: Any) -> float:
        """Return the mean length of the inputs of a unit: of rows, or of patches."""
        arranged = self.arrange(ops.convert_to_tensor(inputs, dtype=self.compute_dtype))
        squares = ops.sum(ops.square(arranged), axis=-1)
        return float(ops.mean(ops.sqrt(squares)))

    def currents(self, inputs: Any) -> Tensor:
        """Return the currents by which the units compete for the inputs."""
        arranged = self.arrange(ops.cast(inputs, self.kernel.dtype))
        own = [ops.convert_to_tensor(weight) for weight in self._own]
        kernel, linear_map = ops.convert_to_tensor(self.kernel), self.map_of(arranged)
        return self.plasticity.currents(arranged, kernel, *own, linear_map=linear_map)

    def pretraining_samples(self, features: Any) -> Any:
        """Return the inputs as an array that pretraining may shuffle and cut into batches."""
        return features

    def pretraining_form(self, rank: int, batch_size: int) -> keras.layers.Layer:
        """Return the layer that pretraining trains in place of this one; by default itself.

        Another form has to make the same steps, and to have a property `kernel` and a method
        `begin_with(kernel)`.

        Args:
            rank: Number of axes of the inputs.
            batch_size: Samples in every batch.
        """
        return self

    def take_over(self, form: Any) -> None:
        """Take the weights of the form that pretraining has trained."""
        if form is not self and form.built:
            self.kernel.assign(form.kernel)

    def hand_to(self, form: Any) -> None:
        """Give the form that pretraining trains the weights of this layer, loaded meanwhile."""
        if form is not self and form.built:
            form.begin_with(self.kernel)

    @property
    def own_weights(self) -> tuple[keras.Variable, ...]:
        """The weights that the rule holds in this layer, in the order of their declaration."""
        return tuple(self._own)

    @property
    def used_kernel(self) -> Tensor:
        """The kernel of the forward pass."""
        own = (ops.convert_to_tensor(weight) for weight in self._own)
        kernel = ops.convert_to_tensor(self.kernel)
        return self.plasticity.forward_kernel(kernel, *own, linear_map=self.linear_map)

    def error_kernels(self) -> list[ErrorKernel]:
        """Return none: the kernel learns from activity, not from errors."""
        return []

    @property
    def rule_weights(self) -> list[keras.Variable]:
        """Return the weights of the rule, which the plain layer does not have."""
        return list(self._own)

    def plain_form(self) -> PlainForm:
        """Return the layer `plain` without bias, with the kernel of the forward pass."""
        return self._plain(plain_twin(type(self)))

    @property
    def plain_sums_are_outputs(self) -> bool:
        """Return whether the outputs of the plain layer are the weighted sums of the inputs."""
        return True

    def plain_sums(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """Return the weighted sums from outputs and inputs of the plain layer."""
        return outputs

    def _plain(self, plain: type[keras.layers.Layer]) -> PlainForm:
        config, behind = plain_activation(self, self._plain_config(plain))
        if not (self.plain_sums_are_outputs and self.plasticity.has_linear_outputs):
            # Non-linear outputs of the rule come before the activation.
            config, behind = {**config, "activation": "linear"}, self._behind
        return PlainForm(plain, config, self._plain_weights(), self.arrange, behind)

    def _behind(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        own = (ops.convert_to_numpy(weight) for weight in self._own)
        sums = self.plain_sums(outputs, inputs)
        outputs = self.plasticity.plain_outputs(sums, *own, linear_map=self.linear_map)
        return outputs if self.activation is None else self._plain_activation(outputs)

    @property
    def _plain_activation(self) -> Any:
        return getattr(self.activation, "plain", self.activation)

    def _plain_config(self, plain: type[keras.layers.Layer]) -> dict[str, Any]:
        """Return the arguments without those for learning, because the weights are copied."""
        config = twin_config(self.get_config(), plain)
        del config["kernel_constraint"]
        return {**config, "kernel_initializer": "zeros", "use_bias": False}

    def _plain_weights(self) -> list[Any]:
        return [ops.convert_to_numpy(self.used_kernel)]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "plasticity": plasticity_rules.serialize(self.plasticity),
            "activation": activations.serialize(self.activation),
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "kernel_constraint": constraints.serialize(self.kernel_constraint),
            "local_rate": self.local_rate,
            "global_rate": self.global_rate,
        }


def lower(padding: Any) -> Any:
    """Return a string in lower case, as Keras expects it, and other objects unchanged."""
    return padding.lower() if isinstance(padding, str) else padding


def _common(value: Tensor) -> Tensor:
    """Return the mean over replicas of the values that the rule returns for a memory.

    If the rule has reduced its values already, they are the same on all replicas. Otherwise each
    replica would have another memory, which nobody would notice.
    """
    replicas = replica_count()
    return value if replicas == 1 else replica_sum(value) / replicas


class _RuleConstraint(keras.constraints.Constraint):
    """The constraint of a layer's rule, with the layout of the units and the rule's memory."""

    def __init__(self, layer: HebbianLayer) -> None:
        self.layer = layer

    def __call__(self, w: Tensor) -> Tensor:
        layer = self.layer
        own = (ops.convert_to_tensor(weight) for weight in layer._own)
        kernel = ops.convert_to_tensor(w)
        return layer.plasticity.constrain(kernel, *own, linear_map=layer.linear_map)
