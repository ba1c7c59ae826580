"""Linear maps of layers, with the two adjoints that learning needs.

A map `y = M(x, kernel)` is linear in each argument, so two adjoints carry every gradient:

* `input_gradient`: the error sent down, `<upstream, M(x, k)> = <input_gradient(upstream, k), x>`;
* `kernel_gradient`: the product of activity and error that changes the kernel.

A rule that works with these three methods works for every linear layer.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from keras import ops

from keras_local.ops.backend import Tensor, backend


def is_sparse(tensor: Tensor) -> bool:
    """Return whether a tensor stores only some of its entries, like sparse inputs of Keras."""
    sparse: bool = backend.is_sparse(tensor)
    return sparse


class LinearMap(ABC):
    """Interface of a map that is linear in its inputs and in its kernel."""

    @abstractmethod
    def apply(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """Return the outputs of the map."""

    @abstractmethod
    def input_gradient(self, upstream: Tensor, kernel: Tensor, inputs: Tensor) -> Tensor:
        """Send the error `upstream` down through `kernel`; only the shape of `inputs` is used."""

    @abstractmethod
    def kernel_gradient(self, inputs: Tensor, upstream: Tensor, kernel: Tensor) -> Tensor:
        """Correlate activity with error; only the shape of `kernel` is used."""

    @abstractmethod
    def fans(self, kernel_shape: tuple[int, ...]) -> tuple[int, int]:
        """Return how many inputs reach an output, and how many outputs an input reaches."""

    @property
    def takes_sparse(self) -> bool:
        """Return whether `apply` and `kernel_gradient` take sparse inputs; False by default."""
        return False

    @property
    def whole(self) -> LinearMap:
        """The map for all samples: the map itself, unless it is `Masked`."""
        return self

    def counted(self, outputs: Tensor) -> Tensor:
        """Return outputs, or similar tensors, with 0 for samples that do not count."""
        return outputs

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of numbers, one for each sample or one for all samples."""
        return ops.mean(values)

    # The samples of one unit. By default units lie along the last axis of the outputs, and each
    # example and each position is a sample of the same weights.

    def unit_axes(self, rank: int) -> tuple[int, ...]:
        """Return the axes of a kernel of this rank that distinguish its units."""
        return (rank - 1,)

    def samples(self, outputs: Tensor) -> Tensor:
        """Return the number of samples of each unit in `outputs`."""
        return math.prod(ops.shape(outputs)[:-1])

    def unit_sum(self, outputs: Tensor) -> Tensor:
        """Return the sum over the samples of each unit, so that it broadcasts against a kernel."""
        return ops.sum(outputs, axis=tuple(range(len(outputs.shape) - 1)))[None, :]

    def unit_products(self, first: Tensor, second: Tensor) -> Tensor:
        """Return `sum_s first_sk second_sl` over the samples s, for all units k and l."""
        first, second = (ops.reshape(each, (-1, each.shape[-1])) for each in (first, second))
        return backend.matmul(first, second, transpose_a=True)


@dataclass(frozen=True)
class Dense(LinearMap):
    """The map `y = x @ kernel` along the last axis.

    Shapes: inputs `(..., n)`, kernel `(n, m)`, outputs `(..., m)`.

    >>> import numpy as np
    >>> from keras_local import ops
    >>> dense = ops.Dense()
    >>> error, kernel = np.ones((1, 2), "float32"), np.array([[1.0, 2.0]], "float32")
    >>> np.asarray(dense.input_gradient(error, kernel, np.zeros((1, 1), "float32"))).tolist()
    [[3.0]]
    """

    @property
    def takes_sparse(self) -> bool:
        """Return True: products with a sparse matrix are computed from its entries."""
        return True

    def apply(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """Return `inputs @ kernel`."""
        return ops.matmul(inputs, kernel)

    def input_gradient(self, upstream: Tensor, kernel: Tensor, inputs: Tensor) -> Tensor:
        """Return `upstream @ kernel^T`."""
        return backend.matmul(upstream, kernel, transpose_b=True)

    def kernel_gradient(self, inputs: Tensor, upstream: Tensor, kernel: Tensor) -> Tensor:
        """Return `inputs^T @ upstream`, summed over all leading axes."""
        if len(inputs.shape) > 2:
            inputs = ops.reshape(inputs, (-1, inputs.shape[-1]))
            upstream = ops.reshape(upstream, (-1, upstream.shape[-1]))
        return backend.matmul(inputs, upstream, transpose_a=True)

    def fans(self, kernel_shape: tuple[int, ...]) -> tuple[int, int]:
        """Return `(n, m)`."""
        return kernel_shape[0], kernel_shape[1]


@dataclass(frozen=True)
class Convolution(LinearMap):
    """A convolution in one to three dimensions, as in `keras.ops.conv`.

    Shapes (channels last): inputs `(batch, *space, c_in)`, kernel
    `(*kernel_size, c_in // groups, c_out)`, outputs `(batch, *space', c_out)`. The number of groups
    follows from the shapes. Both adjoints are the backend's own convolution gradients.

    Args:
        strides: One integer per spatial dimension.
        padding: `"valid"` or `"same"`.
        dilation_rate: One integer per spatial dimension.
        data_format: `"channels_last"` or `"channels_first"`.
    """

    strides: tuple[int, ...]
    padding: str
    dilation_rate: tuple[int, ...]
    data_format: str = "channels_last"

    def apply(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """Return the convolution of `inputs` with `kernel`."""
        return ops.conv(
            inputs,
            kernel,
            strides=list(self.strides),
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )

    def input_gradient(self, upstream: Tensor, kernel: Tensor, inputs: Tensor) -> Tensor:
        """Return the transposed convolution of `upstream` with `kernel`."""
        return backend.conv_input_gradient(self, upstream, kernel, inputs)

    def kernel_gradient(self, inputs: Tensor, upstream: Tensor, kernel: Tensor) -> Tensor:
        """Return the product of patch and error, summed over batch and positions."""
        return backend.conv_kernel_gradient(self, inputs, upstream, kernel)

    def fans(self, kernel_shape: tuple[int, ...]) -> tuple[int, int]:
        """Return the taps of the kernel times the input and output channels of a group."""
        taps = math.prod(kernel_shape[:-2])
        return taps * kernel_shape[-2], taps * kernel_shape[-1]
