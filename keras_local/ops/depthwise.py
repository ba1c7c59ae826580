"""The depthwise convolution, in which each channel has its own filters."""

from __future__ import annotations

import math
from dataclasses import dataclass

from keras import ops

from keras_local.ops.backend import Tensor, backend
from keras_local.ops.linear_maps import Convolution, LinearMap


@dataclass(frozen=True)
class DepthwiseConvolution(LinearMap):
    """A depthwise convolution in one or two dimensions, as in `keras.ops.depthwise_conv`.

    Shapes (channels last): inputs `(batch, *space, c)`, kernel `(*kernel_size, c, multiplier)`,
    outputs `(batch, *space', c * multiplier)`. Both adjoints are the backend's own gradients of the
    depthwise convolution.

    Args:
        strides: One integer per spatial dimension.
        padding: `"valid"` or `"same"`.
        dilation_rate: One integer per spatial dimension.
        data_format: `"channels_last"` or `"channels_first"`.

    >>> from keras_local import ops
    >>> depthwise = ops.DepthwiseConvolution((1, 1), "valid", (1, 1))
    >>> depthwise.fans((3, 3, 8, 2))
    (9, 18)
    """

    strides: tuple[int, ...]
    padding: str
    dilation_rate: tuple[int, ...]
    data_format: str = "channels_last"

    @property
    def convolution(self) -> Convolution:
        """Return the equal convolution with as many groups as channels."""
        return Convolution(self.strides, self.padding, self.dilation_rate, self.data_format)

    def apply(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """Return the depthwise convolution of `inputs` with `kernel`."""
        return ops.depthwise_conv(
            inputs,
            kernel,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )

    def input_gradient(self, upstream: Tensor, kernel: Tensor, inputs: Tensor) -> Tensor:
        """Send the error down, each channel through its own filters."""
        return backend.depthwise_input_gradient(self, upstream, kernel, inputs)

    def kernel_gradient(self, inputs: Tensor, upstream: Tensor, kernel: Tensor) -> Tensor:
        """Return the product of patch and error of each channel, summed over positions."""
        return backend.depthwise_kernel_gradient(self, inputs, upstream, kernel)

    def fans(self, kernel_shape: tuple[int, ...]) -> tuple[int, int]:
        """Return the taps of the kernel, and the taps times the multiplier."""
        taps = math.prod(kernel_shape[:-2])
        return taps, taps * kernel_shape[-1]
