"""A long short-term memory whose errors return by a feedback rule."""

from __future__ import annotations

from typing import Any, Literal, Unpack

import keras
from keras import ops

from keras_local import _validation as check
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
from keras_local.layers.recurrent.gated import (
    gated,
    gated_config,
    implementation,
    use_cudnn,
)
from keras_local.layers.recurrent.layer import FeedbackRecurrent, Project
from keras_local.layers.recurrent.time_rules import TimeRule
from keras_local.ops.backend import Tensor


@serializable
class FeedbackLSTM(FeedbackRecurrent):
    """Long short-term memory whose errors return through feedback weights.

    With the fields `z = x_t W + h_(t-1) U + b` of the gates i, f, c, o,
    `c_t = f c_(t-1) + i tanh(z_c)` and `h_t = o tanh(c_t)`. What is no kernel stays exact: gates,
    and the carry `c_t`. Each kernel has a feedback kernel: `d_t B_w^T` goes down to the inputs,
    with `d_t` the error at the fields, and `d_t B_u^T` back to the units in the step before.

    With `time_rule="eprop"` no error crosses a recurrent synapse, and credit returns in time
    through the carry alone: over a sequence that equals eligibility traces
    `eps_t = f_t eps_(t-1) + (derivative of c_t by the weight in this step)`, which each synapse can
    keep for itself, times the errors that arrive from above in each step.

    With `feedback="symmetric"` it is `keras.layers.LSTM`, bit for bit.

    Args:
        units: Number of units.
        activation: Function of the units; the hyperbolic tangent by default.
        recurrent_activation: Function of the gates; the sigmoid by default.
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
        unit_forget_bias: Whether the bias of the forget gate starts one higher than zero.
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
        use_cudnn: What the built-in layer may use where both rules are symmetric: `"auto"`, True or
            False.
        implementation: 2 for one product of all gates, 1 for one of each, which changes how
            dropout is drawn; 0, of older files, is 2.
        connectivity: Probability with which each forward and each feedback synapse of both kernels
            exists; None for all.
        name: Name of the layer.
        dtype: Precision, or a Keras dtype policy.
        trainable: Whether the weights learn.
        **kwargs: The other arguments of every Keras layer.

    Input shape: `(batch, time, n)`. Output shape: `(batch, units)`, or `(batch, time, units)` with
    `return_sequences`. With `return_state` the last message and carry follow, each of shape
    `(batch, units)`.

    Raises:
        ValueError: For a wrong argument; the message names it.

    >>> import numpy as np, keras_local as kl
    >>> layer = kl.layers.FeedbackLSTM(3, time_rule="eprop", return_sequences=True)
    >>> tuple(layer(np.ones((2, 5, 4), "float32")).shape)
    (2, 5, 3)

    Source: Hochreiter & Schmidhuber 1997; e-prop of Bellec et al. 2020, "A solution to the learning
    dilemma for recurrent networks of spiking neurons".
    """

    plain = keras.layers.LSTM
    stock_class = keras.layers.LSTM
    gates = 4

    def __init__(
        self,
        units: int,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
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
        unit_forget_bias: bool = True,
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
        use_cudnn: Literal["auto"] | bool = "auto",
        implementation: Literal[0, 1, 2] = 2,
        connectivity: float | None = None,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[StockArguments],
    ) -> None:
        arguments = given(locals())
        own = gated(arguments)
        own["unit_forget_bias"] = check.flag("unit_forget_bias", arguments.pop("unit_forget_bias"))
        super().__init__(own, **arguments)

    recurrent_activation = property(lambda self: self.stock.recurrent_activation)
    unit_forget_bias = property(lambda self: self.stock.unit_forget_bias)
    use_cudnn = use_cudnn
    implementation = implementation

    def first_bias(self) -> Any:
        """As in Keras: one for the forget gate, if asked for."""
        if not self.unit_forget_bias:
            return self.bias_initializer

        def bias(shape: tuple[int, ...], dtype: Any = None) -> Tensor:
            first, last = (self.units,), (2 * self.units,)
            return ops.concatenate(
                [
                    self.bias_initializer(first, dtype=dtype),
                    ops.ones(first, dtype=dtype),
                    self.bias_initializer(last, dtype=dtype),
                ]
            )

        return bias

    def step(self, fields: Tensor, states: Any, project: Project) -> tuple[Tensor, ...]:
        """`c = f c_- + i tanh(z_c)`, `h = o tanh(c)`."""
        message, carry = states
        i, f, c, o = ops.split(project(0, message, fields), 4, axis=-1)
        carry = self.recurrent_activation(f) * carry + self.recurrent_activation(
            i
        ) * self.activation(c)
        return self.recurrent_activation(o) * self.activation(carry), carry

    def answers(self) -> list[Any]:
        """Those of the gates i, f, c, o."""
        gate = self.recurrent_activation
        return [gate, gate, self.activation, gate]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), **gated_config(self)}
