"""A gated recurrent unit whose errors return by a feedback rule."""

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
class FeedbackGRU(FeedbackRecurrent):
    """Gated recurrent units whose errors return through feedback weights.

    `h_t = z h_(t-1) + (1 - z) hh` with the gates z and r and
    `hh = tanh(x_t W_h + b_h + r (h_(t-1) U_h + b'_h))`, or, with `reset_after=False`,
    `hh = tanh(x_t W_h + b_h + (r h_(t-1)) U_h)`. What is no kernel stays exact: gates, and
    `z h_(t-1)`. Each kernel has a feedback kernel: with `d_t` the error at the fields, `d_t B_w^T`
    goes down to the inputs, and `d_t B_u^T` back to the messages of the step before.

    With `time_rule="eprop"` no error crosses a recurrent synapse, and credit returns in time
    through `z h_(t-1)` alone. With `reset_after=False` the gate r acts on messages only and would
    get none: that is refused.

    With `feedback="symmetric"` it is `keras.layers.GRU`, bit for bit.

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
        reset_after: Whether the gate r acts behind the recurrent kernel, or before it.
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
    `return_sequences`. With `return_state` the last state follows, of shape
    `(batch, units)`.

    Raises:
        ValueError: For a wrong argument; the message names it.

    >>> import numpy as np, keras_local as kl
    >>> layer = kl.layers.FeedbackGRU(3, feedback="sign_symmetry")
    >>> tuple(layer(np.ones((2, 5, 4), "float32")).shape)
    (2, 3)
    >>> tuple(layer.kernel.shape), tuple(layer.recurrent_kernel.shape)
    ((4, 9), (3, 9))

    Source: Cho et al. 2014; e-prop of Bellec et al. 2020, "A solution to the learning dilemma for
    recurrent networks of spiking neurons", in the form for this cell.
    """

    plain = keras.layers.GRU
    stock_class = keras.layers.GRU
    gates = 3
    additive = False

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
        reset_after: bool = True,
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
        own["reset_after"] = check.flag("reset_after", arguments.pop("reset_after"))
        allowed = (
            "True with time_rule='eprop': before the kernel, the reset gate would get no credit"
        )
        check.require(time_rule != "eprop" or own["reset_after"], "reset_after", allowed, False)
        super().__init__(own, **arguments)

    recurrent_activation = property(lambda self: self.stock.recurrent_activation)
    reset_after = property(lambda self: self.stock.reset_after)
    use_cudnn = use_cudnn
    implementation = implementation

    def bias_shape(self) -> tuple[int, ...]:
        """As in Keras: with `reset_after` a row for the inputs, and one for the messages."""
        columns = 3 * self.units
        return (2, columns) if self.reset_after else (columns,)

    def biases(self) -> tuple[Tensor | None, Tensor | None]:
        """The rows of the bias."""
        bias, none = super().biases()
        return (bias[0], bias[1]) if bias is not None and self.reset_after else (bias, none)

    def message_columns(self) -> list[tuple[int, int | None]]:
        """One message for all gates, or another one for the last."""
        return [(0, None)] if self.reset_after else [(0, 2 * self.units), (2 * self.units, None)]

    def step(self, fields: Tensor, states: Any, project: Project) -> tuple[Tensor, ...]:
        """`h = z h_- + (1 - z) hh`."""
        (message,), units = states, self.units
        x_z, x_r, x_h = ops.split(fields, 3, axis=-1)
        field = project(0, message)
        z = self.recurrent_activation(x_z + field[:, :units])
        r = self.recurrent_activation(x_r + field[:, units : 2 * units])
        if self.reset_after:
            own = r * field[:, 2 * units :]
        else:
            own = project(1, r * message)
        candidate = self.activation(x_h + own)
        return (z * message + (1 - z) * candidate,)

    def answers(self) -> list[Any]:
        """Those of the gates z and r, and of the candidate."""
        return [self.recurrent_activation, self.recurrent_activation, self.activation]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), **gated_config(self)}
