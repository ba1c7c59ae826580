"""The weights between two populations of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import initializers, ops, regularizers

from keras_local import _validation as check
from keras_local._keras_objects import regularizer
from keras_local._serialization import serializable
from keras_local._types import DType, InitializerLike, RegularizerLike
from keras_local.dynamics._arguments import initializer, layer_arguments
from keras_local.ops import Dense, read
from keras_local.ops.backend import Tensor
from keras_local.ops.precision import precise

_MAP = Dense()


@dataclass(frozen=True)
class Weights:
    """The weights of `Synapses` at one moment: tensors without gradients.

    Attributes:
        kernel: Tensor `(inputs, units)`.
        bias: Tensor `(units,)`, or None.
        feedback_kernel: Tensor of the kernel's shape through which the population above acts on the
            population below; it is the kernel itself if the connection is tied.
    """

    kernel: Tensor
    bias: Tensor | None
    feedback_kernel: Tensor

    def forward(self, below: Tensor) -> Tensor:
        """Return `below @ kernel + bias`."""
        field = _MAP.apply(below, self.kernel)
        return field if self.bias is None else field + self.bias

    def backward(self, above: Tensor) -> Tensor:
        """Return `above @ feedback_kernel^T`."""
        return _MAP.input_gradient(above, self.feedback_kernel, above)


@serializable
class Synapses(keras.layers.Layer):
    """Kernel and bias between two populations of a network, and a feedback kernel if not tied.

    A network calls `read()` at the beginning of a step and runs its dynamics on the tensors. A call
    of the layer returns `inputs @ kernel + bias`. Weights stay in float32 under mixed precision,
    because networks compare states that differ only a little.

    Args:
        units: Size of the population above.
        use_bias: Whether the population above has a bias.
        tied: Whether activity comes back through the kernel itself.
        kernel_initializer: Initializer of the kernel.
        bias_initializer: Initializer of the bias.
        feedback_initializer: Initializer of the feedback kernel, if it is not tied.
        kernel_regularizer: Regularizer of the kernel; its loss is added to the network's.
        feedback_trainable: Whether an untied feedback kernel is a trainable weight.
        name: Name of the layer.
        dtype: Precision of the weights, `"float32"` or `"float64"`.
        trainable: Whether the weights learn.
        activity_regularizer: Regularizer of the outputs of a call.
    """

    def __init__(
        self,
        units: int,
        use_bias: bool = True,
        tied: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        bias_initializer: InitializerLike = "zeros",
        feedback_initializer: InitializerLike = "glorot_uniform",
        kernel_regularizer: RegularizerLike = None,
        feedback_trainable: bool = True,
        *,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        activity_regularizer: RegularizerLike = None,
    ) -> None:
        units = check.positive_integer("units", units)
        use_bias = check.flag("use_bias", use_bias)
        tied = check.flag("tied", tied)
        feedback_trainable = check.flag("feedback_trainable", feedback_trainable)
        activity_regularizer = regularizer("activity_regularizer", activity_regularizer)
        super().__init__(
            **layer_arguments(name, dtype, trainable), activity_regularizer=activity_regularizer
        )
        self.units = units
        self.use_bias = use_bias
        self.tied = tied
        self.kernel_initializer = initializer("kernel_initializer", kernel_initializer)
        self.bias_initializer = initializer("bias_initializer", bias_initializer)
        self.feedback_initializer = initializer("feedback_initializer", feedback_initializer)
        self.kernel_regularizer = regularizer("kernel_regularizer", kernel_regularizer)
        self.feedback_trainable = feedback_trainable
        self.kernel: keras.Variable | None = None
        self.bias: keras.Variable | None = None
        self.feedback_kernel: keras.Variable | None = None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights for populations of `input_shape[-1]` and `units` units."""
        options: dict[str, Any] = {
            "dtype": precise(self.variable_dtype),
            "autocast": False,
        }
        shape = (input_shape[-1], self.units)
        self.kernel = self.add_weight(
            name="kernel",
            shape=shape,
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            **options,
        )
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias", shape=(self.units,), initializer=self.bias_initializer, **options
            )
        if not self.tied:
            self.feedback_kernel = self.add_weight(
                name="feedback_kernel",
                shape=shape,
                initializer=self.feedback_initializer,
                trainable=self.feedback_trainable,
                **options,
            )
        self.built = True

    def read(self) -> Weights:
        """Return the weights as tensors without gradients."""
        kernel = ops.stop_gradient(read(self.kernel))
        return Weights(
            kernel=kernel,
            bias=None if self.bias is None else ops.stop_gradient(read(self.bias)),
            feedback_kernel=(
                kernel
                if self.feedback_kernel is None
                else ops.stop_gradient(read(self.feedback_kernel))
            ),
        )

    def call(self, inputs: Tensor) -> Tensor:
        """Return `inputs @ kernel + bias` in the dtype of the policy."""
        outputs = self.read().forward(ops.cast(inputs, precise(self.variable_dtype)))
        return ops.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return `(batch, units)`."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "use_bias": self.use_bias,
            "tied": self.tied,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "feedback_initializer": initializers.serialize(self.feedback_initializer),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "feedback_trainable": self.feedback_trainable,
        }


def correlate(pre: Tensor, post: Tensor, share: Tensor) -> Tensor:
    """Return `sum_b share_b pre_b post_b^T`, the Hebbian product `(pre units, post units)`.

    Args:
        pre: Tensor `(batch, pre units)`.
        post: Tensor `(batch, post units)`.
        share: Tensor `(batch,)`, how much each sample counts.
    """
    return _MAP.kernel_gradient(pre, post * share[:, None], pre)


def total(post: Tensor, share: Tensor) -> Tensor:
    """Return `sum_b share_b post_b`, `(post units,)`, which is the change of a bias."""
    return ops.sum(post * share[:, None], axis=0)


def fresh(initializer: Any) -> Any:
    """Return an initializer of the same kind that draws other numbers, unless it has a seed."""
    return initializer.clone() if isinstance(initializer, initializers.Initializer) else initializer
