"""Arguments that the two gated layers share, as Keras' layers have them."""

from __future__ import annotations

from typing import Any

from keras_local import _keras_objects as objects
from keras_local import _validation as check


def gated(arguments: dict[str, Any]) -> dict[str, Any]:
    """Take the arguments of gated layers from those given, and return them once they are sound."""
    gate = objects.activation("recurrent_activation", arguments.pop("recurrent_activation"))
    use_cudnn = arguments.pop("use_cudnn")
    check.one_of("use_cudnn", use_cudnn, ("auto", True, False))
    implementation = check.one_of("implementation", arguments.pop("implementation"), (2, 1, 0))
    return {
        "recurrent_activation": gate,
        "use_cudnn": use_cudnn,
        "implementation": implementation,
    }


def gated_config(layer: Any) -> dict[str, Any]:
    """Return the arguments that the config of Keras leaves out, where they are no default."""
    config: dict[str, Any] = {}
    if layer.use_cudnn != "auto":
        config["use_cudnn"] = layer.use_cudnn
    # Dropout between units brings its own implementation.
    if layer.implementation == 1 and not layer.recurrent_dropout:
        config["implementation"] = 1
    return config


def _use_cudnn(self: Any) -> Any:
    """What the built-in layer may use: "auto", True or False."""
    return self.stock.use_cudnn


def _set_use_cudnn(self: Any, value: Any) -> None:
    self.stock.use_cudnn = check.one_of("use_cudnn", value, ("auto", True, False))


def _implementation(self: Any) -> Any:
    """1 for a product of each gate, 2 for one of all."""
    return self.stock.cell.implementation


use_cudnn = property(_use_cudnn, _set_use_cudnn)
implementation = property(_implementation)
