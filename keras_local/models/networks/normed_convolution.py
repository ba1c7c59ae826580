"""A convolution without bias and its batch normalisation, the unit of residual networks."""

from __future__ import annotations

from typing import Any

import keras

Tensor = Any


def normed_convolution(
    x: Tensor,
    filters: int,
    size: int,
    strides: int,
    name: str,
    initializer: Any = "glorot_uniform",
    gain: str = "ones",
) -> Tensor:
    """Return the normalised convolution of `x`; its padding does not depend on the size."""
    if strides > 1 and size > 1:
        x = keras.layers.ZeroPadding2D(((size - 1) // 2, size // 2))(x)
    x = keras.layers.Conv2D(
        filters,
        size,
        strides,
        padding="same" if strides == 1 else "valid",
        use_bias=False,
        kernel_initializer=initializer,
        name=name,
    )(x)
    return keras.layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, gamma_initializer=gain, name=f"{name}_norm"
    )(x)
