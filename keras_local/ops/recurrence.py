"""Recurrence whose errors return in time through another kernel than the one of the forward pass.

The gradient of a loop is written out here, so that no step keeps anything for it: the backward loop
holds the derivative of the cell and one product with the error kernel, and the kernel's gradient is
one product over all steps behind it. A rule sees the whole sequence at once, in which each pair of
an example and a step is a sample of one linear map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from keras import ops

from keras_local.ops.asymmetric import SendingPath, Signals
from keras_local.ops.backend import Tensor, backend
from keras_local.ops.columns import Columns, Joined
from keras_local.ops.linear_maps import LinearMap

Tensors = tuple[Tensor, ...]


class Project(Protocol):
    """Sends a message through the recurrent kernel."""

    def __call__(self, place: int, message: Tensor, fields: Tensor | None = None) -> Tensor:
        """Return what the map of number `place` makes of a message, with `fields` added."""


class Cell(Protocol):
    """One step of a recurrent layer; `states[0]` is what the units tell each other."""

    def __call__(self, fields: Tensor, states: Tensors, project: Project) -> Tensors:
        """Return the next states from the fields of the inputs and the states before.

        `project(0, states[0])` is asked for first; a second message may follow. An additive cell
        hands its fields on to that, `project(0, states[0], fields)`, and uses them no further.
        """


@dataclass(frozen=True)
class Recurrence:
    """What came of a loop; time is the first axis of each sequence.

    Attributes:
        outputs: The first state behind each step.
        states: All states behind the last step.
        messages: What went into the maps of the recurrent kernel in each step, side by side: the
            first state before the step, and other messages. None if nothing learns from them.
    """

    outputs: Tensor
    states: Tensors
    messages: Tensor | None


@dataclass(frozen=True)
class _Loop:
    """A cell with its maps, and the loops forwards and backwards."""

    cell: Cell
    maps: tuple[Columns, ...]
    rule: SendingPath
    additive: bool
    unroll: bool

    @property
    def joined(self) -> LinearMap:
        return self.maps[0] if len(self.maps) == 1 else Joined(self.maps)

    def scan(self, step: Any, carry: Tensors, sequences: Tensors, like: Any, reverse: bool) -> Any:
        if not self.unroll:
            return backend.scan(step, carry, sequences, like, reverse)
        written = []
        steps = range(sequences[0].shape[0])
        for place in reversed(steps) if reverse else steps:
            carry, outputs = step(carry, tuple(each[place] for each in sequences))
            written.append(outputs)
        in_order = written[::-1] if reverse else written
        return carry, tuple(ops.stack(each) for each in zip(*in_order, strict=True))

    def forward(
        self, fields: Tensor, mask: Tensor | None, states: Tensors, kernel: Tensor, bias: Any
    ) -> tuple[Tensors, Tensors]:
        """Return the last states; states, fields of the maps, and later messages of all steps."""

        def step(states: Tensors, elements: Tensors) -> tuple[Tensors, Tensors]:
            gone: list[Tensor] = []
            came: list[Tensor] = []

            def project(place: int, message: Tensor, fields: Tensor | None = None) -> Tensor:
                field = self.maps[place].apply(message, kernel)
                if bias is not None:
                    field = field + bias
                if fields is not None:
                    field = fields + field
                gone.append(message)
                came.append(field)
                return field

            new = self.cell(elements[0], states, project)
            if mask is not None:
                new = tuple(ops.where(elements[1], *pair) for pair in zip(new, states, strict=True))
            return new, (*new, *came, *gone[1:])

        like = [(state.shape, state.dtype) for state in states]
        batch = states[0].shape[0]
        for each in self.maps:
            like.append(((batch, each.fans(tuple(kernel.shape))[1]), fields.dtype))
        like += [like[0]] * (len(self.maps) - 1)
        sequences = (fields,) if mask is None else (fields, mask)
        last, written = self.scan(step, states, sequences, like, False)
        return last, written

    def backward(
        self,
        upstream: Tensor,
        last: Tensors,
        fields: Tensor,
        mask: Tensor | None,
        before: Tensors,
        came: Tensors,
        error_kernel: Tensor,
    ) -> tuple[Tensors, Tensor, Tensors]:
        """Return the errors at the first states, at the fields, and at the maps' outputs."""
        count, maps = len(before), len(came)
        send = [each.sender(error_kernel) for each in self.maps]

        def step(carry: Tensors, elements: Tensors) -> tuple[Tensors, Tensors]:
            error, states, given = elements[0], elements[1 : 1 + count], elements[1 + count :]
            errors = (carry[0] + error, *carry[1:])
            kept: Tensors = ()
            if mask is not None:
                zeros = [ops.zeros_like(each) for each in errors]
                pairs = list(zip(errors, zeros, strict=True))
                kept = tuple(ops.where(elements[-1], zero, each) for each, zero in pairs)
                errors = tuple(ops.where(elements[-1], each, zero) for each, zero in pairs)

            def new(*tensors: Tensor) -> Tensors:
                states, came = tensors[:count], tensors[count : count + maps]
                return self.cell(tensors[-1], states, self._returning(came, send))

            places = (*states, *given[:maps], *(() if self.additive else given[maps : maps + 1]))
            found = list(backend.pull_back(new, places, errors))
            if self.rule.sends_errors:
                found[0] = found[0] + send[0](found[count])
            carry = tuple(found[:count])
            if kept:
                carry = tuple(one + other for one, other in zip(carry, kept, strict=True))
            return carry, tuple(found[count:])

        sequences = [upstream, *before, *came]
        sequences += [] if self.additive else [fields]
        sequences += [] if mask is None else [mask]
        at = came if self.additive else (*came, fields)
        like = [(each.shape[1:], each.dtype) for each in at]
        carry, written = self.scan(step, last, tuple(sequences), like, True)
        return carry, written[-1], written[:maps]

    def _returning(self, given: Tensors, send: Sequence[Any]) -> Project:
        """Return the known outputs of the maps; the error at the first one is sent elsewhere."""

        def project(place: int, message: Tensor, fields: Tensor | None = None) -> Tensor:
            if place == 0 or not self.rule.sends_errors:
                return given[place]

            def known(message: Tensor, field: Tensor) -> Tensor:
                return ops.copy(field)

            def sent(error: Tensor, outputs: Tensor, message: Tensor, field: Tensor) -> Tensors:
                return send[place](error), error

            return backend.with_gradient(known, sent, message, given[place])

        return project


def recurrence(
    cell: Cell,
    maps: Sequence[Columns],
    rule: SendingPath,
    fields: Tensor,
    states: Sequence[Tensor],
    kernel: Tensor,
    feedback: Tensors = (),
    *,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    additive: bool = True,
    unroll: bool = False,
) -> Recurrence:
    """Run a cell along time while errors return in time as `rule` says.

    Forward: `s_t = cell(a_t, s_(t-1), M)` with `M(h, U)` the map of the recurrent kernel. Backward,
    with `d_t` the error at the map's outputs in step t:

    * to the message `h_(t-1)` goes `M^T(d_t, rule.error_kernel(U, ...))`, if the rule sends errors;
    * the cell's own derivatives (gates, carry, leak) are exact;
    * to the kernel goes `sum_t h_(t-1)^T d_t`, and to the rule's weights what it makes of this.

    Args:
        cell: One step; its derivative is taken at what the forward pass kept.
        maps: The maps of the recurrent kernel, one for each message of a step.
        rule: Says which kernel carries the error, and what the feedback weights receive.
        fields: What arrives from the inputs, `(time, batch, columns)`.
        states: The first states, `(batch, units)` each.
        kernel: Tensor of recurrent weights.
        feedback: Tensors that the rule reads.
        mask: None, or booleans `(time, batch, 1)`: False for steps in which the states stay.
        bias: None, or a bias of the recurrent fields.
        additive: Whether the cell does nothing with `fields` but add them to the outputs of its
            only map: the errors at both are the same then.
        unroll: Whether to write the steps out, in place of a loop; `time` must be known.

    Returns:
        The outputs and states, and what went through the recurrent kernel.
    """
    loop = _Loop(cell, tuple(maps), rule, additive, unroll)
    count, extra = len(states), len(maps) - 1
    optional = [each for each in (mask, bias) if each is not None]
    head = (fields, *optional, *states)

    def split(tensors: Tensors) -> Any:
        fields, tensors = tensors[0], tensors[1:]
        taken = iter(tensors[: len(optional)])
        own_mask = None if mask is None else next(taken)
        own_bias = None if bias is None else next(taken)
        tensors = tensors[len(optional) :]
        return fields, own_mask, own_bias, tensors[:count], tensors[count], tensors[count + 1 :]

    def forward(*tensors: Tensor) -> Tensors:
        fields, mask, bias, states, kernel, _ = split(tensors)
        last, written = loop.forward(fields, mask, states, kernel, bias)
        return (*written, *last)

    def backward(upstream: Tensors, outputs: Tensors, *tensors: Tensor) -> tuple[Any, ...]:
        fields, mask, bias, states, kernel, feedback = split(tensors)
        after, came = outputs[:count], outputs[count : count + 1 + extra]
        before = tuple(_before(*pair) for pair in zip(states, after, strict=True))
        error_kernel = rule.error_kernel(kernel, *feedback)
        errors = upstream[-count:]
        carry, at_fields, sent = loop.backward(
            upstream[0], errors, fields, mask, before, came, error_kernel
        )
        messages = _side_by_side((before[0], *outputs[count + 1 + extra : count + 1 + 2 * extra]))
        arrived, error = _side_by_side(came), _side_by_side(sent)
        arrived = arrived - fields if additive else arrived
        signals = Signals(
            linear_map=loop.joined,
            inputs=messages,
            outputs=arrived if bias is None else arrived - bias,
            upstream=error,
            kernel=kernel,
            feedback=feedback,
            kernel_gradient=loop.joined.kernel_gradient(messages, error, kernel),
        )
        at_bias = () if bias is None else (ops.sum(error, axis=(0, 1)),)
        at_mask = () if mask is None else (None,)
        learned = rule.feedback_gradients(signals)
        return (at_fields, *at_mask, *at_bias, *carry, signals.kernel_gradient, *learned)

    found = backend.with_gradient(
        forward, backward, *head, kernel, *feedback, independent=len(head) + 1
    )
    first = _before(states[0], found[0])
    return Recurrence(
        outputs=found[0],
        states=tuple(found[-count:]),
        messages=_side_by_side((first, *found[count + 1 + extra : count + 1 + 2 * extra])),
    )


def _before(first: Tensor, sequence: Tensor) -> Tensor:
    """Return what a state was before each step, from the first one and those behind each step."""
    return ops.concatenate([ops.cast(first, sequence.dtype)[None], sequence[:-1]], axis=0)


def _side_by_side(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else ops.concatenate(list(tensors), axis=-1)
