"""A simple recurrent layer whose errors return by a feedback rule."""

from __future__ import annotations

from typing import Any, Unpack

import keras

from keras_local._serialization import serializable
from keras_local._types import (
    Activation,
    ConstraintLike,
    DType,
    InitializerLike,
    RegularizerLike,
)
from keras_local.feedback import FeedbackLike
from keras_local.layers.feedback.unsupported import StockArguments
from keras_local.layers.recurrent.arguments import given
from keras_local.layers.recurrent.layer import FeedbackRecurrent, Project
from keras_local.layers.recurrent.time_rules import TimeRule, warn_without_memory
from keras_local.ops.backend import Tensor


@serializable
class FeedbackSimpleRNN(FeedbackRecurrent):
    """Simple recurrent layer whose errors return through feedback weights.

    `h_t = f(x_t W + h_(t-1) U + b)`. With the error `d_t` at the field of step t, which the true
    derivative of `f` gives, `d_t B_w^T` goes down to the inputs of the step and `d_t B_u^T` back to
    the units in the step before. The kernels learn by `sum_t x_t^T d_t` and `sum_t h_(t-1)^T d_t`.

    Local in space, as far as the rules are; not in time: the error of a step is known when all
    later ones have been. With `time_rule="snap1"` it is in part, and `LeakyRNN` has units with a
    memory for `time_rule="eprop"`.

    With `feedback="symmetric"` it is `keras.layers.SimpleRNN`, bit for bit.

    Args:
        units: Number of units.
        activation: Function of the units; the hyperbolic tangent by default.
        use_bias: Whether a bias is added.
        feedback: A `keras_local.feedback` rule or its alias, for errors that go down to the inputs.
        feedback_initializer: Initializer of the feedback kernel of the inputs, which has the
            kernel's shape.
        recurrent_feedback: The rule for errors that return in time; None for a copy of `feedback`.
        recurrent_feedback_initializer: Initializer of the recurrent feedback kernel; None for that
            of the recurrent kernel, drawn anew. It acts once in every step, so that its largest
            eigenvalue makes errors vanish or explode.
        time_rule: How credit returns in time. `"bptt"`: through all steps, by `recurrent_feedback`.
            `"eprop"`: by what a unit keeps to itself; no error crosses a recurrent synapse.
            `"snap1"`: as `"eprop"`, and by the synapse of a unit to itself.
        kernel_initializer: Initializer of the kernel.
        recurrent_initializer: Initializer of the recurrent kernel.
        bias_initializer: Initializer of the bias.
        kernel_regularizer: Regularizer of the kernel.
        recurrent_regularizer: Regularizer of the recurrent kernel.
        bias_regularizer: Regularizer of the bias.
        activity_regularizer: Regularizer of the outputs.
        kernel_constraint: Constraint of the kernel.
        recurrent_constraint: Constraint of the recurrent kernel.
        bias_constraint: Constraint of the bias.
        dropout: Share of the inputs that is dropped, the same ones in all steps.
        recurrent_dropout: Share of the messages between units that is dropped, likewise.
        seed: Seed of the dropout.
        return_sequences: Whether the outputs of all steps are returned, or the last one.
        return_state: Whether the last states are returned behind the outputs.
        go_backwards: Whether the steps are taken from the last one; the outputs come in that order.
        stateful: Whether a batch begins with the states in which the one before has ended. The
            batch size has to be fixed.
        unroll: Whether the steps are written out, in place of a loop.
        zero_output_for_mask: Whether the outputs of masked steps are zero, or repeat the last one.
        connectivity: Probability with which each forward and each feedback synapse of both kernels
            exists; None for all.
        name: Name of the layer.
        dtype: Precision, or a Keras dtype policy.
        trainable: Whether the weights learn.
        **kwargs: The other arguments of every Keras layer.

    Input shape: `(batch, time, n)`. Output shape: `(batch, units)`, or `(batch, time, units)` with
    `return_sequences`. With `return_state` the last state follows, of shape
    `(batch, units)`.

    Raises:
        ValueError: For a wrong argument; the message names it.

    >>> import numpy as np, keras_local as kl
    >>> layer = kl.layers.FeedbackSimpleRNN(3, feedback="feedback_alignment")
    >>> tuple(layer(np.ones((2, 5, 4), "float32")).shape)
    (2, 3)
    >>> tuple(layer.recurrent_feedback_kernel.shape)
    (3, 3)

    Source: the forward pass is that of Keras; feedback alignment in recurrent networks goes back to
    Murray 2019, "Local online learning in recurrent networks with random feedback".
    """

    plain = keras.layers.SimpleRNN
    stock_class = keras.layers.SimpleRNN

    def __init__(
        self,
        units: int,
        activation: Activation = "tanh",
        use_bias: bool = True,
        feedback: FeedbackLike = "kolen_pollack",
        feedback_initializer: InitializerLike = "glorot_uniform",
        *,
        recurrent_feedback: FeedbackLike | None = None,
        recurrent_feedback_initializer: InitializerLike | None = None,
        time_rule: TimeRule = "bptt",
        kernel_initializer: InitializerLike | None = "glorot_uniform",
        recurrent_initializer: InitializerLike | None = "orthogonal",
        bias_initializer: InitializerLike | None = "zeros",
        kernel_regularizer: RegularizerLike = None,
        recurrent_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        activity_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        recurrent_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        connectivity: float | None = None,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[StockArguments],
    ) -> None:
        super().__init__({}, **given(locals()))
        if self.time_rule == "eprop":
            warn_without_memory(self)

    def step(self, fields: Tensor, states: Any, project: Project) -> tuple[Tensor, ...]:
        """`f(a + h U)`."""
        return (self.activation(project(0, states[0], fields)),)

    def answers(self) -> list[Any]:
        """The activation."""
        return [self.activation]
