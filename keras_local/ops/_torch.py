"""Torch: custom gradients, convolution adjoints, replicas."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from keras import ops

if TYPE_CHECKING:
    from keras_local.ops.depthwise import DepthwiseConvolution
    from keras_local.ops.linear_maps import Convolution
    from keras_local.ops.locally_connected import Windows
    from keras_local.ops.transposed import TransposedConvolution


class _Operation(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, forward: Callable[..., Any], backward: Any, *tensors: torch.Tensor
    ) -> Any:
        outputs = forward(*tensors)
        several = isinstance(outputs, tuple)
        context.count = len(outputs) if several else None
        context.save_for_backward(*(outputs if several else (outputs,)), *tensors)
        context.gradient = backward
        return outputs

    @staticmethod
    def backward(context: Any, *upstream: torch.Tensor) -> Any:
        count, saved = context.count, context.saved_tensors
        if count is None:
            arguments = (*upstream, *saved)
        else:
            arguments = (upstream, saved[:count], *saved[count:])
        with torch.no_grad():
            return None, None, *context.gradient(*arguments)


def with_gradient(
    forward: Callable[..., torch.Tensor],
    backward: Callable[..., Any],
    *tensors: Any,
    independent: int = 2,
) -> torch.Tensor:
    """Compute `forward(*tensors)` with `backward(upstream, outputs, *tensors)` as its gradient."""
    return _Operation.apply(forward, backward, *(ops.convert_to_tensor(t) for t in tensors))


def is_sparse(tensor: Any) -> bool:
    """Return False: Keras has no sparse tensors here."""
    return False


def after(tensor: Any, others: Any) -> Any:
    """Return the tensor: operations run in the order in which they are written."""
    return tensor


def gradients(function: Callable[..., torch.Tensor], tensors: list[Any]) -> list[torch.Tensor]:
    """Differentiate a scalar function of tensors."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    with torch.enable_grad():
        value = function(*leaves)
    found = torch.autograd.grad(value, leaves, allow_unused=True)
    pairs = zip(leaves, found, strict=True)
    return [torch.zeros_like(leaf) if each is None else each for leaf, each in pairs]


def scan(
    step: Callable[[Any, Any], tuple[Any, Any]],
    carry: tuple[torch.Tensor, ...],
    sequences: tuple[torch.Tensor, ...],
    like: Sequence[tuple[Any, Any]],
    reverse: bool = False,
) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    """Return the last carry and the stacked outputs of a step along the first axis."""
    elements = list(zip(*sequences, strict=True))
    written = []
    for element in reversed(elements) if reverse else elements:
        carry, outputs = step(carry, element)
        written.append(outputs)
    in_order = reversed(written) if reverse else written
    return carry, tuple(torch.stack(each) for each in zip(*in_order, strict=True))


differentiable_scan = scan
"""Gradients return through every loop."""


def pull_back(
    function: Callable[..., Any], tensors: Sequence[torch.Tensor], upstream: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """Return the errors at the tensors for those at the several outputs of a function."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    with torch.enable_grad():
        outputs = tuple(function(*leaves))
    errors = [error.to(each.dtype) for error, each in zip(upstream, outputs, strict=True)]
    found = torch.autograd.grad(outputs, leaves, errors, allow_unused=True)
    pairs = zip(leaves, found, strict=True)
    return [torch.zeros_like(leaf) if each is None else each for leaf, each in pairs]


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


def depthwise_input_gradient(
    linear_map: DepthwiseConvolution,
    upstream: torch.Tensor,
    kernel: torch.Tensor,
    inputs: torch.Tensor,
) -> torch.Tensor:
    """Return the input half of `aten::convolution_backward`, a group for each channel."""
    return conv_input_gradient(linear_map.convolution, upstream, _grouped(kernel), inputs)


def depthwise_kernel_gradient(
    linear_map: DepthwiseConvolution,
    inputs: torch.Tensor,
    upstream: torch.Tensor,
    kernel: torch.Tensor,
) -> torch.Tensor:
    """Return the kernel half of `aten::convolution_backward`, a group for each channel."""
    gradient = conv_kernel_gradient(linear_map.convolution, inputs, upstream, _grouped(kernel))
    return gradient.reshape(kernel.shape)


def transposed_input_gradient(
    linear_map: TransposedConvolution,
    upstream: torch.Tensor,
    kernel: torch.Tensor,
    inputs: torch.Tensor,
) -> torch.Tensor:
    """Return the convolution of `upstream`, in its size before the crop, with `kernel`."""
    convolution, uncropped = _uncropped(linear_map, upstream, kernel, inputs)
    return convolution.apply(uncropped, kernel)


def transposed_kernel_gradient(
    linear_map: TransposedConvolution,
    inputs: torch.Tensor,
    upstream: torch.Tensor,
    kernel: torch.Tensor,
) -> torch.Tensor:
    """Return the convolution's kernel gradient, with activity and error exchanged."""
    convolution, uncropped = _uncropped(linear_map, upstream, kernel, inputs)
    return conv_kernel_gradient(convolution, uncropped, inputs, kernel)


def patches(inputs: torch.Tensor, windows: Windows) -> torch.Tensor:
    """Bring `(*space, c, batch)` to `(positions, taps * c, batch)`."""
    seen = torch.stack([inputs[window] for window in windows.slices()], len(windows.sizes))
    channels, batch = inputs.shape[-2:]
    rows = math.prod(windows.kernel_size) * channels
    return seen.reshape(math.prod(windows.positions), rows, batch)


def patches_adjoint(upstream: torch.Tensor, windows: Windows) -> torch.Tensor:
    """Sum patches where they overlap, tap by tap."""
    taps = math.prod(windows.kernel_size)
    channels, batch = upstream.shape[1] // taps, upstream.shape[-1]
    upstream = upstream.reshape(*windows.positions, taps, channels, batch)
    gradient = upstream.new_zeros(*windows.sizes, channels, batch)
    for window, part in zip(windows.slices(), upstream.unbind(-3), strict=True):
        gradient[window] += part
    return gradient


def read(variable: Any) -> torch.Tensor:
    """Read a Keras variable."""
    value: torch.Tensor = variable.value
    return value


def read_in_place(variable: Any) -> torch.Tensor:
    """Return the variable's tensor."""
    return read(variable)


def top_k(values: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the k largest entries of each row, in descending order, and their places."""
    return tuple(ops.top_k(values, k))


def distinct(indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each of the indices once, and for each entry its place among them."""
    values, places = torch.unique(indices, return_inverse=True)
    return values, places


def matrix_of_few(
    places: torch.Tensor, values: torch.Tensor, shape: tuple[int, int]
) -> torch.Tensor:
    """Return a matrix, for `matmul`, that is zero but for the given entries."""
    return ops.scatter(places, values, shape)


def take_rows(variable: Any, rows: torch.Tensor) -> torch.Tensor:
    """Read rows of a variable."""
    return torch.index_select(variable, 0, rows.to(torch.int64))


def write_rows(variable: Any, rows: torch.Tensor, values: torch.Tensor) -> None:
    """Write rows of a Keras variable."""
    variable.assign(variable.value.index_copy(0, rows.to(torch.int64), values))


def assured(tensor: torch.Tensor, condition: torch.Tensor, message: str) -> torch.Tensor:
    """Return the tensor, or raise an error: values are always there."""
    if not bool(condition):
        raise ValueError(message)
    return tensor


def replica_sums(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the tensors: Keras has no data-parallel step on Torch."""
    return tensors


def eagerly(function: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Return the value of the function, which can be computed at once."""
    return function()


def holds_values(tensor: torch.Tensor) -> bool:
    """Return whether a tensor that was computed eagerly is more than a shape."""
    return not tensor.is_meta


def replica_count() -> int:
    """Return 1: Keras has no data-parallel step on Torch."""
    return 1


def guarded_step(
    model: Any, step: Callable[..., Any], arguments: tuple[Any, ...], kept: Sequence[Any]
) -> Any:
    """Make a training step, and undo it unless loss and weights are finite; see `guarded`."""
    before = [variable.value.detach().clone() for variable in kept]
    logs = step(*arguments)
    finite = [torch.isfinite(each.value).all() for each in model.trainable_variables]
    if bool(torch.stack([torch.isfinite(torch.as_tensor(logs["loss"])).cpu(), *finite]).all()):
        return logs
    for variable, value in zip(kept, before, strict=True):
        variable.assign(value)
    nan = float("nan")
    model._loss_tracker.total.assign(nan)
    return {**logs, "loss": nan * torch.ones(())}


def of_block(
    forward: Callable[[Any], tuple[torch.Tensor, torch.Tensor | None, Any]],
    inputs: Any,
    variables: Sequence[Any],
) -> tuple[torch.Tensor, list[Any], Any]:
    """Return the outputs of a block, the gradients of its loss, and what else it returns.

    The gradients free the graph.
    """
    outputs, loss, found = forward(inputs)
    values = [variable.value for variable in variables]
    if loss is None or not values:
        return outputs, [None] * len(values), found
    return outputs, list(torch.autograd.grad(loss, values, allow_unused=True)), found


def in_state(model: Any, step: Callable[[Any], Any], arguments: tuple[Any, ...]) -> Any:
    """Make a training step: Keras passes no state here."""
    return step(*arguments)


def added_losses() -> list[torch.Tensor]:
    """Return nothing: layers know what their calls have added to the loss."""
    return []


def updates_in_parts(optimizer: Any) -> bool:
    """Return that they go in one, as Keras makes them for all weights together on PyTorch."""
    return False


def apply_gradients(optimizer: Any, gradients: list[Any], variables: list[Any]) -> None:
    """Let an optimizer make a step."""
    with torch.no_grad():
        optimizer.apply(gradients, variables)


def known(condition: torch.Tensor) -> bool | None:
    """Return the value of a condition, or None for a tensor without values."""
    return None if condition.device.type == "meta" else bool(condition)


def call_if(condition: torch.Tensor, function: Callable[[], None]) -> bool:
    """Return False: a condition that is not known has no value here."""
    return False


def in_strategy() -> bool:
    """Return False: only TensorFlow has `tf.distribute`."""
    return False


def replica_index() -> int:
    """Return 0: Keras has no data-parallel step on Torch."""
    return 0


def _channels_first(linear_map: Convolution, tensor: torch.Tensor) -> torch.Tensor:
    return tensor if linear_map.data_format == "channels_first" else tensor.movedim(-1, 1)


def _channels_last(linear_map: Convolution, tensor: torch.Tensor) -> torch.Tensor:
    return tensor if linear_map.data_format == "channels_first" else tensor.movedim(1, -1)


def _pad(
    linear_map: Convolution, inputs: torch.Tensor, kernel: torch.Tensor
) -> tuple[torch.Tensor, list[tuple[int, int]]]:
    """Pad like TensorFlow's "same": an odd zero goes to the end."""
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


def _grouped(kernel: torch.Tensor) -> torch.Tensor:
    return kernel.reshape(*kernel.shape[:-2], 1, -1)


def _uncropped(
    linear_map: TransposedConvolution,
    upstream: torch.Tensor,
    kernel: torch.Tensor,
    inputs: torch.Tensor,
) -> tuple[Convolution, torch.Tensor]:
    """Undo the crop by which keras.ops brings the full outputs to the size of `upstream`.

    For "same" an odd entry is cut off at the end, and added entries are at the end, too.
    """
    first = 2 if linear_map.data_format == "channels_first" else 1
    flat = [] if first == 2 else [0, 0]
    for i in reversed(range(len(linear_map.strides))):
        reach = (kernel.shape[i] - 1) * linear_map.dilation_rate[i] + 1
        natural = (inputs.shape[first + i] - 1) * linear_map.strides[i] + reach
        cut = natural - upstream.shape[first + i]
        before = max(cut, 0) // 2 if linear_map.padding == "same" else 0
        flat += [before, cut - before]
    valid = replace(linear_map.convolution, padding="valid")
    return valid, torch.nn.functional.pad(upstream, flat)


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
