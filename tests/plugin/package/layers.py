"""A plain layer, and the layer with feedback weights that computes the same."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

import keras_local as kl
from tests.plugin.package.maps import Blocks


@keras.saving.register_keras_serializable(package="plugin")
class BlockDense(keras.layers.Layer):
    """The plain layer: `activation(x @ blocks + bias)`."""

    def __init__(
        self,
        units: int,
        blocks: int = 2,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units, self.blocks, self.use_bias = units, blocks, use_bias
        self.activation = keras.activations.get(activation)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape: Any) -> None:
        shape = self.blocks, input_shape[-1] // self.blocks, self.units // self.blocks
        self.kernel = self.add_weight(
            name="kernel", shape=shape, initializer=self.kernel_initializer
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias", shape=(self.units,), initializer=self.bias_initializer
            )
        self.built = True

    def call(self, inputs: Any) -> Any:
        outputs = Blocks().apply(inputs, ops.convert_to_tensor(self.kernel))
        return self.activation(outputs if self.bias is None else outputs + self.bias)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "blocks": self.blocks,
            "use_bias": self.use_bias,
            "activation": keras.activations.serialize(self.activation),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


@keras.saving.register_keras_serializable(package="plugin")
class FeedbackBlockDense(kl.layers.FeedbackLayer):
    """The same with a feedback rule, and with `damping`, a factor on the error that it sends."""

    plain = BlockDense

    def __init__(
        self, units: int, blocks: int = 2, *arguments: Any, damping: float = 1.0, **keywords: Any
    ) -> None:
        super().__init__(*arguments, **keywords)
        self.units, self.blocks, self.damping = units, blocks, damping

    @property
    def linear_map(self) -> Blocks:
        return Blocks(self.damping)

    def kernel_shape(self, input_shape: Any) -> tuple[int, ...]:
        return self.blocks, input_shape[-1] // self.blocks, self.units // self.blocks

    def bias_shape(self) -> tuple[int, ...]:
        return (self.units,)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        own = {"units": self.units, "blocks": self.blocks, "damping": self.damping}
        return {**super().get_config(), **own}
