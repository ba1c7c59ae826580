"""A layer of a user: none of the package's interfaces, but its methods."""

from __future__ import annotations

from typing import Any

import keras

from keras_local import layers, ops
from tests.support import array


@keras.saving.register_keras_serializable(package="tests")
class Halved(keras.layers.Layer):
    """None of the interfaces' layers: it says its plain form, and how errors come down."""

    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(**options)
        self.units = units

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
        self.back = self.add_weight(
            shape=(shape[-1], self.units), name="back", trainable=False, initializer="ones"
        )

    def call(self, inputs: Any) -> Any:
        return 0.5 * ops.asymmetric(
            ops.Dense(), self, inputs, self.kernel.value, (self.back.value,)
        )

    def error_kernel(self, kernel: Any, *feedback: Any) -> Any:
        return feedback[0]

    def feedback_gradients(self, signals: Any) -> tuple[None]:
        return (None,)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}

    def plain_form(self) -> layers.PlainForm:
        config = {"units": self.units, "use_bias": False, "name": self.name}
        return layers.PlainForm(
            keras.layers.Dense,
            config,
            [array(self.kernel)],
            behind=lambda outputs, inputs: outputs * 0.5,
        )

    def error_kernels(self) -> list[tuple[str, Any, Any]]:
        return [("", self.kernel, self.back)]
