"""Batch normalisation with a gradient that holds the inputs and nothing else."""

from __future__ import annotations

import keras
from keras import ops

from keras_local.ops.backend import Tensor, backend
from keras_local.ops.order import after
from keras_local.ops.precision import precise


def with_lean_gradient(layer: keras.layers.BatchNormalization, inputs: Tensor) -> Tensor:
    """Return a batch normalisation in training, whose gradient is written out.

    Of `y = gamma (x - m) / s + beta`, with mean `m` and deviation `s` of each channel over its `n`
    numbers in the batch, the gradients for an error `e` at `y` are `sum e` for `beta`,
    `g = sum e (x - m) / s` for `gamma`, and `gamma / s (e - sum e / n - (x - m) g / (s n))` for the
    inputs. They need `x`, which the layer below holds anyway. Automatic differentiation keeps
    several more tensors of the size of `x`.

    Args:
        layer: A built-in layer without `renorm` and `synchronized`, which learns.
        inputs: Its inputs.
    """
    inputs = ops.cast(inputs, layer.compute_dtype)
    outputs = ops.stop_gradient(layer(inputs, training=True))
    rank = len(inputs.shape)
    axes = [axis for axis in range(rank) if axis != layer.axis % rank]
    dtype = precise(inputs.dtype)

    def channels(weight: keras.Variable | None, start: float) -> Tensor:
        if weight is not None:
            return ops.convert_to_tensor(weight)
        return ops.full((inputs.shape[layer.axis],), start, dtype=dtype)

    def forward(x: Tensor, gamma: Tensor, beta: Tensor, y: Tensor) -> Tensor:
        return y

    def backward(
        error: Tensor, _: Tensor, x: Tensor, gamma: Tensor, beta: Tensor, y: Tensor
    ) -> tuple[Tensor | None, ...]:
        shape = [1 if axis in axes else -1 for axis in range(rank)]
        error, x_ = ops.cast(error, dtype), ops.cast(x, dtype)
        mean, variance = ops.moments(x_, axes, keepdims=True)
        rate = ops.rsqrt(variance + layer.epsilon)
        # Computed when the error is there, and one after the other: otherwise TensorFlow would hold
        # several tensors of this size at once.
        deviation = after(x_, [error]) - mean
        shift = ops.mean(error, axes, keepdims=True)
        slope = ops.mean(error * deviation, axes, keepdims=True)
        error = after(error, [slope])
        factor = ops.reshape(ops.cast(gamma, dtype), shape) * rate
        below = factor * ((error - shift) - deviation * (slope * ops.square(rate)))
        count = ops.cast(ops.size(x_), dtype) / ops.cast(ops.size(mean), dtype)
        taught = [ops.reshape(each, (-1,)) * count for each in (slope * rate, shift)]
        gradients = [
            ops.cast(each, weight.dtype) for each, weight in zip(taught, (gamma, beta), strict=True)
        ]
        return ops.cast(below, x.dtype), *gradients, None

    weights = channels(layer.gamma, 1.0), channels(layer.beta, 0.0)
    # The gradients of both weights are independent of their values: an update has to wait for them.
    return backend.with_gradient(forward, backward, inputs, *weights, outputs, independent=1)
