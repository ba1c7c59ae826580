"""One kernel of a recurrent layer, with its rule and feedback weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras

from keras_local import ops
from keras_local.feedback import RuleContext
from keras_local.layers.feedback.layer import FeedbackLayer, Shape
from keras_local.ops import Columns, LinearMap
from keras_local.ops.backend import Tensor
from keras_local.ops.recurrence_in_steps import Synapses


class KernelWithRule(FeedbackLayer):
    """The kernel of the inputs or of the messages between units, for all gates side by side.

    It is a part of a recurrent layer, which makes it: the layer calls its methods in a loop and
    around it, and never the part itself.

    Args:
        columns: Number of columns: units times gates.
        bias_shape: Shape of a bias that is kept here; None for none.
        answer: What the units answer to their fields, for rules that ask for it.
        **arguments: Those of `FeedbackLayer`.
    """

    plain = keras.layers.Dense

    def __init__(
        self,
        columns: int,
        bias_shape: tuple[int, ...] | None,
        answer: Callable[[Tensor], Tensor],
        **arguments: Any,
    ) -> None:
        super().__init__(use_bias=bias_shape is not None, **arguments)
        self.columns = columns
        self._shape_of_bias = bias_shape
        self._answer = answer

    @property
    def linear_map(self) -> LinearMap:
        """`x @ kernel`."""
        return ops.Dense()

    def kernel_shape(self, input_shape: Shape) -> tuple[int, ...]:
        """`(n, columns)`."""
        return int(input_shape[-1] or 0), self.columns

    def bias_shape(self) -> tuple[int, ...]:
        """That of the bias itself."""
        return self._shape_of_bias or ()

    def bias_weight_shape(self) -> tuple[int, ...]:
        """That of the bias itself."""
        return self.bias_shape()

    def _respond(self, bias: Tensor | None, outputs: Tensor) -> Tensor:
        # What bias and function belong to a field, the layer knows.
        return self._answer(outputs)

    @property
    def is_plain(self) -> bool:
        """Whether errors return through the kernel itself and nothing else is learned."""
        rule = self._rule
        own = rule.has_own_kernel or rule.has_local_terms or not rule.sends_errors
        return not own and not self._feedback_weights and self._kernel_mask is None

    @property
    def rule(self) -> Any:
        """The rule by which errors return now."""
        return self._rule

    def context(self) -> RuleContext:
        """Return the weights and functions for the rule, read once for a call."""
        return self._synapses()

    def warn_once(self, training: bool | None) -> None:
        """Warn of an optimizer that does not suit the rule, in the first training step."""
        self._warn_once(training)

    def transmit(
        self, context: RuleContext, inputs: Tensor, masks: tuple[Tensor, ...], training: bool | None
    ) -> Tensor:
        """Apply the map to a whole sequence, behind the masks of a dropout."""
        if len(masks) == 1:
            inputs = inputs * masks[0]
        elif masks:
            context = replace(context, linear_map=Columns(masks=masks))
        return self._rule.transmit(context, inputs, training and self.trainable)

    def synapses(
        self,
        context: RuleContext,
        maps: tuple[LinearMap, ...],
        bias: Tensor | None,
        training: bool | None,
    ) -> Synapses:
        """Return the kernel with its rule, for a loop whose steps send their errors themselves."""
        signals = self._rule.signals(context, training and self.trainable)
        return Synapses(maps, self._rule, context.kernel, signals, bias)

    def learn_locally(
        self, context: RuleContext, inputs: Tensor, fields: Tensor | None, mask: Tensor | None
    ) -> None:
        """Let the rule learn from a sequence, in which each step of each example is a sample.

        Args:
            context: As the call has read it.
            inputs: What went into the map, `(time, batch, n)`.
            fields: What came out of it; None to compute it here.
            mask: `(time, batch, 1)`: False for what does not count; None where all does.
        """
        inputs = keras.ops.stop_gradient(inputs)
        if fields is None:
            fields = context.linear_map.apply(inputs, keras.ops.stop_gradient(context.kernel))
        inputs, fields = (keras.ops.reshape(x, (-1, x.shape[-1])) for x in (inputs, fields))
        if mask is not None:
            context = replace(context, present=keras.ops.reshape(mask, (-1, 1)))
        self._rule.learn_locally(context, inputs, fields)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """`(batch, ..., columns)`."""
        return (*input_shape[:-1], self.columns)
