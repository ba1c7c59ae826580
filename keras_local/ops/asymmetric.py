"""Linear maps whose errors return through another kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from keras import ops

from keras_local.ops.backend import Tensor, backend
from keras_local.ops.linear_maps import LinearMap


@dataclass(frozen=True)
class Signals:
    """All signals that a rule can use when an error arrives: activity, error and weights.

    Attributes:
        linear_map: The map of the layer, with its two adjoints.
        inputs: Presynaptic activity.
        outputs: Postsynaptic field before bias and activation.
        upstream: Error at the outputs (derivative of the loss).
        kernel: Forward weights.
        feedback: What the rule reads in addition to the kernel, usually its own weights.
        kernel_gradient: `linear_map.kernel_gradient(inputs, upstream)`, the forward weights'
            gradient.
    """

    linear_map: LinearMap
    inputs: Tensor
    outputs: Tensor
    upstream: Tensor
    kernel: Tensor
    feedback: tuple[Tensor, ...]
    kernel_gradient: Tensor


class ErrorPath(Protocol):
    """Interface that `asymmetric` needs; every `keras_local.feedback.FeedbackRule` has it."""

    def error_kernel(self, kernel: Tensor, *feedback: Tensor) -> Tensor:
        """Return the kernel that carries the error back, in the kernel's own shape."""

    def feedback_gradients(self, signals: Signals) -> tuple[Tensor | None, ...]:
        """Return one gradient (or None) for each tensor in `signals.feedback`."""


class SendingPath(ErrorPath, Protocol):
    """Interface of a rule that also says whether it sends errors, and through which kernel."""

    @property
    def sends_errors(self) -> bool:
        """Whether errors return through the synapses."""

    @property
    def has_own_kernel(self) -> bool:
        """Whether they return through another kernel than the forward weights."""


def transmitted(
    linear_map: LinearMap,
    rule: SendingPath,
    inputs: Tensor,
    kernel: Tensor,
    feedback: tuple[Tensor, ...] = (),
) -> Tensor:
    """Apply `linear_map` with the rule's error path; as a plain map where that is backpropagation.

    Arguments are those of `asymmetric`.
    """
    if not rule.sends_errors:
        inputs = ops.stop_gradient(inputs)
    if feedback or rule.has_own_kernel:
        return asymmetric(linear_map, rule, inputs, kernel, feedback)
    return linear_map.apply(inputs, kernel)


def asymmetric(
    linear_map: LinearMap,
    rule: ErrorPath,
    inputs: Tensor,
    kernel: Tensor,
    feedback: tuple[Tensor, ...] = (),
) -> Tensor:
    """Apply `linear_map` forward with `kernel`, and send errors back as `rule` defines.

    Forward: `y = M(x, W)`. Backward, for the error `e` at the outputs:

    * to the inputs goes `M^T(e, rule.error_kernel(W, ...))`;
    * to the kernel goes the correlation of `x` and `e`, as in backpropagation;
    * to the rule's weights go `rule.feedback_gradients`.

    No forward product is computed twice: each adjoint is one operation of the backend.

    Args:
        linear_map: The map of the layer.
        rule: Defines which kernel carries the error, and what the feedback weights receive.
        inputs: Tensor of inputs.
        kernel: Tensor of forward weights. Pass `variable.value`, never a variable, because eager
            TensorFlow refuses variables inside a custom gradient.
        feedback: Tensors that the rule reads, usually its weights.

    Returns:
        The outputs of the map.

    Source: the common frame of Lillicrap et al. 2016 (feedback alignment) and Amit 2019.
    """

    def forward(inputs: Tensor, kernel: Tensor, *feedback: Tensor) -> Tensor:
        return linear_map.apply(inputs, kernel)

    def backward(
        upstream: Tensor, outputs: Tensor, inputs: Tensor, kernel: Tensor, *feedback: Tensor
    ) -> tuple[Tensor | None, ...]:
        error_kernel = rule.error_kernel(kernel, *feedback)
        signals = Signals(
            linear_map=linear_map,
            inputs=inputs,
            outputs=outputs,
            upstream=upstream,
            kernel=kernel,
            feedback=feedback,
            kernel_gradient=linear_map.kernel_gradient(inputs, upstream, kernel),
        )
        return (
            linear_map.input_gradient(upstream, error_kernel, inputs),
            signals.kernel_gradient,
            *rule.feedback_gradients(signals),
        )

    return backend.with_gradient(forward, backward, inputs, kernel, *feedback)
