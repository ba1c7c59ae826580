"""Functions that find the paths of errors in a graph of Keras layers."""

from __future__ import annotations

from typing import Any

import keras


def open_path(start: Any, targets: list[Any]) -> tuple[Any, int] | None:
    """Return a path by which an error at `start` would reach a target by the chain rule.

    The error is assumed to go through everything except `keras.ops.stop_gradient` and layers whose
    method `passes_errors_to` says otherwise, such as layers with `feedback="detached"`. A layer
    that stops errors in its own code without such a method is not noticed.

    Args:
        start: Symbolic Keras tensor at which the error begins.
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
    """Return the tensors that an error at `tensor` reaches next, and what sends it."""
    history = getattr(tensor, "_keras_history", None)
    if history is None:
        return []
    operation, node, position = history
    inputs = operation._inbound_nodes[node].input_tensors
    return [(operation, below) for below in _reached(operation, position, inputs)]


def _reached(operation: Any, position: int, inputs: list[Any]) -> list[Any]:
    """Return the inputs of an operation that errors at output number `position` reach."""
    answer = getattr(operation, "passes_errors_to", None)
    if answer is not None:
        return list(answer(inputs))
    if isinstance(operation, keras.layers.Wrapper):
        return _reached(operation.layer, 0, inputs)
    if isinstance(operation, keras.Model) and getattr(operation, "outputs", None):
        passed = open_path(operation.outputs[position], operation.inputs) is not None
        return inputs if passed else []
    return [] if is_stop_gradient(operation) else inputs


def is_stop_gradient(operation: Any) -> bool:
    """Return whether an operation of a graph is `keras.ops.stop_gradient`."""
    return type(operation) is _StopGradient


_StopGradient: type = type(
    keras.ops.stop_gradient(keras.KerasTensor((1,)))._keras_history.operation
)
