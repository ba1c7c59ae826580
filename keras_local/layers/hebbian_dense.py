"""A dense layer that learns without labels, by a plasticity rule."""

from __future__ import annotations

from typing import Any

import keras
from keras import activations, initializers, ops

from keras_local import _validation as check
from keras_local import plasticity as plasticity_rules
from keras_local._serialization import serializable
from keras_local.layers.feedback_layer import Shape
from keras_local.ops import replica_count, surrogate_loss
from keras_local.ops.backend import Tensor


@serializable
class HebbianDense(keras.layers.Layer):
    """Dense layer whose kernel changes by a local rule, from its inputs alone.

    Forward `y = f(x W)`, without bias. While training, the layer hands the rule's change to the
    optimizer as the (negative) gradient of a loss of value zero, so `compile` and `fit` work as
    ever; no other loss changes the kernel. `models.pretrain` trains the layers of an encoder one
    after the other and is faster.

    The normaliser of a rule runs after the reduction over all replicas. It is inside the step, so
    gradient accumulation, or clipping by the optimizer, acts on steps that are already normalised.

    Args:
        units: Number of units.
        plasticity: A `keras_local.plasticity` rule or its alias.
        activation: Activation function; none by default.
        kernel_initializer: Law of the initial weights. Normal with deviation 1 by default: units
            must start outside the unit sphere, or they never win. For non-negative data
            `keras.initializers.RandomUniform(0, 1)` leaves fewer units unused.
        **kwargs: `name`, `dtype`. Weights and learning stay in float32 under mixed precision.

    Input shape: `(batch, ..., inputs)`. Output shape: `(batch, ..., units)`.

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
        plasticity: Any = "krotov_hopfield",
        activation: Any = None,
        kernel_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        units = check.positive_integer("units", units)
        rule = plasticity_rules.get(plasticity)
        rule.check_units(units)
        super().__init__(**kwargs)
        self.units = units
        self.plasticity = rule
        self.activation = activations.get(activation)
        self.kernel_initializer = initializers.get(
            keras.initializers.RandomNormal(stddev=1.0)
            if kernel_initializer is None
            else kernel_initializer
        )
        self.input_spec = keras.layers.InputSpec(min_ndim=2)
        # Sorting under XLA is many times slower on a CPU. Keras then runs models with this layer as
        # plain graphs; set `supports_jit` to True to have XLA all the same.
        self.supports_jit = keras.backend.backend() != "tensorflow"

    def build(self, input_shape: Shape) -> None:
        """Create the kernel `(inputs, units)`."""
        if input_shape[-1] is None:
            raise ValueError(
                "The last axis of the inputs to `HebbianDense` must be defined. "
                f"Received: input_shape={input_shape}"
            )
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: input_shape[-1]})
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.units),
            initializer=self.kernel_initializer,
            dtype="float64" if self.variable_dtype == "float64" else "float32",
            autocast=False,
        )
        self.built = True

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Return `activation(inputs @ kernel)`; while training, add the rule's surrogate loss."""
        if training and self.trainable:
            self.add_loss(self._plasticity_loss(inputs))
        kernel = ops.cast(ops.stop_gradient(self.kernel), self.compute_dtype)
        return self.activation(ops.matmul(inputs, kernel))

    def _plasticity_loss(self, inputs: Tensor) -> Tensor:
        pre = ops.cast(ops.stop_gradient(inputs), self.kernel.dtype)
        pre = ops.reshape(pre, (-1, pre.shape[-1]))
        kernel = ops.stop_gradient(ops.convert_to_tensor(self.kernel))
        change = self.plasticity.update(pre, kernel)
        return surrogate_loss(self.kernel, change / replica_count())

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """`(batch, ..., units)`."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "plasticity": plasticity_rules.serialize(self.plasticity),
            "activation": activations.serialize(self.activation),
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
        }
