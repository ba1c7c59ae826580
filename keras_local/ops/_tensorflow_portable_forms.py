"""Operations that runtimes on devices lack, as formulas of those that they have."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

Form = Callable[..., Sequence[tf.Tensor]]


def _where(condition: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    return tf.where(condition, upstream, tf.zeros_like(upstream))


# The converter of LiteRT fuses a clip with the product of matrices before it, and loses the clip
# where the second matrix is a variable: a comparison and a choice are not fused.


def _relu(op: Any, x: tf.Tensor) -> Sequence[tf.Tensor]:
    return [tf.where(x < 0.0, tf.zeros_like(x), x)]


def _relu6(op: Any, x: tf.Tensor) -> Sequence[tf.Tensor]:
    return [tf.where(x < 0.0, tf.zeros_like(x), tf.where(x > 6.0, 6.0 * tf.ones_like(x), x))]


def _leaky_relu(op: Any, x: tf.Tensor) -> Sequence[tf.Tensor]:
    return [tf.where(x < 0.0, op.get_attr("alpha") * x, x)]


def _maximum(op: Any, x: tf.Tensor, y: tf.Tensor) -> Sequence[tf.Tensor]:
    return [tf.where(x < y, y, x)]


def _minimum(op: Any, x: tf.Tensor, y: tf.Tensor) -> Sequence[tf.Tensor]:
    return [tf.where(x > y, y, x)]


def _relu6_grad(op: Any, upstream: tf.Tensor, x: tf.Tensor) -> Sequence[tf.Tensor]:
    return [_where(tf.logical_and(x > 0.0, x < 6.0), upstream)]


def _leaky_relu_grad(op: Any, upstream: tf.Tensor, x: tf.Tensor) -> Sequence[tf.Tensor]:
    return [tf.where(x > 0.0, upstream, op.get_attr("alpha") * upstream)]


def _elu_grad(op: Any, upstream: tf.Tensor, y: tf.Tensor) -> Sequence[tf.Tensor]:
    return [tf.where(y < 0.0, upstream * (y + 1.0), upstream)]


def _selu_grad(op: Any, upstream: tf.Tensor, y: tf.Tensor) -> Sequence[tf.Tensor]:
    scale, scaled_alpha = 1.0507009873554805, 1.7580993408473766
    return [tf.where(y < 0.0, upstream * (y + scaled_alpha), upstream * scale)]


def _bias_add_grad(op: Any, upstream: tf.Tensor) -> Sequence[tf.Tensor]:
    _refuse_channels_first(op)
    return [tf.reduce_sum(upstream, axis=list(range(upstream.shape.rank - 1)))]


def _softplus(op: Any, x: tf.Tensor) -> Sequence[tf.Tensor]:
    return [_relu(op, x)[0] + tf.math.log(1.0 + tf.exp(-tf.abs(x)))]


def _is_finite(op: Any, x: tf.Tensor) -> Sequence[tf.Tensor]:
    return [tf.abs(x) <= x.dtype.max]


def _erfc(op: Any, x: tf.Tensor) -> Sequence[tf.Tensor]:
    """Return `1 - erf(x)`, with an error of at most 2e-7 (Abramowitz & Stegun 7.1.26)."""
    t, total = 1.0 / (1.0 + 0.3275911 * tf.abs(x)), 0.0
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        total = (total + factor) * t
    tail = total * tf.exp(-x * x)
    return [tf.where(x < 0.0, 2.0 - tail, tail)]


def _broadcast_gradient_args(op: Any, *shapes: tf.Tensor) -> Sequence[tf.Tensor]:
    """Return along which axes two tensors were repeated: those of length 1 against others."""
    sources = [tensor.op for tensor in op.inputs]
    if any(source.type != "Shape" for source in sources):
        raise NotImplementedError("a product of tensors of unknown shapes")
    if any(source.inputs[0].shape.rank is None for source in sources):
        raise NotImplementedError("tensors that a loop keeps for its gradient")
    first, second = ([*source.inputs[0].shape] for source in sources)
    rank = max(len(first), len(second))
    first, second = ([1] * (rank - len(each)) + each for each in (first, second))
    for one, other in zip(first, second, strict=True):
        if one != other and 1 not in (one, other):
            raise NotImplementedError("a free size against another one")
    return [
        tf.constant([i for i in range(rank) if own[i] == 1 != other[i]], tf.int32)
        for own, other in ((first, second), (second, first))
    ]


def _sparse_cross_entropy(op: Any, logits: tf.Tensor, labels: tf.Tensor) -> Sequence[tf.Tensor]:
    rows = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return _cross_entropy(op, logits, rows)


def _cross_entropy(op: Any, logits: tf.Tensor, rows: tf.Tensor) -> Sequence[tf.Tensor]:
    shifted = logits - tf.reduce_max(logits, axis=-1, keepdims=True)
    powers = tf.exp(shifted)
    total = tf.reduce_sum(powers, axis=-1, keepdims=True)
    loss = -tf.reduce_sum(rows * (shifted - tf.math.log(total)), axis=-1)
    return [loss, powers / total - rows]


def _bitwise_and(op: Any, x: tf.Tensor, mask: tf.Tensor) -> Sequence[tf.Tensor]:
    """Return `x & mask` for the mask of a power of two, less one: the rest of a division.

    And for that of the sign.
    """
    known = tf.get_static_value(op.inputs[1])
    if known is not None and known.size == 1 and known.item() == x.dtype.min:
        return [tf.where(x < 0, tf.ones_like(x) * x.dtype.min, tf.zeros_like(x))]
    if known is None or known.size != 1 or (int(known.item()) + 1) & int(known.item()):
        raise NotImplementedError(
            "only `&` with a sign, or a power of two less one, has another form"
        )
    return [tf.math.floormod(x, tf.constant(int(known.item()) + 1, x.dtype))]


# Convolutions.


def _kernel_gradient(
    op: Any, inputs: tf.Tensor, sizes: tf.Tensor, upstream: tf.Tensor
) -> Sequence[tf.Tensor]:
    """Return the convolution of the inputs with the errors: batch and channels change places.

    `dW[i] = sum_np x[n, i * dilation + p * stride] g[n, p]`, so that stride and dilation change
    places, too.
    """
    strides, dilations = _window(op)
    kernel = _static(op.outputs[0].shape)
    if inputs.shape[-1] != kernel[2]:
        raise NotImplementedError("groups of channels")
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel[:2], strict=True)]
    sides, ends = _static(inputs.shape[1:3]), _static(upstream.shape[1:3])
    padded = _fitted(inputs, sides, ends, strides, reach, _padding(op, sides, ends, strides, reach))
    if upstream.shape[0] is None:
        # A kernel with an axis of unknown length is no kernel to a runtime.
        taps = [tap for _, tap in _taps(padded, ends, strides, reach, dilations)]
        rows = tf.reshape(tf.concat(taps, axis=-1), (-1, math.prod(kernel[:3])))
        errors = tf.reshape(upstream, (-1, kernel[3]))
        return [tf.reshape(tf.matmul(rows, errors, transpose_a=True), kernel)]
    found = tf.nn.conv2d(
        tf.transpose(padded, (3, 1, 2, 0)),
        tf.transpose(upstream, (1, 2, 0, 3)),
        strides=dilations,
        padding="VALID",
        dilations=strides,
    )
    gradient = tf.transpose(found, (1, 2, 0, 3))
    gradient.set_shape(kernel)
    return [gradient]


def _input_gradient(
    op: Any, sizes: tf.Tensor, kernel: tf.Tensor, upstream: tf.Tensor
) -> Sequence[tf.Tensor]:
    """Return the convolution of the errors, with zeros between them, and the turned kernel."""
    strides, dilations = _window(op)
    shape = _static(kernel.shape)
    if upstream.shape[-1] != shape[3] or op.outputs[0].shape[-1] != shape[2]:
        raise NotImplementedError("groups of channels")
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, shape[:2], strict=True)]
    sides, ends = _static(op.outputs[0].shape[1:3]), _static(upstream.shape[1:3])
    before = _padding(op, sides, ends, strides, reach)
    spread = _spread(upstream, strides)
    amounts, cuts = [(0, 0)], []
    for side, end, stride, length, pad in zip(sides, ends, strides, reach, before, strict=True):
        first = length - 1 - pad
        last = side + length - 1 - first - ((end - 1) * stride + 1)
        amounts.append((max(first, 0), max(last, 0)))
        cuts.append((max(-first, 0), max(-last, 0)))
    spread = _cut(tf.pad(spread, [*amounts, (0, 0)]), cuts)
    turned = tf.transpose(tf.reverse(kernel, (0, 1)), (0, 1, 3, 2))
    return [tf.nn.conv2d(spread, turned, strides=1, padding="VALID", dilations=dilations)]


def _max_pool_grad(
    op: Any, inputs: tf.Tensor, outputs: tf.Tensor, upstream: tf.Tensor
) -> Sequence[tf.Tensor]:
    """Send each error to the first of the largest inputs of its window."""
    taken = tf.zeros_like(outputs)

    def share(tap: tf.Tensor) -> tf.Tensor:
        nonlocal taken
        first = tf.cast(tf.equal(tap, outputs), outputs.dtype) * (1.0 - taken)
        taken = taken + first
        return first * upstream

    return [_pooled(op, inputs, upstream, share, -math.inf)]


def _avg_pool_grad(op: Any, sizes: tf.Tensor, upstream: tf.Tensor) -> Sequence[tf.Tensor]:
    """Send each error in equal parts to the inputs of its window that are no padding."""
    ones = tf.ones((1, *_static(op.outputs[0].shape[1:3]), 1), upstream.dtype)
    _, strides, reach = _pool_window(op)
    sides, ends = _static(ones.shape[1:3]), _static(upstream.shape[1:3])
    pads = _padding(op, sides, ends, strides, reach)
    window = _fitted(ones, sides, ends, strides, reach, pads)
    count = tf.add_n([tap for _, tap in _taps(window, ends, strides, reach)])
    part = upstream / count
    shape = (1, *sides, 1)
    return [_pooled(op, tf.zeros(shape, upstream.dtype), upstream, lambda tap: part, 0.0)]


def _pooled(
    op: Any,
    inputs: tf.Tensor,
    upstream: tf.Tensor,
    share: Callable[[tf.Tensor], tf.Tensor],
    outside: float,
) -> tf.Tensor:
    """Return the sum over the places of a window of what each place gets of the errors."""
    _, strides, reach = _pool_window(op)
    sides, ends = _static(inputs.shape[1:3]), _static(upstream.shape[1:3])
    pads = _padding(op, sides, ends, strides, reach)
    window = _fitted(inputs, sides, ends, strides, reach, pads, outside)
    length = [
        (end - 1) * stride + size for end, stride, size in zip(ends, strides, reach, strict=True)
    ]
    total = None
    for place, tap in _taps(window, ends, strides, reach):
        spread = _spread(share(tap), strides)
        behind = [length[i] - place[i] - ((ends[i] - 1) * strides[i] + 1) for i in range(2)]
        spread = tf.pad(spread, [(0, 0), (place[0], behind[0]), (place[1], behind[1]), (0, 0)])
        total = spread if total is None else total + spread
    amounts, cuts = [(0, 0)], []
    for side, pad, size in zip(sides, pads, length, strict=True):
        cuts.append((pad, max(size - pad - side, 0)))
        amounts.append((0, max(side + pad - size, 0)))
    return _cut(tf.pad(total, [*amounts, (0, 0)]), cuts)


def _taps(
    window: tf.Tensor, ends: Any, strides: Any, reach: Any, dilations: Any = (1, 1)
) -> list[tuple[Any, tf.Tensor]]:
    """Return the inputs at each place of all windows, `(batch, *ends, channels)`."""
    found = []
    for row in range(0, reach[0], dilations[0]):
        for column in range(0, reach[1], dilations[1]):
            last = [row + (ends[0] - 1) * strides[0] + 1, column + (ends[1] - 1) * strides[1] + 1]
            tap = window[:, row : last[0] : strides[0], column : last[1] : strides[1]]
            found.append(((row, column), tap))
    return found


def _pool_window(op: Any) -> tuple[None, list[int], list[int]]:
    _refuse_channels_first(op)
    return None, list(op.get_attr("strides")[1:3]), list(op.get_attr("ksize")[1:3])


def _window(op: Any) -> tuple[list[int], list[int]]:
    _refuse_channels_first(op)
    return list(op.get_attr("strides")[1:3]), list(op.get_attr("dilations")[1:3])


def _refuse_channels_first(op: Any) -> None:
    if op.get_attr("data_format") != b"NHWC":
        raise NotImplementedError("channels first")


def _static(shape: Any) -> tuple[int, ...]:
    sizes = tuple(shape)
    if any(size is None for size in sizes):
        raise NotImplementedError("images of a size that is not known")
    return tuple(int(size) for size in sizes)


def _padding(op: Any, sides: Any, ends: Any, strides: Any, reach: Any) -> list[int]:
    """Return how many zeros come before the inputs, along each axis."""
    padding = op.get_attr("padding")
    if padding == b"VALID":
        return [0, 0]
    if padding != b"SAME":
        raise NotImplementedError("padding that is neither valid nor same")
    sums = [
        max((end - 1) * stride + size - side, 0)
        for side, end, stride, size in zip(sides, ends, strides, reach, strict=True)
    ]
    return [total // 2 for total in sums]


def _fitted(
    inputs: tf.Tensor,
    sides: Any,
    ends: Any,
    strides: Any,
    reach: Any,
    before: Sequence[int],
    outside: float = 0.0,
) -> tf.Tensor:
    """Return exactly those inputs that the windows see, with padding."""
    amounts, cuts = [(0, 0)], []
    for side, end, stride, size, pad in zip(sides, ends, strides, reach, before, strict=True):
        behind = (end - 1) * stride + size - pad - side
        amounts.append((pad, max(behind, 0)))
        cuts.append((0, max(-behind, 0)))
    amounts.append((0, 0))
    if any(map(any, amounts)):
        value = inputs.dtype.min if outside == -math.inf else outside
        inputs = tf.pad(inputs, amounts, constant_values=value)
    return _cut(inputs, cuts)


def _cut(images: tf.Tensor, cuts: Sequence[tuple[int, int]]) -> tf.Tensor:
    if not any(map(any, cuts)):
        return images
    (top, bottom), (left, right) = cuts
    height, width = images.shape[1:3]
    return images[:, top : height - bottom, left : width - right]


def _spread(images: tf.Tensor, strides: Sequence[int]) -> tf.Tensor:
    """Return images with `stride - 1` zeros between neighbours."""
    for axis, stride in zip((1, 2), strides, strict=True):
        if stride == 1:
            continue
        size, channels = images.shape[axis], images.shape[3]
        other = images.shape[3 - axis]
        rows = size if axis == 1 else other * size
        inner = other * channels if axis == 1 else channels
        flat = tf.reshape(images, (-1, rows, 1, inner))
        flat = tf.pad(flat, ((0, 0), (0, 0), (0, stride - 1), (0, 0)))
        long = (
            (-1, size * stride, other, channels)
            if axis == 1
            else (-1, other, size * stride, channels)
        )
        images = tf.reshape(flat, long)
        images = _cut(images, [(0, stride - 1), (0, 0)] if axis == 1 else [(0, 0), (0, stride - 1)])
    return images


def _matrix_solve(op: Any, matrix: tf.Tensor, sides: tf.Tensor) -> Sequence[tf.Tensor]:
    """Eliminate one unknown after the other, the largest of each column first."""
    size = matrix.shape[-1]
    if matrix.shape.rank != 2 or size is None:
        raise NotImplementedError("a batch of equations")
    if op.get_attr("adjoint"):
        matrix = tf.transpose(matrix)
    units = tf.eye(size, dtype=matrix.dtype)
    rows, order = tf.concat([matrix, sides], axis=1), tf.zeros_like(units)

    def eliminate(k: tf.Tensor, rows: tf.Tensor, free: tf.Tensor, order: tf.Tensor) -> Any:
        unit = tf.one_hot(k, size, dtype=matrix.dtype)[:, None]
        column = rows[:, :size] @ unit
        best = tf.argmax(tf.abs(column) * free - (1.0 - free), axis=0, output_type=tf.int32)
        pivot = tf.transpose(tf.one_hot(best, size, dtype=matrix.dtype))
        own = tf.transpose(pivot) @ rows
        row = own / (own[:, :size] @ unit)
        rows = rows - ((1.0 - pivot) * column) @ row + pivot @ (row - own)
        return k + 1, rows, free - pivot, order + unit @ tf.transpose(pivot)

    start = (tf.constant(0), rows, tf.ones((size, 1), matrix.dtype), order)
    _, rows, _, order = tf.while_loop(lambda k, *rest: k < size, eliminate, start)
    return [order @ rows[:, size:]]


FORMS: dict[str, Form] = {
    "Relu": _relu,
    "Relu6": _relu6,
    "LeakyRelu": _leaky_relu,
    "Maximum": _maximum,
    "Minimum": _minimum,
    "ReluGrad": lambda op, upstream, y: [_where(y > 0.0, upstream)],
    "Relu6Grad": _relu6_grad,
    "LeakyReluGrad": _leaky_relu_grad,
    "EluGrad": _elu_grad,
    "SeluGrad": _selu_grad,
    "TanhGrad": lambda op, y, upstream: [upstream * (1.0 - y * y)],
    "SigmoidGrad": lambda op, y, upstream: [upstream * y * (1.0 - y)],
    "Softplus": _softplus,
    "SoftplusGrad": lambda op, upstream, x: [upstream * tf.sigmoid(x)],
    "SoftsignGrad": lambda op, upstream, x: [upstream / tf.square(1.0 + tf.abs(x))],
    "SqrtGrad": lambda op, y, upstream: [0.5 * upstream / y],
    "RsqrtGrad": lambda op, y, upstream: [-0.5 * upstream * y * y * y],
    "ReciprocalGrad": lambda op, y, upstream: [-upstream * y * y],
    "Expm1": lambda op, x: [tf.exp(x) - 1.0],
    "Log1p": lambda op, x: [tf.math.log(1.0 + x)],
    "BroadcastGradientArgs": _broadcast_gradient_args,
    "Erf": lambda op, x: [1.0 - _erfc(op, x)[0]],
    "Erfc": _erfc,
    "BiasAddGrad": _bias_add_grad,
    "IsFinite": _is_finite,
    "IsNan": lambda op, x: [tf.not_equal(x, x)],
    "BitwiseAnd": _bitwise_and,
    "SparseSoftmaxCrossEntropyWithLogits": _sparse_cross_entropy,
    "SoftmaxCrossEntropyWithLogits": _cross_entropy,
    "Conv2DBackpropFilter": _kernel_gradient,
    "Conv2DBackpropInput": _input_gradient,
    "MaxPoolGrad": _max_pool_grad,
    "AvgPoolGrad": _avg_pool_grad,
    "MatrixSolve": _matrix_solve,
}
"""Type of an operation to a function of the operation and the new values of its inputs."""
