"""The transposed convolution, the adjoint of a convolution."""

from __future__ import annotations

import math
from dataclasses import dataclass

from keras import ops

from keras_local.ops.backend import Tensor, backend
from keras_local.ops.linear_maps import Convolution, LinearMap


@dataclass(frozen=True)
class TransposedConvolution(LinearMap):
    """A transposed convolution in one to three dimensions, as in `keras.ops.conv_transpose`.

    It is the adjoint, in its inputs, of the convolution with the same kernel. Therefore its own
    adjoint is that convolution, and its kernel gradient is that of the convolution with activity
    and error exchanged.

    Shapes (channels last): inputs `(batch, *space, c_in)`, kernel `(*kernel_size, c_out, c_in)`,
    outputs `(batch, *space', c_out)`.

    Args:
        strides: One integer per spatial dimension.
        padding: `"valid"` or `"same"`.
        dilation_rate: One integer per spatial dimension.
        data_format: `"channels_last"` or `"channels_first"`.
        output_padding: One integer per spatial dimension, which fixes the size of the outputs; None
            for the default of Keras.

    >>> from keras_local import ops
    >>> transposed = ops.TransposedConvolution((2, 2), "same", (1, 1))
    >>> transposed.fans((3, 3, 4, 8))
    (72, 36)
    """

    strides: tuple[int, ...]
    padding: str
    dilation_rate: tuple[int, ...]
    data_format: str = "channels_last"
    output_padding: tuple[int, ...] | None = None

    @property
    def convolution(self) -> Convolution:
        """Return the convolution whose adjoint this is."""
        return Convolution(self.strides, self.padding, self.dilation_rate, self.data_format)

    def apply(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """Return the transposed convolution of `inputs` with `kernel`."""
        return ops.conv_transpose(
            inputs,
            kernel,
            strides=list(self.strides),
            padding=self.padding,
            output_padding=self.output_padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )

    def input_gradient(self, upstream: Tensor, kernel: Tensor, inputs: Tensor) -> Tensor:
        """Return the convolution of `upstream` with `kernel`."""
        return backend.transposed_input_gradient(self, upstream, kernel, inputs)

    def kernel_gradient(self, inputs: Tensor, upstream: Tensor, kernel: Tensor) -> Tensor:
        """Return the product of activity and patch of the error, summed over positions."""
        return backend.transposed_kernel_gradient(self, inputs, upstream, kernel)

    def fans(self, kernel_shape: tuple[int, ...]) -> tuple[int, int]:
        """Return the taps of the kernel times the input and output channels."""
        taps = math.prod(kernel_shape[:-2])
        return taps * kernel_shape[-1], taps * kernel_shape[-2]
