"""Feedback kernels that no error can use, since nothing below their layer has weights."""

from __future__ import annotations

from typing import Any, Literal, NoReturn

import keras

from keras_local.feedback import FeedbackRule
from keras_local.ops import refusing_errors
from keras_local.ops.backend import Tensor

IdleFeedback = Literal["keep", "drop"]
"""What happens to a feedback kernel that no error uses: it learns all the same, or it does not."""


def no_weights_below(inputs: Any) -> bool:
    """Return whether symbolic inputs certainly depend on no weights, trained or frozen.

    This is certain only for tensors in the graph of a functional model or `Sequential`.
    """
    waiting, seen = keras.tree.flatten(inputs), set()
    while waiting:
        tensor = waiting.pop()
        history = getattr(tensor, "_keras_history", None)
        if history is None or getattr(tensor, "sparse", False):
            return False
        operation, node, _ = history
        if (id(operation), node) in seen:
            continue
        seen.add((id(operation), node))
        if isinstance(operation, keras.layers.Layer) and operation.weights:
            return False
        waiting += operation._inbound_nodes[node].arguments.keras_tensors
    return True


class Idleness:
    """What the symbolic calls of a layer tell of its feedback kernel.

    The first call with inputs that may depend on weights settles that errors use it. Until then it
    is idle, provided that there was a call in a graph.

    Args:
        layer: The layer.
        choice: Its argument `idle_feedback`.
    """

    def __init__(self, layer: Any, choice: IdleFeedback) -> None:
        self._layer = layer
        self._weights: list[keras.Variable] = []
        self._is_used = choice == "keep"
        self._was_called = False

    @property
    def holds(self) -> bool:
        """Whether no error uses the feedback kernel."""
        return self._was_called and not self._is_used

    def meet(self, inputs: Any) -> None:
        """Take notice of a symbolic call."""
        if not self._is_used:
            self._was_called = True
            self._is_used = not no_weights_below(inputs)
            self.mark()

    def govern(self, rule: FeedbackRule, weights: list[keras.Variable]) -> None:
        """Choose, among the weights of the rule, those that do not learn while idle."""
        if rule.feedback_teaches_kernel:
            return
        # A number costs nothing, and the default form of Kolen-Pollack needs one that decays.
        self._weights = [each for each in weights if each.trainable and len(each.shape)]

    def mark(self) -> None:
        """Let the weights learn, or not."""
        for weight in self._weights:
            weight.trainable = self._layer.trainable and not self.holds

    def stands_still(self, weight: keras.Variable) -> bool:
        """Whether a weight does not learn since no error uses it."""
        governed = any(each is weight for each in self._weights)
        return governed and self.holds and not weight.trainable

    def guarded(self, inputs: Tensor) -> Tensor:
        """Return the inputs; an error that is sent to them raises a ValueError.

        Otherwise layers below would learn from a feedback kernel that nobody trains.
        """
        if any(self.stands_still(weight) for weight in self._weights):
            return refusing_errors(inputs, self._refuse)
        return inputs

    def _refuse(self, *signals: Tensor) -> NoReturn:
        raise ValueError(
            f"`idle_feedback` of layer {self._layer.name!r} must be 'keep' where an error is "
            "wanted at its inputs in training. Nothing below it has weights in the graph of the "
            "model in which it was built, so that its feedback kernel does not learn. "
            "Received: idle_feedback='drop'"
        )
