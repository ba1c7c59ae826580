"""Torch: custom gradients, convolution adjoints, replicas."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from keras import ops

if TYPE_CHECKING:
    from keras_local.ops.linear_maps import Convolution


class _Operation(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, forward: Callable[..., torch.Tensor], backward: Any, *tensors: torch.Tensor
    ) -> torch.Tensor:
        outputs = forward(*tensors)
        context.save_for_backward(outputs, *tensors)
        context.gradient = backward
        return outputs

    @staticmethod
    def backward(context: Any, upstream: torch.Tensor) -> Any:
        with torch.no_grad():
            return None, None, *context.gradient(upstream, *context.saved_tensors)


def with_gradient(
    forward: Callable[..., torch.Tensor], backward: Callable[..., Any], *tensors: Any
) -> torch.Tensor:
    """Compute `forward(*tensors)` with `backward(upstream, outputs, *tensors)` as its gradient."""
    return _Operation.apply(forward, backward, *(ops.convert_to_tensor(t) for t in tensors))


def matmul(
    a: torch.Tensor, b: torch.Tensor, transpose_a: bool = False, transpose_b: bool = False
) -> torch.Tensor:
    """Multiply matrices; transposes are views."""
    return torch.matmul(a.mT if transpose_a else a, b.mT if transpose_b else b)


def conv_input_gradient(
    linear_map: Convolution, upstream: torch.Tensor, kernel: torch.Tensor, inputs: torch.Tensor
) -> torch.Tensor:
    """Return the input half of `aten::convolution_backward`."""
    padded, amounts = _pad(linear_map, _channels_first(linear_map, inputs), kernel)
    gradient = _convolution_backward(linear_map, upstream, padded, kernel, (True, False, False))[0]
    for axis, (before, after) in enumerate(amounts, start=2):
        gradient = gradient.narrow(axis, before, gradient.shape[axis] - before - after)
    return _channels_last(linear_map, gradient)


def conv_kernel_gradient(
    linear_map: Convolution, inputs: torch.Tensor, upstream: torch.Tensor, kernel: torch.Tensor
) -> torch.Tensor:
    """Return the kernel half of `aten::convolution_backward`."""
    padded, _ = _pad(linear_map, _channels_first(linear_map, inputs), kernel)
    gradient = _convolution_backward(linear_map, upstream, padded, kernel, (False, True, False))[1]
    return gradient.permute(*range(2, gradient.ndim), 1, 0)


def take_rows(variable: Any, rows: torch.Tensor) -> torch.Tensor:
    """Read rows of a variable."""
    return torch.index_select(variable, 0, rows.to(torch.int64))


def write_rows(variable: Any, rows: torch.Tensor, values: torch.Tensor) -> None:
    """Write rows of a Keras variable."""
    variable.assign(variable.value.index_copy(0, rows.to(torch.int64), values))


def replica_sum(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor: Keras has no data-parallel step on Torch."""
    return tensor


def replica_count() -> int:
    """Return 1: Keras has no data-parallel step on Torch."""
    return 1


def _channels_first(linear_map: Convolution, tensor: torch.Tensor) -> torch.Tensor:
    return tensor if linear_map.data_format == "channels_first" else tensor.movedim(-1, 1)


def _channels_last(linear_map: Convolution, tensor: torch.Tensor) -> torch.Tensor:
    return tensor if linear_map.data_format == "channels_first" else tensor.movedim(1, -1)


def _pad(
    linear_map: Convolution, inputs: torch.Tensor, kernel: torch.Tensor
) -> tuple[torch.Tensor, list[tuple[int, int]]]:
    """Pad as TensorFlow's "same" does: the odd one goes behind."""
    amounts = [(0, 0)] * len(linear_map.strides)
    if linear_map.padding == "same":
        for i, (stride, rate) in enumerate(
            zip(linear_map.strides, linear_map.dilation_rate, strict=True)
        ):
            size = inputs.shape[2 + i]
            reach = (kernel.shape[i] - 1) * rate + 1
            total = max((-(-size // stride) - 1) * stride + reach - size, 0)
            amounts[i] = (total // 2, total - total // 2)
    flat = [amount for pair in reversed(amounts) for amount in pair]
    return torch.nn.functional.pad(inputs, flat), amounts


def _convolution_backward(
    linear_map: Convolution,
    upstream: torch.Tensor,
    padded: torch.Tensor,
    kernel: torch.Tensor,
    wanted: tuple[bool, bool, bool],
) -> Any:
    rank = len(linear_map.strides)
    weight = kernel.permute(-1, -2, *range(rank))
    return torch.ops.aten.convolution_backward(
        _channels_first(linear_map, upstream),
        padded,
        weight,
        None,
        list(linear_map.strides),
        [0] * rank,
        list(linear_map.dilation_rate),
        False,
        [0] * rank,
        padded.shape[1] // weight.shape[1],
        list(wanted),
    )
