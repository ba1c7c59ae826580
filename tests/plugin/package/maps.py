"""A linear map of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keras import ops

import keras_local as kl


@dataclass(frozen=True)
class Blocks(kl.ops.LinearMap):
    """A matrix of blocks on the diagonal: each group of inputs reaches its group of outputs.

    Shapes: inputs `(batch, n)`, kernel `(blocks, n / blocks, m / blocks)`, outputs `(batch, m)`.

    Args:
        damping: Factor on the error that is sent down.
    """

    damping: float = 1.0

    def _grouped(self, tensor: Any, kernel: Any) -> Any:
        blocks = kernel.shape[0]
        return ops.reshape(tensor, (-1, blocks, tensor.shape[-1] // blocks))

    def apply(self, inputs: Any, kernel: Any) -> Any:
        outputs = ops.einsum("bgi,gio->bgo", self._grouped(inputs, kernel), kernel)
        return ops.reshape(outputs, (-1, kernel.shape[0] * kernel.shape[2]))

    def input_gradient(self, upstream: Any, kernel: Any, inputs: Any) -> Any:
        sent = ops.einsum("bgo,gio->bgi", self._grouped(upstream, kernel), kernel)
        return self.damping * ops.reshape(sent, (-1, kernel.shape[0] * kernel.shape[1]))

    def kernel_gradient(self, inputs: Any, upstream: Any, kernel: Any) -> Any:
        grouped = self._grouped(inputs, kernel), self._grouped(upstream, kernel)
        return ops.einsum("bgi,bgo->gio", *grouped)

    def fans(self, kernel_shape: tuple[int, ...]) -> tuple[int, int]:
        return kernel_shape[1], kernel_shape[2]
