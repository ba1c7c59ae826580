"""The rules once more, in NumPy and in loops, written from their formulas.

Nothing here is imported from the package, and nothing is fast: each function is one formula, one
index at a time, in float64.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# --- Linear maps ----------------------------------------------------------------------------------


def dense(inputs: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """`y_bm = sum_n x_bn k_nm`, over any leading axes."""
    flat = inputs.reshape(-1, inputs.shape[-1])
    outputs = np.zeros((len(flat), kernel.shape[1]))
    for b, n, m in np.ndindex(len(flat), *kernel.shape):
        outputs[b, m] += flat[b, n] * kernel[n, m]
    return outputs.reshape(*inputs.shape[:-1], kernel.shape[1])


def dense_input_gradient(upstream: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """`g_bn = sum_m e_bm k_nm`."""
    flat = upstream.reshape(-1, upstream.shape[-1])
    gradient = np.zeros((len(flat), kernel.shape[0]))
    for b, n, m in np.ndindex(len(flat), *kernel.shape):
        gradient[b, n] += flat[b, m] * kernel[n, m]
    return gradient.reshape(*upstream.shape[:-1], kernel.shape[0])


def dense_kernel_gradient(inputs: np.ndarray, upstream: np.ndarray) -> np.ndarray:
    """`g_nm = sum_b x_bn e_bm`."""
    x = inputs.reshape(-1, inputs.shape[-1])
    e = upstream.reshape(-1, upstream.shape[-1])
    gradient = np.zeros((x.shape[1], e.shape[1]))
    for b, n, m in np.ndindex(len(x), *gradient.shape):
        gradient[n, m] += x[b, n] * e[b, m]
    return gradient


@dataclass(frozen=True)
class Convolution:
    """A convolution (cross-correlation) and its two adjoints, tap by tap.

    Inputs `(batch, *space, c_in)`, kernel `(*taps, c_in / groups, c_out)`; the channel axis stands
    first after the batch if `channels_first`. "same" pads so that there are `ceil(size / stride)`
    outputs, the odd zero behind.
    """

    strides: tuple[int, ...]
    padding: str
    dilation: tuple[int, ...]
    channels_first: bool = False

    def apply(self, inputs: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        x = self._last(inputs)
        y = np.zeros((len(x), *self._output_sizes(x.shape, kernel.shape), kernel.shape[-1]))
        for source, tap, target, c, o in self._synapses(x.shape, kernel.shape):
            y[(slice(None), *target, o)] += (
                x[(slice(None), *source, c)] * kernel[(*tap, c % kernel.shape[-2], o)]
            )
        return self._first(y)

    def input_gradient(
        self, upstream: np.ndarray, kernel: np.ndarray, input_shape: Sequence[int]
    ) -> np.ndarray:
        e, gradient = self._last(upstream), self._last(np.zeros(input_shape)).copy()
        for source, tap, target, c, o in self._synapses(gradient.shape, kernel.shape):
            gradient[(slice(None), *source, c)] += (
                e[(slice(None), *target, o)] * kernel[(*tap, c % kernel.shape[-2], o)]
            )
        return self._first(gradient)

    def kernel_gradient(
        self, inputs: np.ndarray, upstream: np.ndarray, kernel_shape: Sequence[int]
    ) -> np.ndarray:
        x, e, gradient = self._last(inputs), self._last(upstream), np.zeros(kernel_shape)
        for source, tap, target, c, o in self._synapses(x.shape, kernel_shape):
            gradient[(*tap, c % kernel_shape[-2], o)] += np.sum(
                x[(slice(None), *source, c)] * e[(slice(None), *target, o)]
            )
        return gradient

    def _synapses(
        self, input_shape: Sequence[int], kernel_shape: Sequence[int]
    ) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int, int]]:
        """Every (input position, tap, output position, input channel, output channel)."""
        sizes, taps = input_shape[1:-1], kernel_shape[:-2]
        groups = input_shape[-1] // kernel_shape[-2]
        outputs = kernel_shape[-1] // groups
        for target in np.ndindex(*self._output_sizes(input_shape, kernel_shape)):
            for tap in np.ndindex(*taps):
                source = tuple(
                    p * s + t * d - self._before(size, n, s, d)
                    for p, s, t, d, size, n in zip(
                        target, self.strides, tap, self.dilation, sizes, taps, strict=True
                    )
                )
                if not all(0 <= q < size for q, size in zip(source, sizes, strict=True)):
                    continue
                for group, i, j in itertools.product(
                    range(groups), range(kernel_shape[-2]), range(outputs)
                ):
                    c, o = group * kernel_shape[-2] + i, group * outputs + j
                    yield source, tap, target, c, o

    def _output_sizes(
        self, input_shape: Sequence[int], kernel_shape: Sequence[int]
    ) -> tuple[int, ...]:
        if self.padding == "same":
            return tuple(
                -(-size // s) for size, s in zip(input_shape[1:-1], self.strides, strict=True)
            )
        return tuple(
            (size - ((n - 1) * d + 1)) // s + 1
            for size, n, s, d in zip(
                input_shape[1:-1], kernel_shape[:-2], self.strides, self.dilation, strict=True
            )
        )

    def _before(self, size: int, taps: int, stride: int, dilation: int) -> int:
        if self.padding == "valid":
            return 0
        needed = (-(-size // stride) - 1) * stride + (taps - 1) * dilation + 1
        return max(needed - size, 0) // 2

    def _last(self, tensor: np.ndarray) -> np.ndarray:
        tensor = np.asarray(tensor, "float64")
        return np.moveaxis(tensor, 1, -1) if self.channels_first else tensor

    def _first(self, tensor: np.ndarray) -> np.ndarray:
        return np.moveaxis(tensor, -1, 1) if self.channels_first else tensor


# --- Activations and losses, each with its derivative ---------------------------------------------


def ramp(field: np.ndarray, scale: float = 0.5) -> np.ndarray:
    """`min(max(scale h, -1), 1)`."""
    return np.minimum(np.maximum(scale * field, -1.0), 1.0)


def ramp_derivative(field: np.ndarray, scale: float = 0.5) -> np.ndarray:
    """`scale` where `|scale h| < 1`, else 0."""
    return np.where(np.abs(scale * field) < 1.0, scale, 0.0)


def tanh_derivative(field: np.ndarray) -> np.ndarray:
    """`1 - tanh(h)^2`."""
    return 1.0 - np.tanh(field) ** 2


def local_hinge(
    logits: np.ndarray, labels: np.ndarray, off_class_factor: float = 1.0
) -> tuple[float, np.ndarray]:
    """Mean hinge loss of Amit 2019 and its derivative at the logits."""
    batch, classes = logits.shape
    mu = off_class_factor / (classes - 1)
    loss, delta = 0.0, np.zeros_like(logits)
    for b, c in np.ndindex(batch, classes):
        if c == labels[b]:
            loss += max(1.0 - logits[b, c], 0.0)
            delta[b, c] = -1.0 if logits[b, c] < 1.0 else 0.0
        else:
            loss += mu * max(1.0 + logits[b, c], 0.0)
            delta[b, c] = mu if logits[b, c] > -1.0 else 0.0
    return loss / batch, delta / batch


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean softmax cross-entropy and its derivative at the logits."""
    loss, delta = 0.0, np.zeros_like(logits)
    for b, label in enumerate(labels):
        probabilities = np.exp(logits[b] - logits[b].max())
        probabilities /= probabilities.sum()
        loss -= np.log(probabilities[label])
        delta[b] = probabilities
        delta[b, label] -= 1.0
    return loss / len(labels), delta / len(labels)


# --- Feedback -------------------------------------------------------------------------------------


@dataclass
class FeedbackStep:
    """One pass up and down a net of dense layers."""

    activities: list[np.ndarray]
    """`x_0 ... x_L`; the last is the output."""
    loss: float
    deltas: list[np.ndarray]
    """Error at the field of each layer, `delta_1 ... delta_L`."""
    kernel_gradients: list[np.ndarray]
    """`x_(l-1)^T delta_l`."""
    bias_gradients: list[np.ndarray]
    """`sum_b delta_l`."""


def feedback_step(
    inputs: np.ndarray,
    labels: np.ndarray,
    kernels: Sequence[np.ndarray],
    feedback_kernels: Sequence[np.ndarray],
    biases: Sequence[np.ndarray] | None = None,
    activation: Callable[[np.ndarray], np.ndarray] = np.tanh,
    derivative: Callable[[np.ndarray], np.ndarray] = tanh_derivative,
    loss: Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]] = cross_entropy,
) -> FeedbackStep:
    """`delta_(l-1) = (delta_l B_l^T) * f'(h_(l-1))`: the last layer is linear and exact.

    Backpropagation is `feedback_kernels = kernels`. The first feedback kernel is never used.
    """
    biases = biases or [np.zeros(kernel.shape[1]) for kernel in kernels]
    fields, activities = [], [np.asarray(inputs, "float64")]
    for layer, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        fields.append(dense(activities[-1], kernel) + bias)
        last = layer == len(kernels) - 1
        activities.append(fields[-1] if last else activation(fields[-1]))
    value, delta = loss(activities[-1], labels)
    deltas = [delta]
    for layer in range(len(kernels) - 1, 0, -1):
        delta = dense_input_gradient(delta, feedback_kernels[layer]) * derivative(fields[layer - 1])
        deltas.insert(0, delta)
    return FeedbackStep(
        activities=activities,
        loss=value,
        deltas=deltas,
        kernel_gradients=[
            dense_kernel_gradient(x, d) for x, d in zip(activities[:-1], deltas, strict=True)
        ],
        bias_gradients=[d.sum(axis=0) for d in deltas],
    )


def train_feedback(
    batches: Sequence[tuple[np.ndarray, np.ndarray]],
    kernels: Sequence[np.ndarray],
    feedback_kernels: Sequence[np.ndarray],
    biases: Sequence[np.ndarray],
    learning_rate: float,
    rate: float = 0.0,
    decay: float = 0.0,
    **step_arguments: Any,
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray], list[float]]:
    """Plain gradient descent under fixed (`rate=0`) or updated random feedback.

    `W -= lr (g + decay W)`, `B -= lr (rate g + decay B)`, `b -= lr sum_b delta`; with `rate=0` and
    `decay=0` the feedback kernels never change.

    Returns:
        Kernels, feedback kernels, biases and the loss before each step.
    """
    kernels = [np.array(kernel, "float64") for kernel in kernels]
    feedback_kernels = [np.array(kernel, "float64") for kernel in feedback_kernels]
    biases = [np.array(bias, "float64") for bias in biases]
    losses = []
    for inputs, labels in batches:
        step = feedback_step(inputs, labels, kernels, feedback_kernels, biases, **step_arguments)
        losses.append(step.loss)
        for layer, gradient in enumerate(step.kernel_gradients):
            kernel, feedback_kernel = kernels[layer], feedback_kernels[layer]
            kernels[layer] = kernel - learning_rate * (gradient + decay * kernel)
            feedback_kernels[layer] = feedback_kernel - learning_rate * (
                rate * gradient + decay * feedback_kernel
            )
            biases[layer] = biases[layer] - learning_rate * step.bias_gradients[layer]
    return kernels, feedback_kernels, biases, losses
