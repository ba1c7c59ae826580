"""The built-in form of a layer that learns by a plasticity rule."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_local.layers import HebbianLayer
from keras_local.layers.hebbian.convolution import HebbianConvolution
from keras_local.layers.hebbian.locally_connected import HebbianLocallyConnected2D
from keras_local.models.conversion import plain_locally_connected

_LEARNING = (
    "plasticity",
    "kernel_constraint",
    "local_rate",
    "global_rate",
    "patch_norm",
    "floor",
    "border",
)


def twin(layer: HebbianLayer) -> tuple[type, dict[str, Any]]:
    """Return the built-in class and its arguments."""
    config = {key: value for key, value in layer.get_config().items() if key not in _LEARNING}
    # Its law may be of this package; the weights are copies.
    config["kernel_initializer"] = "zeros"
    if isinstance(layer, HebbianLocallyConnected2D):
        for name in ("filters", "kernel_size", "strides", "padding"):
            del config[name]
        config["equation"] = "bxyi,xyio->bxyo"
        config["output_shape"] = layer.compute_output_shape(layer.input.shape)[1:]
        return keras.layers.EinsumDense, config
    config["use_bias"] = False
    if isinstance(layer, HebbianConvolution) and layer.padding == "reflect":
        config["padding"] = "valid"
    return layer.plain, config


def arranged(layer: HebbianLayer, inputs: keras.KerasTensor) -> keras.KerasTensor:
    """Return what the built-in layer is applied to."""
    if isinstance(layer, HebbianLocallyConnected2D):
        return plain_locally_connected.patches(layer, inputs)
    return layer.arrange(inputs) if isinstance(layer, HebbianConvolution) else inputs


def normalised(
    layer: HebbianConvolution, inputs: keras.KerasTensor, outputs: keras.KerasTensor
) -> keras.KerasTensor:
    """Return the outputs over the lengths of the patches."""
    squares = ops.sum(ops.square(inputs), axis=-1, keepdims=True)
    window = ops.ones((*layer.kernel_size, 1, 1), dtype=layer.compute_dtype)
    padding = "same" if layer.padding == "same" else "valid"
    total = ops.conv(squares, window, strides=list(layer.strides), padding=padding)
    return outputs / ops.sqrt(ops.maximum(total, layer.floor**2))
