"""A recurrent layer over built-in cells, whose errors return by a feedback rule."""

from __future__ import annotations

import random
from typing import Any, Unpack

import keras
from keras import ops

from keras_local import _validation as check
from keras_local import feedback as feedback_rules
from keras_local._serialization import copied, serializable
from keras_local._types import DType, InitializerLike, RegularizerLike
from keras_local.feedback import FeedbackLike, FeedbackRule
from keras_local.layers.feedback.arguments import (
    connectivity_of,
    feedback_initializer_of,
    rule_for,
)
from keras_local.layers.feedback.unsupported import (
    StockArguments,
    enable_lora,
    layer_arguments,
    quantize,
)
from keras_local.layers.plain_form import (
    ErrorKernel,
    PlainForm,
    forward_values,
    plain_twin,
    twin_config,
)
from keras_local.layers.recurrent.arguments import config_of_rules, recurrent_initializer_of
from keras_local.layers.recurrent.gru import FeedbackGRU
from keras_local.layers.recurrent.layer import FeedbackRecurrent
from keras_local.layers.recurrent.lstm import FeedbackLSTM
from keras_local.layers.recurrent.simple import FeedbackSimpleRNN
from keras_local.layers.recurrent.stock import Untracked
from keras_local.layers.recurrent.time_rules import NAMES, TimeRule
from keras_local.ops.backend import Tensor

_KINDS: dict[type, type[FeedbackRecurrent]] = {
    keras.layers.GRUCell: FeedbackGRU,
    keras.layers.LSTMCell: FeedbackLSTM,
    keras.layers.SimpleRNNCell: FeedbackSimpleRNN,
}
_SHARED = ("go_backwards", "stateful", "unroll")


@serializable
class FeedbackRNN(keras.layers.Layer):
    """Recurrent layer over one built-in cell or several, with feedback rules.

    It computes what `keras.layers.RNN` of the same cells does. Each cell becomes the recurrent
    layer of its name, `FeedbackSimpleRNN`, `FeedbackLSTM` or `FeedbackGRU`, with weights and
    feedback weights of its own; stacked cells become such layers on top of each other, which is the
    same since no cell hears of a higher one. A cell of your own has no feedback form: use
    `FeedbackDense` inside of it, with a rule that learns from errors alone.

    Args:
        cell: A `keras.layers.SimpleRNNCell`, `LSTMCell` or `GRUCell`, a list of them, or a
            `StackedRNNCells`. Their weights are not taken over.
        return_sequences: Whether the outputs of all steps are returned, or the last one.
        return_state: Whether the last states are returned behind the outputs.
        go_backwards: Whether the steps are taken from the last one; the outputs come in that order.
        stateful: Whether a batch begins with the states in which the one before has ended. The
            batch size has to be fixed.
        unroll: Whether the steps are written out, in place of a loop.
        zero_output_for_mask: Whether the outputs of masked steps are zero, or repeat the last one.
        feedback: A `keras_local.feedback` rule or its alias, for all cells.
        feedback_initializer: Initializer of the feedback kernels of the inputs.
        recurrent_feedback: The rule for errors that return in time; None for a copy of `feedback`.
        recurrent_feedback_initializer: Initializer of the recurrent feedback kernels; None for that
            of each cell's recurrent kernel.
        time_rule: How credit returns in time, as in `FeedbackLSTM`.
        activity_regularizer: Regularizer of the outputs.
        connectivity: Probability with which each forward and each feedback synapse exists; None for
            all.
        name: Name of the layer.
        dtype: Precision, or a Keras dtype policy.
        trainable: Whether the weights learn.
        **kwargs: The other arguments of every Keras layer.

    Input shape: `(batch, time, n)`. Output shape: `(batch, units)` of the last cell, or `(batch,
    time, units)` with `return_sequences`; behind it all states with `return_state`.

    Raises:
        ValueError: For another cell, or a wrong argument; the message names it.

    >>> import keras, numpy as np, keras_local as kl
    >>> cells = [keras.layers.GRUCell(3), keras.layers.LSTMCell(2)]
    >>> layer = kl.layers.FeedbackRNN(cells, feedback="feedback_alignment")
    >>> tuple(layer(np.ones((2, 5, 4), "float32")).shape)
    (2, 2)
    """

    plain = keras.layers.RNN

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        feedback: FeedbackLike = "kolen_pollack",
        feedback_initializer: InitializerLike = "glorot_uniform",
        *,
        recurrent_feedback: FeedbackLike | None = None,
        recurrent_feedback_initializer: InitializerLike | None = None,
        time_rule: TimeRule = "bptt",
        activity_regularizer: RegularizerLike = None,
        connectivity: float | None = None,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[StockArguments],
    ) -> None:
        super().__init__(
            name=name, **layer_arguments(dtype, trainable, activity_regularizer, kwargs)
        )
        self._several, self._cells = _cells_of(cell)
        self.return_sequences = check.flag("return_sequences", return_sequences)
        self.return_state = check.flag("return_state", return_state)
        self.go_backwards = check.flag("go_backwards", go_backwards)
        self.stateful = check.flag("stateful", stateful)
        self.unroll = check.flag("unroll", unroll)
        self.zero_output_for_mask = check.flag("zero_output_for_mask", zero_output_for_mask)
        self._feedback = feedback_rules.get(feedback)
        self.time_rule: str = check.one_of("time_rule", time_rule, NAMES)
        rule = recurrent_feedback
        self.recurrent_feedback = (
            None if rule is None else feedback_rules.get(rule, "recurrent_feedback")
        )
        self.feedback_initializer = feedback_initializer_of(feedback_initializer)
        self.recurrent_feedback_initializer = recurrent_initializer_of(
            recurrent_feedback_initializer
        )
        self.connectivity = connectivity_of(connectivity)
        self.input_spec = None
        self.supports_masking = True
        self._make_parts()

    quantize = quantize
    enable_lora = enable_lora

    def _make_parts(self) -> None:
        """Make the layer of each cell, without draws from the global stream of seeds."""
        state = random.getstate()
        try:
            self.parts = [self._part(place) for place in range(len(self._cells))]
        finally:
            random.setstate(state)
        self.supports_jit = all(part.supports_jit for part in self.parts)

    def _part(self, place: int) -> FeedbackRecurrent:
        cell, top = self._cells[place].layer, place == len(self._cells) - 1
        kind = _KINDS[type(cell)]
        arguments = cell.get_config()
        for name in ("kernel_initializer", "recurrent_initializer", "bias_initializer"):
            # The objects, with the seeds that they have drawn.
            arguments[name] = getattr(cell, name)
        if kind is not FeedbackSimpleRNN:
            arguments["implementation"] = cell.implementation
        rule = self.recurrent_feedback
        return kind(
            **arguments,
            feedback=copied(self._feedback),
            feedback_initializer=self.feedback_initializer,
            recurrent_feedback=None if rule is None else copied(rule),
            recurrent_feedback_initializer=self.recurrent_feedback_initializer,
            time_rule=self.time_rule,
            connectivity=self.connectivity,
            return_sequences=self.return_sequences or not top,
            return_state=True,
            go_backwards=self.go_backwards and place == 0,
            stateful=self.stateful,
            unroll=self.unroll,
            zero_output_for_mask=self.zero_output_for_mask and top,
        )

    @property
    def feedback(self) -> FeedbackRule:
        """The rule of the inputs' kernels. It can be set until the layer is built."""
        return self._feedback

    @feedback.setter
    def feedback(self, rule: FeedbackLike) -> None:
        self._feedback = rule_for(self, rule)
        for part in self.parts:
            part.feedback = copied(self._feedback)

    @property
    def states(self) -> Any:
        """The states of a stateful layer; None for another one."""
        found = [part.states for part in self.parts]
        if None in found:
            return None
        return found if self._several else found[0]

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        """Create the weights of the layer of each cell."""
        for part in self.parts:
            part.build(sequences_shape)
            sequences_shape = (*sequences_shape[:2], part.units)
        self.built = True

    def call(
        self,
        sequences: Tensor,
        initial_state: Any = None,
        mask: Any = None,
        training: bool | None = False,
    ) -> Any:
        """Return the outputs of the last cell, and all states if asked for."""
        given = None if initial_state is None else keras.tree.flatten(initial_state)
        states: list[Any] = []
        outputs = sequences
        for place, part in enumerate(self.parts):
            size = part.state_size
            count = len(size) if isinstance(size, (list, tuple)) else 1
            first = None if given is None else [given.pop(0) for _ in range(count)]
            if self.go_backwards and place == 1 and mask is not None:
                # The lower layer has turned the sequence round.
                mask = ops.flip(mask, axis=1)
            outputs, *last = part(outputs, initial_state=first, mask=mask, training=training)
            states.append(last)
        if not self.return_state:
            return outputs
        return (outputs, *(states if self._several else states[0]))

    def reset_state(self) -> None:
        """Set the states of a stateful layer to zero."""
        for part in self.parts:
            part.reset_state()

    def reset_states(self) -> None:
        """Set the states of a stateful layer to zero."""
        self.reset_state()

    def _like(self) -> Any:
        """Return the built-in layer of the same arguments, for what it says about shapes."""
        cells = [held.layer for held in self._cells]
        return keras.layers.RNN(
            cells if self._several else cells[0],
            return_sequences=self.return_sequences,
            return_state=self.return_state,
            name=self.name,
        )

    def compute_output_shape(self, sequences_shape: Any, initial_state_shape: Any = None) -> Any:
        """As in the built-in layer."""
        return self._like().compute_output_shape(sequences_shape)

    def compute_mask(self, inputs: Any, mask: Any) -> Any:
        """As in the built-in layer."""
        return self._like().compute_mask(inputs, mask)

    def get_initial_state(self, batch_size: Any = None) -> Any:
        """Return states of zeros."""
        return self._like().get_initial_state(batch_size)

    def passes_errors_to(self, inputs: list[Any]) -> list[Any]:
        """Return those of the inputs to which errors are sent down; states always get theirs."""
        return inputs if self.feedback.sends_errors else inputs[1:]

    def error_kernels(self) -> list[ErrorKernel]:
        """Return those of all cells, behind the name of the cell where there are several."""
        return [
            entry._replace(name=f"{part.name}_{entry.name}" if self._several else entry.name)
            for part in self.parts
            for entry in part.error_kernels()
        ]

    def plain_form(self) -> PlainForm:
        """Return `keras.layers.RNN` of the cells, with the weights."""
        for part in self.parts:
            part.plain_form()
        config = twin_config(self.get_config(), plain_twin(type(self)))
        return PlainForm(keras.layers.RNN, config, forward_values(self))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        cells = [held.layer for held in self._cells]
        cell = keras.layers.StackedRNNCells(cells) if self._several else cells[0]
        config: dict[str, Any] = {
            **super().get_config(),
            "cell": keras.saving.serialize_keras_object(cell),
            **{name: getattr(self, name) for name in _SHARED},
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "zero_output_for_mask": self.zero_output_for_mask,
            "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer),
            **config_of_rules(self, self.recurrent_feedback),
        }
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FeedbackRNN:
        """Restore the layer with its cells."""
        cell = keras.saving.deserialize_keras_object(config["cell"])
        return cls(**{**config, "cell": cell})


def _cells_of(cell: Any) -> tuple[bool, tuple[Untracked, ...]]:
    """Return whether a stack is given, and its cells, or refuse one that has no feedback form."""
    several = isinstance(cell, (list, tuple, keras.layers.StackedRNNCells))
    cells = list(getattr(cell, "cells", cell)) if several else [cell]
    strangers = [each for each in cells if type(each) not in _KINDS]
    allowed = (
        "a keras.layers.SimpleRNNCell, LSTMCell or GRUCell, or several of them. In a cell of your "
        "own, use `kl.layers.FeedbackDense`"
    )
    received = type(strangers[0]).__name__ if strangers else cells
    check.require(bool(cells) and not strangers, "cell", allowed, received)
    return several, tuple(map(Untracked, cells))
