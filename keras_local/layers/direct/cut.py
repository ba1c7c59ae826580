"""A cut in the chain of errors that passes masks on."""

from __future__ import annotations

from typing import Any

import keras

from keras_local._serialization import serializable
from keras_local.layers.direct.error_paths import is_stop_gradient
from keras_local.layers.plain_form import ErrorKernel, PlainForm
from keras_local.ops.backend import Tensor


@serializable
class Cut(keras.layers.Layer):
    """Layer that returns its inputs and sends no error down: `keras.ops.stop_gradient`.

    The function of Keras loses the mask of what it is given; this layer keeps it.

    Input and output shape: any.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.supports_masking = True

    def call(self, inputs: Tensor) -> Tensor:
        """Return the inputs."""
        return keras.ops.stop_gradient(inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the inputs."""
        return input_shape

    def passes_errors_to(self, inputs: list[Any]) -> list[Any]:
        """Return none of the inputs."""
        return []

    def error_kernels(self) -> list[ErrorKernel]:
        """Return none."""
        return []

    def plain_form(self) -> PlainForm:
        """Return a plain form without a layer: errors pass again."""
        return PlainForm(None, {}, [], before=_same)


def is_cut(operation: Any) -> bool:
    """Return whether an operation of a graph does nothing but end the chain of errors."""
    return is_stop_gradient(operation) or isinstance(operation, Cut)


def _same(inputs: Any) -> Any:
    return inputs
