"""A linear map some of whose samples do not count."""

from __future__ import annotations

from dataclasses import dataclass

from keras import ops

from keras_local.ops.backend import Tensor, backend
from keras_local.ops.linear_maps import LinearMap


@dataclass(frozen=True)
class Masked(LinearMap):
    """`M(x, kernel)`, where only some of the samples count when a kernel learns.

    Sums, products and numbers of samples are those of the samples that count, as if the others were
    not there. The outputs are those of the map.

    Args:
        linear_map: The map `M`.
        present: Boolean tensor of the outputs' shape with a last axis of 1: which samples count.

    >>> import numpy as np
    >>> from keras_local import ops
    >>> x, gains = np.array([[3.0], [1e6]], "float32"), np.ones((2, 1), "float32")
    >>> some = ops.Masked(ops.Dense(), np.array([[True], [False]]))
    >>> np.asarray(some.kernel_gradient(x, gains, np.ones((1, 1), "float32"))).tolist()
    [[3.0]]
    """

    linear_map: LinearMap
    present: Tensor

    @property
    def whole(self) -> LinearMap:
        """The map of all samples."""
        return self.linear_map.whole

    def counted(self, outputs: Tensor) -> Tensor:
        """Return the outputs, 0 for samples that do not count."""
        return ops.where(self.present, outputs, ops.zeros_like(outputs))

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of the samples that count, on all replicas; 0 if there are none."""
        every = ops.cast(ops.broadcast_to(self.present, self._shape(values)), values.dtype)
        own = ops.sum(ops.where(every > 0, values * every, 0.0))
        sums, count = backend.replica_sums([own, ops.sum(every)])
        return sums / ops.maximum(count, 1.0)

    def apply(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """Return the outputs of the map."""
        return self.linear_map.apply(inputs, kernel)

    def input_gradient(self, upstream: Tensor, kernel: Tensor, inputs: Tensor) -> Tensor:
        """Send the error of the samples that count down."""
        return self.linear_map.input_gradient(self.counted(upstream), kernel, inputs)

    def kernel_gradient(self, inputs: Tensor, upstream: Tensor, kernel: Tensor) -> Tensor:
        """Correlate activity with the error of the samples that count."""
        return self.linear_map.kernel_gradient(inputs, self.counted(upstream), kernel)

    def fans(self, kernel_shape: tuple[int, ...]) -> tuple[int, int]:
        """Those of the map."""
        return self.linear_map.fans(kernel_shape)

    def unit_axes(self, rank: int) -> tuple[int, ...]:
        """Those of the map."""
        return self.linear_map.unit_axes(rank)

    def samples(self, outputs: Tensor) -> Tensor:
        """Return how many samples count, so that it broadcasts against a kernel."""
        return self.linear_map.unit_sum(ops.cast(self.present, outputs.dtype))

    def unit_sum(self, outputs: Tensor) -> Tensor:
        """Return the sum over the samples that count."""
        return self.linear_map.unit_sum(self.counted(outputs))

    def unit_products(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the products of the samples that count."""
        return self.linear_map.unit_products(self.counted(first), self.counted(second))

    def _shape(self, values: Tensor) -> tuple[Tensor, ...]:
        pairs = zip(ops.shape(self.present), ops.shape(values), strict=True)
        return tuple(theirs if mine == 1 else mine for mine, theirs in pairs)
