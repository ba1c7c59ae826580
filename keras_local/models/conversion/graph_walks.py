"""Functions that find the layers below others in the graphs of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras


def parts(layer: Any) -> list[Any]:
    """Return the layers directly inside a layer."""
    # `layers` of a model are in order; the parts of other layers are known only to Keras' own walk.
    if isinstance(layer, keras.Model):
        return list(layer.layers)
    return list(layer._flatten_layers(include_self=False, recursive=False))


def has_graph(layer: Any) -> bool:
    """Return whether a layer is a model with a graph of calls."""
    return isinstance(layer, keras.Model) and bool(getattr(layer, "outputs", None))


def calls_of(graph: Any) -> list[tuple[Any, list[Any], Any]]:
    """Return (operation, inputs, output) of each call in a graph, inputs before their users."""
    known = {id(tensor) for tensor in graph.inputs}
    calls = []
    pending = list(graph.outputs)
    while pending:
        output = pending[-1]
        operation, index, _ = output._keras_history
        inputs = [] if operation is None else operation._inbound_nodes[index].input_tensors
        missing = [x for x in inputs if id(x) not in known]
        if id(output) in known or not missing:
            pending.pop()
            if id(output) not in known:
                known.add(id(output))
                calls.append((operation, inputs, output))
        else:
            pending.extend(missing)
    return calls


def without_trained_weights_below(model: Any) -> set[int]:
    """Return the ids of the layers that certainly have no trained weights below them.

    A layer has trained weights below it if the inputs of one of its calls depend on them. This is
    certain only for calls in the graphs of `Sequential` and functional models, and for a Keras
    wrapper, which passes its inputs to its layer.
    """
    depends: dict[int, bool] = {}

    def enter(layer: Any, below: Sequence[bool]) -> None:
        depends[id(layer)] = depends.get(id(layer), False) or any(below)
        if has_graph(layer):
            follow(layer, below)
            return
        inner = any(below) or not isinstance(layer, keras.layers.Wrapper)
        for part in parts(layer):
            enter(part, [inner])

    def follow(graph: Any, below: Sequence[bool]) -> None:
        if len(below) != len(graph.inputs):
            below = [any(below)] * len(graph.inputs)
        trained = {id(x): flag for x, flag in zip(graph.inputs, below, strict=True)}
        for operation, inputs, output in calls_of(graph):
            flags = [trained[id(x)] for x in inputs]
            weights = False
            if isinstance(operation, keras.layers.Layer):
                enter(operation, flags)
                weights = bool(operation.trainable_weights)
            trained[id(output)] = weights or any(flags)

    if has_graph(model):
        follow(model, [False] * len(model.inputs))
    return {layer for layer, below in depends.items() if not below}
