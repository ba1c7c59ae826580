"""A recurrent layer of leaky units."""

from __future__ import annotations

import math
from typing import Any, Unpack

import keras
import numpy as np
from keras import activations

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
from keras_local.layers.plain_form import PlainForm, forward_values
from keras_local.layers.recurrent.arguments import given
from keras_local.layers.recurrent.layer import FeedbackRecurrent, Project
from keras_local.layers.recurrent.time_rules import TimeRule
from keras_local.ops.backend import Tensor

_CLOSED = 100.0
"""A field at which a sigmoid is 0 or 1 in every precision."""


@serializable
class LeakyRNN(FeedbackRecurrent):
    """Recurrent layer of leaky units, with a feedback rule in space and a rule of credit in time.

    `h_t = (1 - 1/tau) h_(t-1) + f(x_t W + h_(t-1) U + b) / tau`. With `tau=1` it is the simple
    recurrent layer.

    With `time_rule="eprop"` credit returns in time through the leak alone, which is what a synapse
    can know by a trace of its own:

        eps_t = (1 - 1/tau) eps_(t-1) + f'(u_t) p_t / tau,    dW = sum_t L_t eps_t

    with `p_t` the presynaptic signal (an input, or the message of the step before) and `L_t` what
    arrives from the layer above, by that layer's feedback rule. Below a readout with
    `feedback="feedback_alignment"` this is random feedback local online learning (RFLO). Local in
    time and, as far as the readout's rule is, in space. With `time_rule="snap1"` the factor of the
    trace is `1 - 1/tau + f'(u) U_jj / tau`, and with `"bptt"` errors return by
    `recurrent_feedback` through all steps.

    There is no built-in layer of this name; the plain form is a `keras.layers.GRU` whose gates are
    constant.

    Args:
        units: Number of units.
        tau: Time constant of the units in steps, at least 1.
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
    >>> layer = kl.layers.LeakyRNN(3, tau=5.0, time_rule="eprop", return_sequences=True)
    >>> tuple(layer(np.ones((2, 5, 4), "float32")).shape)
    (2, 5, 3)

    Source: Murray 2019, "Local online learning in recurrent networks with random feedback";
    SnAp-1 of Menick et al. 2021, "Practical real time recurrent learning with a sparse
    approximation".
    """

    stock_class = keras.layers.SimpleRNN
    additive = True

    def __init__(
        self,
        units: int,
        tau: float = 10.0,
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
        arguments = given(locals())
        tau = check.real("tau", arguments.pop("tau"), minimum=1.0)
        super().__init__({}, **arguments)
        self.tau = tau

    def _is_stock(self) -> bool:
        return False

    def step(self, fields: Tensor, states: Any, project: Project) -> tuple[Tensor, ...]:
        """`(1 - 1/tau) h + f(a + h U) / tau`."""
        (message,), rate = states, 1.0 / self.tau
        new = self.activation(project(0, message, fields))
        return ((1.0 - rate) * message + rate * new,)

    def answers(self) -> list[Any]:
        """The activation."""
        return [self.activation]

    def plain_form(self) -> PlainForm:
        """A `keras.layers.GRU` with one gate fixed at the leak, and the other one open."""
        keep = {"name", "dtype", "trainable", "return_sequences", "return_state", "go_backwards"}
        keep |= {"stateful", "unroll", "zero_output_for_mask", "units", "dropout", "seed"}
        config = {name: value for name, value in self.get_config().items() if name in keep}
        own = callable(getattr(self.activation, "plain", None))
        if own:
            raise NotImplementedError(f"{type(self.activation).__name__} inside of LeakyRNN")
        config["activation"] = activations.serialize(self.activation)
        kernel, recurrent, *bias = forward_values(self)
        leak = math.log(self.tau - 1.0) if self.tau > 1.0 else -_CLOSED
        zeros = np.zeros((1, self.units), kernel.dtype)
        first = np.concatenate([zeros + leak, zeros + _CLOSED, bias[0][None] if bias else zeros], 1)
        weights = [
            np.pad(kernel, ((0, 0), (2 * self.units, 0))),
            np.pad(recurrent, ((0, 0), (2 * self.units, 0))),
            np.concatenate([first, np.zeros_like(first)]),
        ]
        return PlainForm(keras.layers.GRU, config, weights)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "tau": self.tau}
