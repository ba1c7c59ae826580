"""The locally connected map: a convolution with another kernel at each position."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from keras import ops

from keras_local.ops.backend import Tensor, backend
from keras_local.ops.linear_maps import LinearMap


@dataclass(frozen=True)
class Windows:
    """The parts of the inputs that each position sees.

    Args:
        sizes: Size of the padded inputs along each spatial dimension.
        kernel_size: Number of taps along each.
        strides: Steps between neighbouring positions.
        padding: Number of zeros before and behind.
    """

    sizes: tuple[int, ...]
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]

    @property
    def positions(self) -> tuple[int, ...]:
        """Return the number of positions along each dimension."""
        return tuple(
            (size - taps) // stride + 1
            for size, taps, stride in zip(self.sizes, self.kernel_size, self.strides, strict=True)
        )

    def along(self, axis: int) -> list[slice]:
        """Return for each tap along one dimension the inputs that it sees."""
        stride, count = self.strides[axis], self.positions[axis]
        return [
            slice(tap, tap + stride * (count - 1) + 1, stride)
            for tap in range(self.kernel_size[axis])
        ]

    def slices(self) -> list[tuple[slice, ...]]:
        """Return for each tap, in the kernel's order, the inputs that it sees."""
        return list(itertools.product(*map(self.along, range(len(self.sizes)))))


@dataclass(frozen=True)
class LocallyConnected(LinearMap):
    """A convolution without shared weights: each position has its own kernel.

        y_p = W_p^T x_p

    where `x_p` is the patch of the inputs that position `p` sees, flattened like the kernel of a
    convolution (taps, then channels).

    Shapes (channels last): inputs `(batch, *space, c_in)`, kernel `(*space', taps * c_in, c_out)`,
    outputs `(batch, *space', c_out)`.

    All products are batched over positions, with the examples on the last axis, so that each tap of
    a patch is one piece of memory. This is about twice as fast as patches with the channels last.

    Args:
        kernel_size: Number of taps along each spatial dimension.
        strides: One integer per spatial dimension.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"` or `"channels_first"`.

    >>> import numpy as np
    >>> from keras_local import ops
    >>> pairs = ops.LocallyConnected((2,), (1,), "valid")
    >>> x = np.array([[[1.0], [2.0], [3.0]]], "float32")
    >>> kernel = np.array([[[1.0], [1.0]], [[0.0], [2.0]]], "float32")
    >>> np.asarray(pairs.apply(x, kernel)).tolist()
    [[[3.0], [6.0]]]
    """

    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str
    data_format: str = "channels_last"

    def positions(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Return the sizes of the outputs for inputs of the spatial `sizes`."""
        return self.windows(sizes).positions

    def windows(self, sizes: tuple[int, ...]) -> Windows:
        """Return the parts that each position sees of inputs with the spatial `sizes`."""
        padding = [(0, 0)] * len(sizes)
        if self.padding == "same":
            needed = [
                max((-(-size // stride) - 1) * stride + taps - size, 0)
                for size, taps, stride in zip(sizes, self.kernel_size, self.strides, strict=True)
            ]
            # As in the convolution, an odd zero goes to the end.
            padding = [(total // 2, total - total // 2) for total in needed]
        padded = tuple(size + sum(pair) for size, pair in zip(sizes, padding, strict=True))
        return Windows(padded, self.kernel_size, self.strides, tuple(padding))

    def apply(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """Return the product of each position's patch with its kernel."""
        outputs = backend.matmul(_stacked(kernel), self._patches(inputs), transpose_a=True)
        return self._batch_first(_unstacked(outputs, kernel.shape[:-2]))

    def input_gradient(self, upstream: Tensor, kernel: Tensor, inputs: Tensor) -> Tensor:
        """Return the error of each position times its kernel, summed where patches overlap."""
        windows = self.windows(self._sizes(inputs))
        patches = backend.matmul(_stacked(kernel), _stacked(self._batch_last(upstream)))
        padded = backend.patches_adjoint(patches, windows)
        inside = tuple(
            slice(before, size - behind)
            for size, (before, behind) in zip(windows.sizes, windows.padding, strict=True)
        )
        return self._batch_first(padded[inside])

    def kernel_gradient(self, inputs: Tensor, upstream: Tensor, kernel: Tensor) -> Tensor:
        """Return the product of patch and error at each position, summed over the batch."""
        error = _stacked(self._batch_last(upstream))
        gradient = backend.matmul(self._patches(inputs), error, transpose_b=True)
        return ops.reshape(gradient, tuple(kernel.shape))

    def fans(self, kernel_shape: tuple[int, ...]) -> tuple[int, int]:
        """Return the fans of the convolution with one kernel for all positions."""
        return kernel_shape[-2], math.prod(self.kernel_size) * kernel_shape[-1]

    def unit_axes(self, rank: int) -> tuple[int, ...]:
        """Return the axes of positions and filters: each position has its own units."""
        return (*range(rank - 2), rank - 1)

    def samples(self, outputs: Tensor) -> Tensor:
        """Return the size of the batch."""
        return ops.shape(outputs)[0]

    def unit_sum(self, outputs: Tensor) -> Tensor:
        """Return the sum over the batch, `(*positions, 1, units)`."""
        return ops.expand_dims(ops.sum(outputs, axis=0), -2)

    def unit_products(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the products of the units of each position, `(*positions, units, units)`."""
        return ops.einsum("b...k,b...l->...kl", first, second)

    def _patches(self, inputs: Tensor) -> Tensor:
        windows = self.windows(self._sizes(inputs))
        inputs = self._batch_last(inputs)
        if any(map(any, windows.padding)):
            inputs = ops.pad(inputs, [*windows.padding, (0, 0), (0, 0)])
        return backend.patches(inputs, windows)

    def _sizes(self, tensor: Tensor) -> tuple[int, ...]:
        shape = tuple(tensor.shape)
        return shape[1:-1] if self.data_format == "channels_last" else shape[2:]

    def _batch_last(self, tensor: Tensor) -> Tensor:
        """Return a batch in the order `(*space, channels, batch)`."""
        rank = len(self.kernel_size)
        if self.data_format == "channels_last":
            return ops.transpose(tensor, (*range(1, rank + 2), 0))
        return ops.transpose(tensor, (*range(2, rank + 2), 1, 0))

    def _batch_first(self, tensor: Tensor) -> Tensor:
        rank = len(self.kernel_size)
        if self.data_format == "channels_last":
            return ops.transpose(tensor, (rank + 1, *range(rank + 1)))
        return ops.transpose(tensor, (rank + 1, rank, *range(rank)))


def _stacked(tensor: Tensor) -> Tensor:
    """Join the spatial axes, which come first, into one axis."""
    *space, rows, columns = ops.shape(tensor)
    return ops.reshape(tensor, (math.prod(space), rows, columns))


def _unstacked(tensor: Tensor, positions: tuple[int, ...]) -> Tensor:
    return ops.reshape(tensor, (*positions, *ops.shape(tensor)[1:]))
