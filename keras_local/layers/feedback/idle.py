"""Feedback kernels that no error can use, since nothing below their layer is trained."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Literal, NoReturn

import keras

from keras_local.feedback import FeedbackRule
from keras_local.layers.graph_walks import with_weights_below
from keras_local.ops import refusing_errors
from keras_local.ops.backend import Tensor

IdleFeedback = Literal["keep", "drop"]
"""What happens to a feedback kernel that no error uses: it learns all the same, or it does not."""

_AT_WORK = threading.local()


class Idleness:
    """What is known of the calls of a layer, and with it whether errors use its feedback kernel.

    The kernel is idle if the layer was called in a graph of Keras, and if no layer below it is
    trained, in no graph in which it was seen. Graphs are seen in two ways: by the symbolic calls of
    the layer, and by the model that is at work when the weights of the layer are asked for or it is
    called. Such a model asks before it builds its optimizer. If its graph does not show what is
    below the layer, errors are assumed to use the kernel.

    Args:
        layer: The layer.
        choice: Its argument `idle_feedback`.
    """

    def __init__(self, layer: Any, choice: IdleFeedback) -> None:
        self._layer = layer
        self._weights: list[keras.Variable] = []
        self._stilled: list[keras.Variable] = []
        self._below: list[Any] = []
        self._models: weakref.WeakSet[Any] = weakref.WeakSet()
        self._is_used = choice == "keep"
        self._was_called = False
        self._stood = False

    @property
    def holds(self) -> bool:
        """Whether no error uses the feedback kernel."""
        if self._is_used or not self._was_called:
            return False
        # The lowest come first: the walk mostly ends there.
        return not any(each is self._layer or each.trainable_weights for each in self._below)

    def meet(self, inputs: Any) -> None:
        """Take notice of a symbolic call."""
        if self._is_used:
            return
        tensors = keras.tree.flatten(inputs)
        if any(getattr(each, "sparse", False) for each in tensors):
            self._is_used = True
        elif all(getattr(each, "_keras_history", None) is not None for each in tensors):
            # Without a history it is a call inside of a nested graph, or for the sake of a shape.
            self._was_called = True
            self._models.clear()
            self._add(_with_weights_under(tensors))
        self.refresh()

    def _add(self, layers: list[Any]) -> None:
        known = set(map(id, self._below))
        self._below += [each for each in layers if id(each) not in known]

    def govern(self, rule: FeedbackRule, weights: list[keras.Variable]) -> None:
        """Choose, among the weights of the rule, those that do not learn while idle."""
        if rule.feedback_teaches_kernel:
            return
        # A number costs nothing, and the default form of Kolen-Pollack needs one that decays.
        self._weights = [each for each in weights if each.trainable and len(each.shape)]

    def refresh(self) -> None:
        """Let the weights learn, or not, if it is no longer known to be as it was."""
        if not self._weights or getattr(_AT_WORK, "asks", False):
            return
        with _asking():
            if self.holds and (model := _at_work_with(self._layer)) is not None:
                self._see(model)
            if self.holds != self._stood:
                self._mark()

    def _see(self, model: Any) -> None:
        if model in self._models:
            return
        self._models.add(model)
        below = with_weights_below(model, self._layer)
        if below is None:
            self._is_used = True
        else:
            self._add(below)

    def mark(self) -> None:
        """Keep idle weights from learning after all flags of the layer were set."""
        with _asking():
            self._mark()

    def _mark(self) -> None:
        self._stood = self.holds
        if self._stood:
            for weight in self._weights:
                # What does not learn although it was not stilled here was frozen by the user.
                if weight.trainable:
                    weight.trainable = False
                    if not any(each is weight for each in self._stilled):
                        self._stilled.append(weight)
            return
        for weight in self._stilled:
            weight.trainable = self._layer.trainable
        self._stilled = []

    def stands_still(self, weight: keras.Variable) -> bool:
        """Whether a weight does not learn since no error uses it."""
        governed = any(each is weight for each in self._weights)
        return governed and self._stood and not weight.trainable

    def guarded(self, inputs: Tensor) -> Tensor:
        """Return the inputs; an error that is sent to them raises a ValueError.

        Otherwise layers below would learn from a feedback kernel that nobody trains. Above frozen
        layers nothing is refused: a backend may compute errors there that nobody asked for.
        """
        if not self._below and any(self.stands_still(weight) for weight in self._weights):
            return refusing_errors(inputs, self._refuse)
        return inputs

    def _refuse(self, *signals: Tensor) -> NoReturn:
        raise ValueError(
            f"`idle_feedback` of layer {self._layer.name!r} must be 'keep' where an error is "
            "wanted at its inputs in training. Nothing below it has weights in the graph of the "
            "model that is being trained, so that its feedback kernel does not learn. "
            "Received: idle_feedback='drop'"
        )


@contextmanager
def _asking() -> Iterator[None]:
    """Let no layer refresh its own flags while another one reads them."""
    before = getattr(_AT_WORK, "asks", False)
    _AT_WORK.asks = True
    try:
        yield
    finally:
        _AT_WORK.asks = before


def _with_weights_under(tensors: list[Any]) -> list[Any]:
    """Return the layers with weights on which symbolic tensors depend, the lowest first."""
    waiting, seen = list(tensors), set()
    found: list[Any] = []
    while waiting:
        history = getattr(waiting.pop(), "_keras_history", None)
        if history is None:
            continue
        operation, node, _ = history
        if (id(operation), node) in seen:
            continue
        seen.add((id(operation), node))
        if isinstance(operation, keras.layers.Layer) and operation.weights:
            found.append(operation)
        waiting += operation._inbound_nodes[node].arguments.keras_tensors
    return found[::-1]


def _at_work_with(layer: Any) -> Any:
    """Return the outermost Keras layer or model with `layer` inside whose code is running, or None.

    Keras' call context names the model of a call alone, on JAX not even that, and says nothing
    where an optimizer is built or where a model trains others.
    """
    frame: FrameType | None = sys._getframe(2)
    found: list[Any] = []
    while frame is not None:
        code = frame.f_code
        if code.co_argcount and code.co_varnames[0] == "self":
            owner = frame.f_locals.get("self")
            if isinstance(owner, keras.layers.Layer) and owner is not layer:
                if not any(owner is each for each in found):
                    found.append(owner)
        frame = frame.f_back
    for owner in reversed(found):
        if _is_ready(owner) and any(part is layer for part in owner._flatten_layers()):
            return owner
    return None


def _is_ready(owner: Any) -> bool:
    """Return whether a layer is constructed, and has its graph if it will have one."""
    if isinstance(owner, keras.Sequential):
        return owner.built or getattr(owner, "_functional", None) is not None
    return hasattr(owner, "_layers")
