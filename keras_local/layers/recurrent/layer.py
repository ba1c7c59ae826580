"""The interface of recurrent layers whose errors return by feedback rules."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import keras
from keras import activations, initializers, ops

from keras_local import _validation as check
from keras_local import feedback as feedback_rules
from keras_local.feedback import FeedbackLike, FeedbackRule, RuleContext
from keras_local.layers.feedback.arguments import (
    connectivity_of,
    feedback_initializer_of,
    rule_for,
)
from keras_local.layers.feedback.unsupported import (
    enable_lora,
    layer_arguments,
    quantize,
    refuse_quantised,
)
from keras_local.layers.plain_form import (
    ErrorKernel,
    PlainForm,
    forward_values,
    plain_twin,
    twin_config,
)
from keras_local.layers.recurrent.arguments import (
    OF_LAYER,
    RULES,
    checked,
    config_of_rules,
    recurrent_initializer_of,
)
from keras_local.layers.recurrent.kernel import KernelWithRule
from keras_local.layers.recurrent.stock import Untracked, of_stock
from keras_local.layers.recurrent.time_rules import NAMES, recurrent_rule
from keras_local.ops import Columns, Joined, Recurrence, abilities, read, recurrence
from keras_local.ops.backend import Tensor
from keras_local.ops.recurrence import Project as Project
from keras_local.ops.recurrence_in_steps import recurrence_in_steps

Shape = tuple[int | None, ...]


class FeedbackRecurrent(keras.layers.Layer):
    """Interface of a recurrent layer with a feedback rule for each of its two kernels.

    A subclass defines one step of its cell (`step`), from the fields of the inputs and the messages
    that it sends through the recurrent kernel. This class has the weights, rules, loop, masks,
    states and dropout. Arguments, shapes and states are those of a built-in layer, which this layer
    holds. The built-in layer is called only if both rules are plain: then both compute the same.

    Args:
        own: Arguments that only this subclass has, after their checks.
        **arguments: The arguments of every recurrent layer, as the user gave them.
    """

    stock_class: ClassVar[type[keras.layers.Layer]]
    """A built-in layer of the same arguments, shapes and states."""

    gates: ClassVar[int] = 1
    """How many columns of a kernel a unit has."""

    additive: ClassVar[bool] = True
    """Whether the cell only uses the sum of the fields of inputs and messages."""

    def __init__(self, own: Mapping[str, Any], **arguments: Any) -> None:
        given = dict(arguments)
        rules = {name: given.pop(name) for name in RULES}
        of_layer = {name: given.pop(name) for name in OF_LAYER}
        stock, others = checked(given)
        super().__init__(
            name=of_layer["name"],
            **layer_arguments(
                of_layer["dtype"], of_layer["trainable"], of_layer["activity_regularizer"], others
            ),
        )
        self.input_spec = keras.layers.InputSpec(ndim=3)
        self.supports_masking = True
        self._held = Untracked(
            self.stock_class(
                **stock, **own, name=self.name, dtype=self.dtype_policy, trainable=self.trainable
            )
        )
        # Keras has to track the generator of the dropout masks.
        self.seed_generator = self.stock.cell.seed_generator
        self._feedback = feedback_rules.get(rules["feedback"])
        self.time_rule: str = check.one_of("time_rule", rules["time_rule"], NAMES)
        self._given_recurrent = rules["recurrent_feedback"]
        self._recurrent_feedback = recurrent_rule(
            self.time_rule, self._feedback, self._given_recurrent
        )
        self.feedback_initializer = feedback_initializer_of(rules["feedback_initializer"])
        self.recurrent_feedback_initializer = recurrent_initializer_of(
            rules["recurrent_feedback_initializer"]
        )
        self.connectivity = connectivity_of(rules["connectivity"])
        self._support_compilation()

    @property
    def stock(self) -> Any:
        """The built-in layer that is held; its weights are those of this layer."""
        return self._held.layer

    units = of_stock("units")
    activation = of_stock("activation")
    use_bias = of_stock("use_bias")
    kernel_initializer = of_stock("kernel_initializer")
    recurrent_initializer = of_stock("recurrent_initializer")
    bias_initializer = of_stock("bias_initializer")
    kernel_regularizer = of_stock("kernel_regularizer")
    recurrent_regularizer = of_stock("recurrent_regularizer")
    bias_regularizer = of_stock("bias_regularizer")
    kernel_constraint = of_stock("kernel_constraint")
    recurrent_constraint = of_stock("recurrent_constraint")
    bias_constraint = of_stock("bias_constraint")
    dropout = of_stock("dropout")
    recurrent_dropout = of_stock("recurrent_dropout")
    state_size = of_stock("state_size")
    states = of_stock("states")
    return_sequences = of_stock("return_sequences", True)
    return_state = of_stock("return_state", True)
    go_backwards = of_stock("go_backwards", True)
    stateful = of_stock("stateful", True)
    unroll = of_stock("unroll", True)
    zero_output_for_mask = of_stock("zero_output_for_mask", True)

    quantize = quantize
    enable_lora = enable_lora

    @property
    def feedback(self) -> FeedbackRule:
        """The rule of the inputs' kernel. It can be set until the layer is built."""
        return self._feedback

    @feedback.setter
    def feedback(self, rule: FeedbackLike) -> None:
        self._feedback = rule_for(self, rule)
        self._recurrent_feedback = recurrent_rule(
            self.time_rule, self._feedback, self._given_recurrent
        )
        self._support_compilation()

    @property
    def recurrent_feedback(self) -> FeedbackRule:
        """The rule by which errors return in time; it follows from `time_rule`."""
        return self._recurrent_feedback

    def _support_compilation(self) -> None:
        """Set `supports_jit`: True, or the value of the built-in layer if that one is called."""
        rules = (self._feedback, self._recurrent_feedback)
        plain = all(rule.sends_errors and not rule.has_own_kernel for rule in rules)
        self.supports_jit = self.stock.supports_jit if plain else True

    # --- Weights ----------------------------------------------------------------------------------

    def build(self, sequences_shape: Shape, initial_state_shape: Any = None) -> None:
        """Create both kernels, the bias, the weights of the rules, and the kept states."""
        refuse_quantised("dtype", self)
        size = sequences_shape[-1]
        check.require(size is not None, "inputs", "of a known size of the last axis", size)
        self.inputs_part = self._part(
            "inputs", None, self.kernel_arguments("kernel", self.feedback)
        )
        self.recurrent_part = self._part(
            "recurrent",
            self.bias_shape() if self.use_bias else None,
            {
                **self.kernel_arguments("recurrent", self.recurrent_feedback),
                "bias_initializer": self.first_bias(),
                "bias_regularizer": self.bias_regularizer,
                "bias_constraint": self.bias_constraint,
            },
        )
        self.inputs_part.build((None, size))
        self.recurrent_part.build((None, self.units))
        cell = self.stock.cell
        cell.dtype_policy = self.stock.dtype_policy = self.dtype_policy
        cell.kernel, cell.recurrent_kernel, cell.bias = (
            self.kernel,
            self.recurrent_kernel,
            self.bias,
        )
        cell.built = True
        self.stock.build(sequences_shape)
        self.stock.built = True
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: size})
        self.built = True

    def _part(self, name: str, bias_shape: Any, arguments: dict[str, Any]) -> KernelWithRule:
        row = 0 if name == "inputs" else -1
        return KernelWithRule(
            self.gates * self.units,
            bias_shape,
            lambda fields: self._answer(row, fields),
            name=f"{self.name}_{name}",
            dtype=self.dtype_policy,
            trainable=self.trainable,
            connectivity=self.connectivity,
            **arguments,
        )

    def kernel_arguments(self, name: str, rule: FeedbackRule) -> dict[str, Any]:
        """Return what a kernel needs, under the names of `FeedbackLayer`."""
        below = name == "kernel"
        return {
            "feedback": rule,
            "feedback_initializer": self.feedback_initializer if below else self._recurrent_first(),
            "kernel_initializer": getattr(self, f"{name}_initializer"),
            "kernel_regularizer": getattr(self, f"{name}_regularizer"),
            "kernel_constraint": getattr(self, f"{name}_constraint"),
        }

    def _recurrent_first(self) -> Any:
        """Return the initializer of the recurrent feedback kernel; by default the kernel's own."""
        if self.recurrent_feedback_initializer is not None:
            return self.recurrent_feedback_initializer
        first = self.recurrent_initializer
        if not isinstance(first, initializers.Initializer):
            return "glorot_uniform" if first is None else first
        config = first.get_config()
        if "seed" not in config:
            return first
        state = random.getstate()
        try:
            # The seed follows from that of the kernel, but is never the same.
            return type(first).from_config({**config, "seed": None})
        finally:
            random.setstate(state)

    def bias_shape(self) -> tuple[int, ...]:
        """Return the shape of the bias."""
        return (self.gates * self.units,)

    def first_bias(self) -> Any:
        """Return the initializer of the bias."""
        return self.bias_initializer

    @property
    def kernel(self) -> keras.Variable:
        """The forward weights of the inputs, all gates side by side."""
        return self.inputs_part.kernel

    @property
    def recurrent_kernel(self) -> keras.Variable:
        """The forward weights between the units."""
        return self.recurrent_part.kernel

    @property
    def bias(self) -> keras.Variable | None:
        """The bias, or None."""
        return self.recurrent_part.bias

    @property
    def feedback_kernel(self) -> Tensor | None:
        """The kernel that carries errors down to the inputs; None if it is `kernel` itself."""
        return self.inputs_part.feedback_kernel

    @property
    def recurrent_feedback_kernel(self) -> Tensor | None:
        """The kernel that carries errors back in time; None if it is the forward one, or none."""
        return self.recurrent_part.feedback_kernel

    # --- The call ---------------------------------------------------------------------------------

    def step(self, fields: Tensor, states: Any, project: Project) -> tuple[Tensor, ...]:
        """Return the next states of the cell, the message first.

        Args:
            fields: What arrives from the inputs, with bias, `(batch, gates * units)`.
            states: The states before, `(batch, units)` each.
            project: `project(number, message)` is the field that a message gives; with the fields
                as third argument, the sum of both.
        """
        raise NotImplementedError

    def answers(self) -> list[Any]:
        """Return the function of each gate, in the order of the columns."""
        raise NotImplementedError

    def message_columns(self) -> list[tuple[int, int | None]]:
        """Return first and last column of the recurrent kernel for each message of a step."""
        return [(0, None)]

    def biases(self) -> tuple[Tensor | None, Tensor | None]:
        """Return the bias of the inputs' fields, and that of the messages'."""
        return (None if self.bias is None else read(self.bias)), None

    def _answer(self, row: int, fields: Tensor) -> Tensor:
        bias = self.biases()[row]
        if bias is None:
            bias = self.biases()[0]
        fields = fields if bias is None else fields + bias
        parts = ops.split(fields, self.gates, axis=-1)
        pairs = zip(self.answers(), parts, strict=True)
        return ops.concatenate([function(part) for function, part in pairs], axis=-1)

    def call(
        self,
        sequences: Tensor,
        initial_state: Any = None,
        mask: Any = None,
        training: bool | None = False,
    ) -> Any:
        """Return the outputs, and the states if asked for, as the built-in layer does."""
        for part in (self.inputs_part, self.recurrent_part):
            part.warn_once(training)
        if self._is_stock():
            return self.stock.call(
                sequences, initial_state=initial_state, mask=mask, training=training
            )
        allowed = "False for sequences of unknown length"
        check.require(not self.unroll or sequences.shape[1] is not None, "unroll", allowed, True)
        states = self._first_states(sequences, initial_state)
        if isinstance(mask, (list, tuple)):
            mask = mask[0]
        masks = self._dropout_masks(sequences, states, training)
        sequences = ops.transpose(sequences, (1, 0, 2))
        if mask is not None:
            mask = ops.transpose(ops.cast(mask, "bool"), (1, 0))[..., None]
        if self.go_backwards:
            sequences = ops.flip(sequences, axis=0)
            mask = None if mask is None else ops.flip(mask, axis=0)
        found = self._run(sequences, states, mask, masks, training)
        if self.stateful:
            for kept, state in zip(keras.tree.flatten(self.states), found.states, strict=True):
                kept.assign(state)
        given = initial_state is not None or self.stateful
        output = self._output(found, mask, given)
        return (output, *found.states) if self.return_state else output

    def _is_stock(self) -> bool:
        """Tell whether the built-in layer computes and learns the same."""
        return bool(self.inputs_part.is_plain and self.recurrent_part.is_plain)

    def _first_states(self, sequences: Tensor, initial_state: Any) -> tuple[Tensor, ...]:
        if initial_state is None and self.stateful:
            expected, batch = self.stock._expected_batch_size, sequences.shape[0]
            allowed = f"of batches of {expected}, as the states of a stateful layer are"
            fits = None in (expected, batch) or batch == expected
            check.require(fits, "inputs", allowed, batch)
            # Copies: the states are written before the backward pass has read them.
            initial_state = [ops.copy(read(state)) for state in self.states]
        if initial_state is None:
            initial_state = self.get_initial_state(ops.shape(sequences)[0])
        if not isinstance(initial_state, (list, tuple)):
            initial_state = [initial_state]
        return tuple(ops.cast(state, self.compute_dtype) for state in initial_state)

    def _dropout_masks(
        self, sequences: Tensor, states: Any, training: bool | None
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the masks of inputs and messages; drawn as the built-in layer draws them."""
        cell = self.stock.cell
        drawn = (
            cell.get_dropout_mask(sequences[:, 0, :]),
            cell.get_recurrent_dropout_mask(states[0]),
        )
        cell.reset_dropout_mask()
        cell.reset_recurrent_dropout_mask()
        rates = (self.dropout, self.recurrent_dropout)
        inputs, messages = (
            () if masks is None or not training or not 0.0 < rate < 1.0 else _as_tuple(masks)
            for masks, rate in zip(drawn, rates, strict=True)
        )
        return inputs, messages

    def _run(
        self, sequences: Tensor, states: Any, mask: Any, masks: Any, training: bool | None
    ) -> Recurrence:
        """Run the layer on sequences whose first axis is time, and let the rules learn."""
        below, across = self.inputs_part, self.recurrent_part
        contexts = below.context(), across.context()
        bias, recurrent_bias = self.biases()
        whole = below.rule.has_local_terms or across.rule.has_local_terms
        if abilities.OVERLAPS_STEPS and not self.unroll and not whole:
            down = below.synapses(contexts[0], (Columns(masks=masks[0]),), bias, training)
            back = across.synapses(contexts[1], self._maps(masks[1]), recurrent_bias, training)
            more = (sequences, states, mask, self.additive)
            return recurrence_in_steps(self.step, down, back, *more)
        fields = below.transmit(contexts[0], sequences, masks[0], training)
        if bias is not None:
            fields = ops.add(fields, bias)
        training_here = training and self.trainable
        found = recurrence(
            self.step,
            self._maps(masks[1]),
            across.rule,
            fields,
            states,
            contexts[1].kernel,
            across.rule.signals(contexts[1], training_here),
            mask=mask,
            bias=recurrent_bias,
            additive=self.additive,
            unroll=self.unroll,
        )
        if training_here:
            self._learn_locally(contexts, sequences, found, mask)
        return found

    def _maps(self, masks: tuple[Tensor, ...]) -> tuple[Columns, ...]:
        """Return the map of each message; one mask serves all gates, or each has its own."""
        found = []
        for first, last in self.message_columns():
            gates = slice(first // self.units, None if last is None else last // self.units)
            found.append(Columns(first, last, masks if len(masks) == 1 else masks[gates]))
        return tuple(found)

    def _learn_locally(
        self, contexts: tuple[RuleContext, RuleContext], sequences: Tensor, found: Any, mask: Any
    ) -> None:
        """Let rules with local terms learn from all steps at once, behind the loop."""
        below, across = self.inputs_part, self.recurrent_part
        if below.rule.has_local_terms:
            below.learn_locally(contexts[0], sequences, None, mask)
        if across.rule.has_local_terms:
            context, maps = contexts[1], self._maps(())
            if len(maps) > 1:
                context = replace(context, linear_map=Joined(maps))
            across.learn_locally(context, found.messages, None, mask)

    def _output(self, found: Recurrence, mask: Any, given: bool) -> Tensor:
        """Return the outputs in Keras' order of axes; under a mask the last one, or zero."""
        outputs = found.outputs
        if mask is not None and self.zero_output_for_mask:
            outputs = ops.where(mask, outputs, ops.zeros_like(outputs))
        elif mask is not None and given:
            # Before the first step that counts there is no output yet, whatever the state.
            seen = ops.cumsum(ops.cast(mask, "int32"), axis=0) > 0
            outputs = ops.where(seen, outputs, ops.zeros_like(outputs))
        outputs = ops.cast(outputs, self.compute_dtype)
        return ops.transpose(outputs, (1, 0, 2)) if self.return_sequences else outputs[-1]

    # --- Methods that Keras calls -----------------------------------------------------------------

    def get_initial_state(self, batch_size: Any = None) -> list[Tensor]:
        """Return states of zeros."""
        found: list[Tensor] = self.stock.get_initial_state(batch_size=batch_size)
        return found

    def reset_state(self) -> None:
        """Set the states of a stateful layer to zero."""
        self.stock.reset_state()

    reset_states = reset_state

    def compute_output_shape(self, sequences_shape: Shape, initial_state_shape: Any = None) -> Any:
        """As in the built-in layer."""
        return self.stock.compute_output_shape(sequences_shape)

    def compute_mask(self, inputs: Any, mask: Any) -> Any:
        """As in the built-in layer."""
        return self.stock.compute_mask(inputs, mask)

    def passes_errors_to(self, inputs: list[Any]) -> list[Any]:
        """Return those of the inputs to which errors are sent down; states always get theirs."""
        return inputs if self.feedback.sends_errors else inputs[1:]

    def error_kernels(self) -> list[ErrorKernel]:
        """Return those of the inputs and of the messages."""
        parts = {"inputs": self.inputs_part, "recurrent": self.recurrent_part}
        return [part.error_kernels()[0]._replace(name=name) for name, part in parts.items()]

    def plain_form(self) -> PlainForm:
        """Return the built-in layer with the arguments that it knows, both kernels and the bias."""
        plain = plain_twin(type(self))
        own = [each for each in self.answers() if callable(getattr(each, "plain", None))]
        if own:
            # Inside a recurrence, no operation can follow the activation of the built-in layer.
            raise NotImplementedError(f"{type(own[0]).__name__} inside of {type(self).__name__}")
        config = twin_config(self.get_config(), plain)
        return PlainForm(plain, config, forward_values(self))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config: dict[str, Any] = {**self.stock.get_config(), **super().get_config()}
        regularizer = keras.regularizers.serialize(self.activity_regularizer)
        config.update(
            activity_regularizer=regularizer,
            activation=activations.serialize(self.activation),
            **config_of_rules(
                self, None if self._given_recurrent is None else self.recurrent_feedback
            ),
        )
        return config


def _as_tuple(masks: Any) -> tuple[Tensor, ...]:
    return tuple(masks) if isinstance(masks, (list, tuple)) else (masks,)
