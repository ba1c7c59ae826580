"""The interface of every layer whose errors return by a feedback rule."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Unpack

import keras
from keras import activations, constraints, initializers, ops, regularizers

from keras_local import _keras_objects as objects
from keras_local import _validation as check
from keras_local import feedback as feedback_rules
from keras_local._types import (
    Activation,
    ConstraintLike,
    DType,
    InitializerLike,
    RegularizerLike,
)
from keras_local.feedback import (
    FeedbackLike,
    FeedbackRule,
    RandomConnectivity,
    RuleContext,
    Symmetric,
)
from keras_local.feedback.random_connectivity import product_of, random_mask
from keras_local.layers.feedback.arguments import (
    connectivity_of,
    feedback_initializer_of,
    rule_for,
)
from keras_local.layers.feedback.idle import IdleFeedback, Idleness
from keras_local.layers.feedback.optimizer_warnings import (
    training_optimizer,
    warn_of_optimizer,
    warn_of_regularizer,
)
from keras_local.layers.feedback.unsupported import (
    StockArguments,
    dtype_policy,
    enable_lora,
    layer_arguments,
    quantize,
    refuse_in_a_loop,
    refuse_quantised,
)
from keras_local.layers.masks import spread
from keras_local.layers.own_losses import OwnLosses
from keras_local.layers.plain_form import (
    ErrorKernel,
    PlainForm,
    forward_values,
    plain_activation,
    plain_twin,
    twin_config,
)
from keras_local.ops import LinearMap, Once, gradient_loss, is_sparse, read
from keras_local.ops.backend import Tensor

Shape = tuple[int | None, ...]
_NOISE = "noise"


class FeedbackLayer(OwnLosses, keras.layers.Layer):
    """Interface of layers with a linear map, a bias, an activation and a feedback rule.

    A layer defines its map (`linear_map`), the shape of its kernel (`kernel_shape`), and the
    built-in layer that computes the same (`plain`). Everything else is in this class. A rule does
    not depend on the layer, nor a layer on the rule.
    """

    plain: ClassVar[type[keras.layers.Layer]]
    """The built-in layer of the same name, arguments and weights."""

    def __init__(
        self,
        activation: Activation = None,
        use_bias: bool = True,
        feedback: FeedbackLike = "kolen_pollack",
        feedback_initializer: InitializerLike = "glorot_uniform",
        kernel_initializer: InitializerLike | None = "glorot_uniform",
        bias_initializer: InitializerLike | None = "zeros",
        kernel_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        activity_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        connectivity: float | None = None,
        *,
        idle_feedback: IdleFeedback = "keep",
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[StockArguments],
    ) -> None:
        super().__init__(
            name=name, **layer_arguments(dtype, trainable, activity_regularizer, kwargs)
        )
        self.activation = objects.activation("activation", activation)
        self.use_bias = check.flag("use_bias", use_bias)
        self.feedback = feedback_rules.get(feedback)
        self.kernel_initializer = objects.initializer("kernel_initializer", kernel_initializer)
        self.bias_initializer = objects.initializer("bias_initializer", bias_initializer)
        self.kernel_regularizer = objects.regularizer("kernel_regularizer", kernel_regularizer)
        self.bias_regularizer = objects.regularizer("bias_regularizer", bias_regularizer)
        self.kernel_constraint = objects.constraint("kernel_constraint", kernel_constraint)
        self.bias_constraint = objects.constraint("bias_constraint", bias_constraint)
        self.feedback_initializer = feedback_initializer_of(feedback_initializer)
        self.connectivity = connectivity_of(connectivity)
        self.idle_feedback: IdleFeedback = check.one_of(
            "idle_feedback", idle_feedback, ("keep", "drop")
        )
        self._idleness = Idleness(self, self.idle_feedback)
        self._told = False
        warn_of_regularizer(self)

    @property
    def feedback(self) -> FeedbackRule:
        """The feedback rule, which can be set until the layer is built."""
        return self._feedback

    @feedback.setter
    def feedback(self, rule: FeedbackLike) -> None:
        self._feedback = rule_for(self, rule)

    def _layers_rule(self) -> FeedbackRule:
        """Return the rule in the form for this layer."""
        rule = self.feedback
        if self.connectivity is not None and rule.has_own_kernel:
            seed = self._derived_seed("feedback connectivity of")
            rule = RandomConnectivity(rule, self.connectivity, seed)
        own_terms = not (self.kernel_regularizer is None and self.kernel_constraint is None)
        return rule.adapt(kernel_has_own_terms=own_terms)

    @property
    def trainable(self) -> bool:
        """Whether the weights learn, except for a feedback kernel that no error uses."""
        return bool(keras.layers.Layer.trainable.fget(self))

    @trainable.setter
    def trainable(self, value: bool) -> None:
        keras.layers.Layer.trainable.fset(self, value)
        self._idleness.mark()

    @property
    def weights(self) -> list[keras.Variable]:
        """All weights. What of them learns depends also on the layers below (`idle_feedback`)."""
        self._idleness.refresh()
        return list(keras.layers.Layer.weights.fget(self))

    @property
    def variables(self) -> list[keras.Variable]:
        """All weights, and the states of random generators."""
        self._idleness.refresh()
        return list(keras.layers.Layer.variables.fget(self))

    dtype_policy = dtype_policy
    quantize = quantize
    enable_lora = enable_lora

    @property
    @abstractmethod
    def linear_map(self) -> LinearMap:
        """Return the linear map that uses the kernel."""

    @abstractmethod
    def kernel_shape(self, input_shape: Shape) -> tuple[int, ...]:
        """Return the kernel's shape for inputs of `input_shape`."""

    @abstractmethod
    def bias_shape(self) -> tuple[int, ...]:
        """Return the shape in which the bias is added to the outputs."""

    def bias_weight_shape(self) -> tuple[int, ...]:
        """Return the shape of the bias weight; by default one entry for each channel."""
        return (max(self.bias_shape()),)

    def build(self, input_shape: Shape) -> None:
        """Create kernel, bias and the weights that the rule declares."""
        refuse_quantised("dtype", self)
        self._rule = self._layers_rule()
        shape = self.kernel_shape(input_shape)
        # Each value is drawn once, for the weight and for all weights whose first values depend on
        # it. An initializer that reads a variable could not be called inside a compiled step.
        first = Once(self.kernel_initializer or initializers.GlorotUniform())
        self._kernel_mask = None
        if self.connectivity is not None:
            mask = Once(random_mask(self.connectivity, self._derived_seed("connectivity of")))
            self._kernel_mask = self.add_weight(
                name="kernel_mask", shape=shape, initializer=mask, trainable=False
            )
            first = Once(product_of(first, mask))
        self._kernel = self.add_weight(
            name="kernel",
            shape=shape,
            initializer=first,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=self.bias_weight_shape(),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self._feedback_weights = [
            self.add_weight(
                name=weight.name,
                shape=weight.shape,
                initializer=weight.first_values(first),
                trainable=weight.trainable,
                dtype=weight.dtype,
                # A value that a rule assigns is the mean over the replicas of `tf.distribute`;
                # otherwise each replica would keep another value.
                aggregation="mean",
            )
            for weight in self._rule.weights(self.kernel, self._seeded_initializer())
        ]
        self._idleness.govern(self._rule, self._feedback_weights)
        if self._rule.draws:
            self._seed = keras.random.SeedGenerator(self._derived_seed("noise of"))
        self.built = True

    def save_own_variables(self, store: Any) -> None:
        """Save the weights, and the state of the rule's noise, which Keras does not save."""
        super().save_own_variables(store)
        if self.built and self._rule.draws:
            store[_NOISE] = ops.convert_to_numpy(self._seed.state)

    def load_own_variables(self, store: Any) -> None:
        """Load the weights and the state of the noise, so that training continues identically."""
        kept = {key: store[key] for key in store.keys()}
        noise = kept.pop(_NOISE, None)
        if len(kept) > len(self.weights) and not self.feedback.has_own_kernel:
            # Older files contain a mask here, although there are no feedback synapses.
            kept.pop(str(len(self.weights)))
        super().load_own_variables(kept)
        if noise is not None and self.built and self._rule.draws:
            self._seed.state.assign(noise)

    def _seeded_initializer(self) -> Any:
        """Return the feedback initializer; without a seed it gets one from the kernel's seed."""
        if not isinstance(self.feedback_initializer, initializers.Initializer):
            return self.feedback_initializer
        config = self.feedback_initializer.get_config()
        seed = self._derived_seed("feedback of")
        if config.get("seed", seed) is not None or seed is None:
            return self.feedback_initializer
        return type(self.feedback_initializer).from_config({**config, "seed": seed})

    def _derived_seed(self, purpose: str) -> int | None:
        """Return a seed derived from the kernel's seed, or None if the kernel has none."""
        seed = getattr(self.kernel_initializer, "seed", None)
        if not isinstance(seed, int):
            return None
        return random.Random(f"{purpose} {seed}").randrange(1, 10**9)

    def call(
        self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Return `activation(M(inputs, kernel) + bias)`.

        A rule that learns from activity learns nothing from samples that `mask` leaves out.
        """
        self._idleness.refresh()
        self._warn_once(training)
        if training and self.trainable:
            refuse_in_a_loop(self, self._rule)
        if is_sparse(inputs):
            inputs = self._of_sparse(inputs)
        elif training and self.trainable:
            inputs = self._idleness.guarded(inputs)
        synapses = self._synapses()
        if mask is not None and self.supports_masking and self._rule.learns_from_activity:
            synapses = replace(synapses, present=spread(mask, inputs))
        outputs = self._rule.connect(synapses, inputs, training and self.trainable)
        return synapses.respond(outputs)

    def _warn_once(self, training: bool | None) -> None:
        """Warn of an optimizer that does not suit the rule, in the first training step."""
        if training and not self._told and (optimizer := training_optimizer()) is not None:
            self._told = True
            warn_of_optimizer(self, optimizer)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> keras.KerasTensor:
        """Return the outputs as a symbolic tensor, or refuse unsupported inputs."""
        inputs = args[0] if args else kwargs["inputs"]
        if getattr(inputs, "sparse", False):
            self._refuse_sparse()
        self._idleness.meet(inputs)
        return super().compute_output_spec(*args, **kwargs)

    def _refuse_sparse(self) -> None:
        allowed = f"dense for {self.name!r}: a {type(self).__name__} takes no sparse tensor"
        check.require(self.linear_map.takes_sparse, "inputs", allowed, "a sparse tensor")

    def _of_sparse(self, inputs: Tensor) -> Tensor:
        """Return sparse inputs in the form that the map and the rule support."""
        self._refuse_sparse()
        if self._rule.learns_from_activity:
            return ops.convert_to_tensor(inputs, sparse=False)
        return inputs

    def passes_errors_to(self, inputs: list[Any]) -> list[Any]:
        """Return the inputs to which errors are sent down; none if the rule sends none."""
        return inputs if self.feedback.sends_errors else []

    def _synapses(self) -> RuleContext:
        kernel = read(self.kernel)
        if self._kernel_mask is not None:
            kernel = kernel * read(self._kernel_mask)
        feedback = tuple(read(weight) for weight in self._feedback_weights)
        return RuleContext(
            linear_map=self.linear_map,
            kernel=kernel,
            feedback=feedback,
            variables=tuple(self._feedback_weights),
            respond=partial(self._respond, None if self.bias is None else read(self.bias)),
            draw_kernel=self._draw if self._rule.draws else None,
            seed=self._seed if self._rule.draws else None,
            learn=partial(self._learn, (kernel, *feedback)),
        )

    def _respond(self, bias: Tensor | None, outputs: Tensor) -> Tensor:
        if bias is not None:
            outputs = ops.add(outputs, ops.reshape(bias, self.bias_shape()))
        # As in the built-in layers, the activation can be set to None later.
        return activations.get(self.activation)(outputs)

    def _draw(self) -> Tensor:
        """Draw a kernel from the feedback initializer, a new one at each call."""
        initializer = check.instance(
            "feedback_initializer", self.feedback_initializer, initializers.Initializer
        )
        config = initializer.get_config()
        if "seed" in config:
            initializer = type(initializer)(**{**config, "seed": self._seed})
        return initializer(tuple(self.kernel.shape), dtype=self.compute_dtype)

    def _learn(self, weights: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]) -> None:
        """Pass gradients to the optimizer."""
        still = [False, *map(self._idleness.stands_still, self._feedback_weights)]
        for weight, gradient, stands in zip(weights, gradients, still, strict=True):
            if gradient is not None and not stands:
                self.add_loss(gradient_loss(weight, gradient))

    @property
    def kernel(self) -> keras.Variable:
        """The forward weights."""
        return self._kernel

    @property
    def used_kernel(self) -> Tensor:
        """The kernel in the map, where synapses that do not exist are 0 (`connectivity`)."""
        return self._synapses().kernel

    @property
    def feedback_kernel(self) -> Tensor | None:
        """The kernel that carries errors back, or None if it is `kernel` itself."""
        if not self._rule.has_own_kernel:
            return None
        synapses = self._synapses()
        signals = self._rule.signals(synapses, training=False)
        return self._rule.error_kernel(synapses.kernel, *signals)

    def assign_feedback_kernel(self, value: Any) -> None:
        """Set the kernel that carries errors back.

        Args:
            value: Array of the kernel's shape.

        Raises:
            ValueError: If the shape differs from the kernel's, or the rule has no feedback kernel.
        """
        # A copy, because two variables in one buffer cannot both be donated to a JAX step.
        value = ops.copy(ops.convert_to_tensor(value, dtype=self.kernel.dtype))
        if tuple(value.shape) != tuple(self.kernel.shape):
            raise ValueError(
                f"`value` must have the kernel's shape {tuple(self.kernel.shape)}. "
                f"Received: shape {tuple(value.shape)}"
            )
        values = self._rule.assignment(ops.convert_to_tensor(self.kernel), value)
        for weight, new in zip(self._feedback_weights, values, strict=True):
            weight.assign(new)

    def error_kernels(self) -> list[ErrorKernel]:
        """Return the kernel and the kernel that carries errors back."""
        return [ErrorKernel("", self.kernel, self.feedback_kernel)]

    def plain_form(self) -> PlainForm:
        """Return the layer `plain` with the arguments that it has, the kernel and the bias."""
        plain = plain_twin(type(self))
        config, behind = plain_activation(self, twin_config(self.get_config(), plain))
        return PlainForm(plain, config, forward_values(self), behind=behind)

    @property
    def rule_weights(self) -> list[keras.Variable]:
        """Return the weights that the plain layer lacks: the rule's and the masks of synapses."""
        self._idleness.refresh()
        masks = [] if self._kernel_mask is None else [self._kernel_mask]
        return [*self._feedback_weights, *masks]

    @property
    def rule_states(self) -> list[keras.Variable]:
        """Return the states of the random generators that the rule uses."""
        return [self._seed.state] if self._rule.draws else []

    @property
    def idle_weights(self) -> list[keras.Variable]:
        """Return the rule's weights that do not learn since no error uses them."""
        self._idleness.refresh()
        return [each for each in self._feedback_weights if self._idleness.stands_still(each)]

    def restart(self, like: Any = None) -> None:
        """Compute the first values of the rule's weights again, from the present kernel.

        They may depend on the kernel, like the constant difference of Kolen-Pollack.

        Args:
            like: None, or a layer of the same form. If it has the same `connectivity`, the same
                forward synapses exist in both.
        """
        mask = self._kernel_mask
        if mask is not None:
            if like is not None and getattr(like, "connectivity", None) == self.connectivity:
                mask.assign(ops.convert_to_numpy(like._kernel_mask))
            self.kernel.assign(self.kernel * mask)

        def kernel(shape: tuple[int, ...], dtype: Any = None) -> Tensor:
            return ops.convert_to_tensor(self.kernel, dtype=dtype)

        declared = self._rule.weights(self.kernel, self._seeded_initializer())
        for weight, start in zip(self._feedback_weights, declared, strict=True):
            initializer = initializers.get(start.first_values(kernel))
            weight.assign(initializer(tuple(weight.shape), dtype=weight.dtype))

    @contextmanager
    def errors_by(self, change: Callable[[FeedbackRule], FeedbackRule]) -> Iterator[None]:
        """Let errors return by another rule with the same weights, for measurements.

        Args:
            change: Function from the present rule to the rule that acts within the context.
        """
        rule = self._rule
        self._rule = change(rule)
        try:
            yield
        finally:
            self._rule = rule

    def exact_errors(self) -> AbstractContextManager[None]:
        """Let errors return through the kernel, as in backpropagation, for measurements."""
        return self.errors_by(lambda rule: Symmetric())

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config: dict[str, Any] = super().get_config()
        config.update(
            activation=activations.serialize(activations.get(self.activation)),
            use_bias=self.use_bias,
            feedback=feedback_rules.serialize(self.feedback),
            feedback_initializer=initializers.serialize(self.feedback_initializer),
            kernel_initializer=initializers.serialize(self.kernel_initializer),
            bias_initializer=initializers.serialize(self.bias_initializer),
            kernel_regularizer=regularizers.serialize(self.kernel_regularizer),
            bias_regularizer=regularizers.serialize(self.bias_regularizer),
            activity_regularizer=regularizers.serialize(self.activity_regularizer),
            kernel_constraint=constraints.serialize(self.kernel_constraint),
            bias_constraint=constraints.serialize(self.bias_constraint),
        )
        # The built-in layers leave out these entries, too.
        if self.connectivity is not None:
            config["connectivity"] = self.connectivity
        if self.idle_feedback != "keep":
            config["idle_feedback"] = self.idle_feedback
        return config
