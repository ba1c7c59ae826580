"""The built-in form of a locally connected layer: slices of its inputs, then an Einstein sum."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_local.layers.feedback.locally_connected import LocallyConnected

_SPACE = "xyz"


def einsum_dense(layer: LocallyConnected) -> dict[str, Any]:
    """Return the arguments of the `EinsumDense` that takes the layer's weights as they are."""
    config = layer.get_config()
    for name in ("filters", "kernel_size", "strides", "padding", "data_format", "use_bias"):
        del config[name]
    for name in ("feedback", "feedback_initializer", "connectivity"):
        config.pop(name, None)
    # Its law would be of this package; the weights are copies.
    config["kernel_initializer"] = "zeros"
    space = _SPACE[: layer.rank]
    units = f"{space}o" if layer.data_format == "channels_last" else f"o{space}"
    config["equation"] = f"b{space}i,{space}io->b{units}"
    config["bias_axes"] = units if layer.use_bias else None
    config["output_shape"] = layer.bias_shape()
    return config


def patches(layer: LocallyConnected, inputs: keras.KerasTensor) -> keras.KerasTensor:
    """Return the patches of the layer's inputs, `(batch, *positions, taps * channels)`."""
    if layer.data_format == "channels_first":
        inputs = ops.transpose(inputs, (0, *range(2, layer.rank + 2), 1))
    windows = layer.linear_map.windows(tuple(inputs.shape[1:-1]))
    if any(map(any, windows.padding)):
        inputs = ops.pad(inputs, [(0, 0), *windows.padding, (0, 0)])
    # The last axis first: the taps come out in the order of the kernel.
    for axis in reversed(range(layer.rank)):
        ahead = (slice(None),) * (axis + 1)
        seen = [inputs[(*ahead, window)] for window in windows.along(axis)]
        inputs = ops.concatenate(seen, axis=-1) if len(seen) > 1 else seen[0]
    return inputs
