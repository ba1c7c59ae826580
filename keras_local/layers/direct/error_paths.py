"""Where errors go in a graph of Keras layers."""

from __future__ import annotations

from typing import Any

import keras

from keras_local.feedback import Detached
from keras_local.layers.feedback.layer import FeedbackLayer


def open_path(start: Any, targets: list[Any]) -> tuple[Any, int] | None:
    """Look for a target that an error at `start` would reach by the chain rule.

    The error is taken to go through everything but `keras.ops.stop_gradient` and layers with
    `feedback="detached"`: a layer that stops errors by its own code is not seen.

    Args:
        start: Symbolic tensor of Keras at which the error is.
        targets: Symbolic tensors; `start` itself does not count.

    Returns:
        The operation that would send the error into a target, and the position of this target among
        `targets`; None if the error reaches none of them.
    """
    places = {id(tensor): place for place, tensor in enumerate(targets)}
    places.pop(id(start), None)
    seen: set[int] = set()
    waiting = [start]
    while waiting:
        for operation, tensor in _below(waiting.pop()):
            if id(tensor) in places:
                return operation, places[id(tensor)]
            if id(tensor) not in seen:
                seen.add(id(tensor))
                waiting.append(tensor)
    return None


def _below(tensor: Any) -> list[tuple[Any, Any]]:
    """Return the tensors that an error at `tensor` reaches next, each with what sends it there."""
    history = getattr(tensor, "_keras_history", None)
    if history is None:
        return []
    operation, node, position = history
    inputs = operation._inbound_nodes[node].input_tensors
    if hasattr(operation, "passes_errors_to"):
        inputs = operation.passes_errors_to(inputs)
    elif _stops(operation, position):
        return []
    return [(operation, below) for below in inputs]


def _stops(operation: Any, position: int) -> bool:
    """Return whether errors at output number `position` end inside of `operation`."""
    if isinstance(operation, FeedbackLayer):
        return isinstance(operation.feedback, Detached)
    if isinstance(operation, keras.layers.Wrapper):
        return _stops(operation.layer, 0)
    if isinstance(operation, keras.Model) and getattr(operation, "outputs", None):
        return open_path(operation.outputs[position], operation.inputs) is None
    return is_stop_gradient(operation)


def is_stop_gradient(operation: Any) -> bool:
    """Return whether an operation of a graph is `keras.ops.stop_gradient`."""
    return type(operation) is _StopGradient


_StopGradient: type = type(
    keras.ops.stop_gradient(keras.KerasTensor((1,)))._keras_history.operation
)
