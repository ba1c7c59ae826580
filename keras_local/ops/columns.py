"""Linear maps of the kernels of recurrent layers: the columns of several gates side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from keras import ops

from keras_local.ops.backend import Tensor
from keras_local.ops.linear_maps import Dense, LinearMap

_DENSE = Dense()


@dataclass(frozen=True)
class Columns(LinearMap):
    """`y = x @ kernel[:, first:last]`, each group of columns behind a mask of its own.

    With masks, as dropout draws one for each gate, it is
    `y = [x m_1 @ K_1, x m_2 @ K_2, ...]` with the columns in groups of equal width.

    Args:
        first: The first column.
        last: The first column that is left out; None for all from `first` on.
        masks: Tensors that broadcast against the inputs, one for each group; empty for none.

    >>> import numpy as np
    >>> from keras_local import ops
    >>> kernel = np.array([[1.0, 2.0, 3.0]], "float32")
    >>> np.asarray(ops.Columns(1).apply(np.ones((1, 1), "float32"), kernel)).tolist()
    [[2.0, 3.0]]
    """

    first: int = 0
    last: int | None = None
    masks: tuple[Tensor, ...] = ()

    def _groups(self, tensor: Tensor) -> Sequence[Tensor]:
        return list(ops.split(tensor, len(self.masks), axis=-1))

    def _cut(self, kernel: Tensor) -> Tensor:
        whole = not self.first and self.last is None
        return kernel if whole else kernel[:, self.first : self.last]

    def apply(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """Return the products, side by side."""
        kernel = self._cut(kernel)
        if not self.masks:
            return _DENSE.apply(inputs, kernel)
        pairs = zip(self.masks, self._groups(kernel), strict=True)
        parts = [_DENSE.apply(inputs * mask, group) for mask, group in pairs]
        return ops.concatenate(parts, axis=-1)

    def input_gradient(self, upstream: Tensor, kernel: Tensor, inputs: Tensor) -> Tensor:
        """Send the error down through the columns, and the masks."""
        kernel = self._cut(kernel)
        if not self.masks:
            return _DENSE.input_gradient(upstream, kernel, inputs)
        groups = zip(self.masks, self._groups(upstream), self._groups(kernel), strict=True)
        sent = [mask * _DENSE.input_gradient(error, part, inputs) for mask, error, part in groups]
        return sum(sent[1:], sent[0])

    def sender(self, kernel: Tensor) -> Callable[[Tensor], Tensor]:
        """Return `input_gradient` as a function of the error alone: the kernel is turned once.

        Args:
            kernel: What carries the error.
        """
        turned = ops.transpose(self._cut(kernel))
        if not self.masks:
            return lambda upstream: ops.matmul(upstream, turned)
        parts = ops.split(turned, len(self.masks), axis=0)

        def send(upstream: Tensor) -> Tensor:
            groups = zip(self.masks, self._groups(upstream), parts, strict=True)
            sent = [mask * ops.matmul(error, part) for mask, error, part in groups]
            return sum(sent[1:], sent[0])

        return send

    def kernel_gradient(self, inputs: Tensor, upstream: Tensor, kernel: Tensor) -> Tensor:
        """Correlate activity with error; zero in the other columns."""
        if self.masks:
            groups = zip(self.masks, self._groups(upstream), strict=True)
            parts = [_DENSE.kernel_gradient(inputs * mask, up, kernel) for mask, up in groups]
            product = ops.concatenate(parts, axis=-1)
        else:
            product = _DENSE.kernel_gradient(inputs, upstream, kernel)
        columns = kernel.shape[-1]
        behind = columns - (columns if self.last is None else self.last)
        if not self.first and not behind:
            return product
        return ops.pad(product, ((0, 0), (self.first, behind)))

    def fans(self, kernel_shape: tuple[int, ...]) -> tuple[int, int]:
        """The rows of the kernel, and the number of the columns."""
        rows, columns = kernel_shape
        return rows, (columns if self.last is None else self.last) - self.first


@dataclass(frozen=True)
class Joined(LinearMap):
    """Several maps that share a kernel, of inputs side by side: `y = [M_1(x_1, K), M_2(x_2, K)]`.

    A cell that multiplies its state by a gate before the product has two messages for one kernel.

    Args:
        maps: The maps; their inputs have one size.

    >>> import numpy as np
    >>> from keras_local import ops
    >>> both = ops.Joined((ops.Columns(0, 1), ops.Columns(1)))
    >>> x, kernel = np.array([[1.0, 10.0]], "float32"), np.array([[2.0, 3.0]], "float32")
    >>> np.asarray(both.apply(x, kernel)).tolist()
    [[2.0, 30.0]]
    """

    maps: tuple[Columns, ...]

    def _inputs(self, inputs: Tensor) -> Sequence[Tensor]:
        return list(ops.split(inputs, len(self.maps), axis=-1))

    def _outputs(self, outputs: Tensor, kernel: Tensor) -> list[Tensor]:
        found, start = [], 0
        for each in self.maps:
            width = each.fans(tuple(kernel.shape))[1]
            found.append(outputs[..., start : start + width])
            start += width
        return found

    def apply(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """Return the outputs of the maps, side by side."""
        pairs = zip(self.maps, self._inputs(inputs), strict=True)
        return ops.concatenate([each.apply(part, kernel) for each, part in pairs], axis=-1)

    def input_gradient(self, upstream: Tensor, kernel: Tensor, inputs: Tensor) -> Tensor:
        """Send each part of the error down through its map."""
        parts = zip(self.maps, self._outputs(upstream, kernel), self._inputs(inputs), strict=True)
        sent = [each.input_gradient(error, kernel, part) for each, error, part in parts]
        return ops.concatenate(sent, axis=-1)

    def kernel_gradient(self, inputs: Tensor, upstream: Tensor, kernel: Tensor) -> Tensor:
        """Return the sum of what the maps give."""
        parts = zip(self.maps, self._inputs(inputs), self._outputs(upstream, kernel), strict=True)
        products = [each.kernel_gradient(part, error, kernel) for each, part, error in parts]
        return sum(products[1:], products[0])

    def fans(self, kernel_shape: tuple[int, ...]) -> tuple[int, int]:
        """The rows and the columns of the kernel."""
        return kernel_shape[0], kernel_shape[1]
