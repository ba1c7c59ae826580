"""A linear map whose outputs are scaled."""

from __future__ import annotations

from dataclasses import dataclass

from keras_local.ops.backend import Tensor
from keras_local.ops.linear_maps import LinearMap


@dataclass(frozen=True)
class Scaled(LinearMap):
    """The map `y = scale * M(x, kernel)`, with a scale that broadcasts against the outputs.

    With `scale = 1 / |patch|` it is the map of patches of unit length, which need not be stored.

    Args:
        linear_map: The map `M`.
        scale: Tensor that broadcasts against the outputs of the map.

    >>> import numpy as np
    >>> from keras_local import ops
    >>> x, kernel = np.array([[3.0, 4.0]], "float32"), np.array([[1.0], [1.0]], "float32")
    >>> unit = ops.Scaled(ops.Dense(), np.array([[0.2]], "float32"))
    >>> np.asarray(unit.apply(x, kernel)).round(4).tolist()
    [[1.4]]
    """

    linear_map: LinearMap
    scale: Tensor

    def apply(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """Return the scaled outputs."""
        return self.linear_map.apply(inputs, kernel) * self.scale

    def input_gradient(self, upstream: Tensor, kernel: Tensor, inputs: Tensor) -> Tensor:
        """Send the scaled error down."""
        return self.linear_map.input_gradient(upstream * self.scale, kernel, inputs)

    def kernel_gradient(self, inputs: Tensor, upstream: Tensor, kernel: Tensor) -> Tensor:
        """Correlate activity with the scaled error."""
        return self.linear_map.kernel_gradient(inputs, upstream * self.scale, kernel)

    def fans(self, kernel_shape: tuple[int, ...]) -> tuple[int, int]:
        """Return the fans of the map."""
        return self.linear_map.fans(kernel_shape)

    def unit_axes(self, rank: int) -> tuple[int, ...]:
        """Return the unit axes of the map."""
        return self.linear_map.unit_axes(rank)

    def samples(self, outputs: Tensor) -> Tensor:
        """Return the number of samples of the map."""
        return self.linear_map.samples(outputs)

    def unit_sum(self, outputs: Tensor) -> Tensor:
        """Return the unit sum of the map."""
        return self.linear_map.unit_sum(outputs)

    def unit_products(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the unit products of the map."""
        return self.linear_map.unit_products(first, second)
