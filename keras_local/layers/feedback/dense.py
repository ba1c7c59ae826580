"""A dense layer whose errors return by a feedback rule."""

from __future__ import annotations

from typing import Any, Unpack

import keras

from keras_local import _validation as check
from keras_local import ops
from keras_local._serialization import serializable
from keras_local._types import (
    Activation,
    ConstraintLike,
    DType,
    InitializerLike,
    RegularizerLike,
)
from keras_local.feedback import FeedbackLike
from keras_local.layers.feedback.idle import IdleFeedback
from keras_local.layers.feedback.layer import FeedbackLayer, Shape
from keras_local.layers.feedback.unsupported import StockArguments


@serializable
class FeedbackDense(FeedbackLayer):
    """Dense layer whose errors return through feedback weights.

    Forward `y = f(x W + b)`; the error sent down is `delta B^T`, where the rule defines `B`. The
    kernel learns by `x^T delta`, the product of the signals of the two neurons that it joins.

    With `feedback="symmetric"` it is `keras.layers.Dense`, bit for bit.

    Args:
        units: Number of outputs.
        activation: Activation function; none by default.
        use_bias: Whether a bias is added.
        feedback: A `keras_local.feedback` rule or its alias.
        feedback_initializer: Initializer of the feedback kernel, which has the kernel's shape. The
            same seeded initializer for both kernels makes them equal at the start.
        kernel_initializer: Initializer of the kernel.
        bias_initializer: Initializer of the bias.
        kernel_regularizer: Regularizer of the kernel.
        bias_regularizer: Regularizer of the bias.
        activity_regularizer: Regularizer of the outputs.
        kernel_constraint: Constraint of the kernel.
        bias_constraint: Constraint of the bias.
        connectivity: Probability with which each forward and each feedback synapse exists; None for
            all.
        idle_feedback: What happens to a feedback kernel that no error uses, because nothing below
            the layer is trained. `"keep"`: it learns all the same. `"drop"`: until something is, it
            does not learn and costs no time; an error at the inputs of a model is refused in
            training.
        name: Name of the layer.
        dtype: Precision, or a Keras dtype policy.
        trainable: Whether the weights learn.
        **kwargs: The other arguments of every Keras layer.

    Input shape: `(batch, ..., n)`. Output shape: `(batch, ..., units)`.

    Raises:
        ValueError: If `units` is not a positive integer, or `feedback` is unknown.

    >>> import numpy as np, keras_local as kl
    >>> layer = kl.layers.FeedbackDense(3, activation="relu", feedback="feedback_alignment")
    >>> tuple(layer(np.ones((2, 5), "float32")).shape)
    (2, 3)
    """

    plain = keras.layers.Dense

    def __init__(
        self,
        units: int,
        activation: Activation = None,
        use_bias: bool = True,
        feedback: FeedbackLike = "kolen_pollack",
        feedback_initializer: InitializerLike = "glorot_uniform",
        *,
        kernel_initializer: InitializerLike | None = "glorot_uniform",
        bias_initializer: InitializerLike | None = "zeros",
        kernel_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        activity_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        connectivity: float | None = None,
        idle_feedback: IdleFeedback = "keep",
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[StockArguments],
    ) -> None:
        units = check.positive_integer("units", units)
        super().__init__(
            activation,
            use_bias,
            feedback,
            feedback_initializer,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            connectivity=connectivity,
            idle_feedback=idle_feedback,
            name=name,
            dtype=dtype,
            trainable=trainable,
            **kwargs,
        )
        self.units = units
        self.input_spec = keras.layers.InputSpec(min_ndim=2)
        self.supports_masking = True

    @property
    def linear_map(self) -> ops.LinearMap:
        """Return the map `x @ kernel`."""
        return ops.Dense()

    def kernel_shape(self, input_shape: Shape) -> tuple[int, ...]:
        """Return `(n, units)`."""
        if input_shape[-1] is None:
            raise ValueError(
                "The last axis of the inputs to `FeedbackDense` must be defined. "
                f"Received: input_shape={input_shape}"
            )
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: input_shape[-1]})
        return (input_shape[-1], self.units)

    def bias_shape(self) -> tuple[int, ...]:
        """Return `(units,)`."""
        return (self.units,)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return `(batch, ..., units)`."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "units": self.units}
