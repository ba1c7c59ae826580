"""A dense layer that learns without labels, by a plasticity rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Unpack

import keras
from keras import ops

from keras_local import _validation as check
from keras_local._serialization import serializable
from keras_local._types import (
    Activation,
    ConstraintLike,
    DType,
    InitializerLike,
    LayerArguments,
    RegularizerLike,
)
from keras_local.layers.feedback.layer import Shape
from keras_local.layers.hebbian.active_units import ActiveUnitsDense
from keras_local.layers.hebbian.layer import HebbianLayer
from keras_local.layers.plain_form import PlainForm
from keras_local.ops import LinearMap, abilities, replica_count
from keras_local.ops.backend import Tensor
from keras_local.plasticity import PlasticityLike
from keras_local.plasticity.rule import DENSE


@serializable
class HebbianDense(HebbianLayer):
    """Dense layer whose kernel learns by a plasticity rule, without labels.

    Forward `y = f(x W)`, without bias. In training the layer passes the rule's change to the
    optimizer as the (negative) gradient of a loss of value zero, so that `compile` and `fit` work
    as always; no other loss changes the kernel. `models.pretrain` trains the layers of an encoder
    one after the other and is faster.

    The normaliser of a rule acts after the reduction over all replicas and inside the step.
    Therefore gradient accumulation and clipping by the optimizer act on normalised steps.

    Args:
        units: Number of units.
        plasticity: A `keras_local.plasticity` rule or its alias.
        activation: Activation function; none by default.
        kernel_initializer: Initializer of the kernel; normal with standard deviation 1 by default.
            Units must start outside the unit sphere, or they never win. For non-negative data
            `keras.initializers.RandomUniform(0, 1)` leaves fewer units unused.
        kernel_constraint: A Keras constraint on the kernel; by default the constraint of the rule.
        local_rate: Factor on the change of the rule, at least 0.
        global_rate: Factor on the gradient that all other losses have at the kernel, at least 0.
            With `local_rate=0, global_rate=1` the layer is a `keras.layers.Dense` without bias.
        activity_regularizer: Regularizer of the outputs.
        name: Name of the layer.
        dtype: Precision, or a Keras dtype policy; weights and learning stay in float32 under mixed
            precision.
        trainable: Whether the layer learns.
        **kwargs: The other arguments of every Keras layer.

    Input shape: `(batch, ..., inputs)`. Output shape: `(batch, ..., units)`. A mask
    `(batch, ...)` leaves samples out of what is learned, and is passed on.

    Raises:
        ValueError: If `units` is not a positive integer, `plasticity` is unknown, or the rule needs
            more units.

    >>> import numpy as np, keras_local as kl
    >>> layer = kl.layers.HebbianDense(16, plasticity=kl.plasticity.KrotovHopfield(p=3))
    >>> tuple(layer(np.ones((2, 5), "float32")).shape)
    (2, 16)
    """

    plain = keras.layers.Dense

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
        super().__init__(
            check.positive_integer("units", units),
            plasticity,
            activation,
            kernel_initializer,
            kernel_constraint,
            local_rate,
            global_rate,
            activity_regularizer=activity_regularizer,
            name=name,
            dtype=dtype,
            trainable=trainable,
            **kwargs,
        )
        self.input_spec = keras.layers.InputSpec(min_ndim=2)

    @property
    def linear_map(self) -> LinearMap:
        """Return the matrix product along the last axis."""
        return DENSE

    def kernel_shape(self, input_shape: Shape) -> tuple[int, ...]:
        """Return `(inputs, units)`."""
        inputs = input_shape[-1]
        if inputs is None:
            raise ValueError(
                "The last axis of the inputs to `HebbianDense` must be defined. "
                f"Received: input_shape={input_shape}"
            )
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: inputs})
        return (inputs, self.units)

    def arrange(self, inputs: Tensor) -> Tensor:
        """Return the inputs with one sample in each row."""
        return ops.reshape(inputs, (-1, inputs.shape[-1])) if len(inputs.shape) > 2 else inputs

    def pretraining_samples(self, features: Any) -> Any:
        """Return the inputs with one sample in each row."""
        return features.reshape(-1, features.shape[-1])

    def pretraining_form(self, rank: int, batch_size: int) -> keras.layers.Layer:
        """Return a form that touches only the units that learn, if the rule offers one.

        Only TensorFlow has sparse gradients. Replicas change different units, so that they need the
        whole kernel.
        """
        sparse = (
            abilities.SPARSE_GRADIENTS
            and replica_count() == 1
            and self.plasticity.trains_active_units
            and not self._own
            and self.kernel.constraint is None
            and self.local_rate == 1.0
            and rank == 2
        )
        if not sparse:
            return self
        kernel = ops.convert_to_numpy(self.kernel)
        form = ActiveUnitsDense(
            kernel,
            self.plasticity,
            batch_size,
            self._divergence,
            name=self.name,
            dtype=self.dtype_policy,
        )
        form.build((None, len(kernel)))
        return form

    def call(
        self,
        inputs: Tensor,
        modulator: Tensor | None = None,
        training: bool | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return `activation(inputs @ kernel)`; while training, add the rule's surrogate loss.

        Nothing is learned from samples that `mask` leaves out; they are seen as zeros.
        """
        if modulator is not None and len(inputs.shape) > 2:
            # One sample in each row, like the inputs.
            ones = ops.ones((*ops.shape(inputs)[:-1], 1), dtype=self.compute_dtype)
            modulator = ops.reshape(self._factor(modulator, ones) * ones, (-1, 1))
        outputs = super().call(inputs, modulator, training, mask)
        if len(inputs.shape) == 2:
            return outputs
        return ops.reshape(outputs, (*ops.shape(inputs)[:-1], self.units))

    def plain_form(self) -> PlainForm:
        """Return a `keras.layers.Dense` without bias, with the kernel of the forward pass."""
        # A dense layer takes inputs of any rank, so that nothing has to be arranged.
        return replace(super().plain_form(), before=_inputs_alone)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return `(batch, ..., units)`."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "units": self.units}


def _inputs_alone(inputs: Tensor) -> Tensor:
    """Return the inputs without the third factor of a call."""
    return inputs
