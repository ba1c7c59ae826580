"""Recurrence in which each step sends its own errors and teaches the kernels by itself.

Where the backend runs what no later step waits for beside the loop, the products with the inputs
and those of the kernels' gradients cost no time of their own. The price is memory: the loop keeps
what each step needs for its gradient, as the built-in layers do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from keras import ops

from keras_local.ops.asymmetric import SendingPath, Signals, transmitted
from keras_local.ops.backend import Tensor, backend
from keras_local.ops.linear_maps import LinearMap
from keras_local.ops.recurrence import Cell, Recurrence, Tensors


@dataclass(frozen=True)
class Synapses:
    """A kernel with its maps and its rule.

    Attributes:
        maps: The maps that use the kernel, one for each message of a step.
        rule: Says which kernel carries the error, and what the feedback weights receive.
        kernel: Tensor of forward weights.
        feedback: Tensors that the rule reads.
        bias: None, or a bias of the fields.
    """

    maps: tuple[LinearMap, ...]
    rule: SendingPath
    kernel: Tensor
    feedback: Tensors
    bias: Tensor | None

    def prepared(self) -> Synapses:
        """Return the same synapses with an error kernel that is computed once for all steps."""
        if not (self.feedback or self.rule.has_own_kernel):
            return self
        ready = self.rule.error_kernel(self.kernel, *self.feedback)
        return replace(self, rule=_Prepared(self.rule), feedback=(ready, *self.feedback))

    def project(self, place: int, message: Tensor) -> Tensor:
        """Return the fields that a message gives, without bias."""
        linear_map = self.maps[place]
        return transmitted(linear_map, self.rule, message, self.kernel, self.feedback)

    def biased(self, fields: Tensor) -> Tensor:
        """Return the fields with the bias."""
        return fields if self.bias is None else ops.add(fields, self.bias)


@dataclass(frozen=True)
class _Prepared:
    """A rule whose error kernel is the first of the tensors that it reads."""

    rule: SendingPath
    has_own_kernel: ClassVar[bool] = True

    @property
    def sends_errors(self) -> bool:
        return self.rule.sends_errors

    def error_kernel(self, kernel: Tensor, ready: Tensor, *feedback: Tensor) -> Tensor:
        return ready

    def feedback_gradients(self, signals: Signals) -> tuple[Tensor | None, ...]:
        own = replace(signals, feedback=signals.feedback[1:])
        return (None, *self.rule.feedback_gradients(own))


def recurrence_in_steps(
    cell: Cell,
    below: Synapses,
    across: Synapses,
    sequences: Tensor,
    states: Tensors,
    mask: Tensor | None = None,
    additive: bool = True,
) -> Recurrence:
    """Run a cell along time; forward and backward it computes what `recurrence` computes.

    The rules may learn from errors alone, and what they make of several steps has to be the sum of
    what they make of each: a rule that needs the activity of a whole call cannot be used.

    Args:
        cell: One step.
        below: The synapses of the inputs.
        across: The synapses between the units.
        sequences: What comes from the layer below, `(time, batch, n)`.
        states: The first states, `(batch, units)` each.
        mask: None, or booleans `(time, batch, 1)`: False for steps in which the states stay.
        additive: Whether the cell does nothing with its fields but hand them on to `project`.

    Returns:
        The outputs and states; no messages.
    """
    below, across = below.prepared(), across.prepared()

    def project(place: int, message: Tensor, fields: Tensor | None = None) -> Tensor:
        field = across.biased(across.project(place, message))
        if fields is None:
            return field
        # Not `fields + bias` first: TensorFlow would make one operation of product and sums, and
        # the product with the inputs would wait for the step before.
        return below.biased(fields + field)

    def step(states: Tensors, elements: Tensors) -> tuple[Tensors, Tensors]:
        fields = below.project(0, elements[0])
        new = cell(fields if additive else below.biased(fields), states, project)
        if mask is not None:
            new = tuple(ops.where(elements[1], *pair) for pair in zip(new, states, strict=True))
        return new, new[:1]

    inputs = (sequences,) if mask is None else (sequences, mask)
    like = [(states[0].shape, states[0].dtype)]
    last, (outputs,) = backend.differentiable_scan(step, states, inputs, like)
    return Recurrence(outputs=outputs, states=tuple(last), messages=None)
