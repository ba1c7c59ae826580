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


def with_weights_below(model: Any, layer: Any) -> list[Any] | None:
    """Return the layers with weights on which the inputs of a layer depend, in any of its calls.

    They are in the order of the graph, with frozen ones. None means that the graph does not show
    all calls of the layer: then code of a subclass, a wrapper or another layer calls it.
    """
    found: dict[int, Any] = {}
    places: list[bool] = []

    def enter(operation: Any, below: Sequence[dict[int, Any]]) -> None:
        if operation is layer:
            places.append(True)
            for each in below:
                found.update(each)
        elif has_graph(operation):
            follow(operation, below)
        elif any(part is layer for part in operation._flatten_layers()):
            places.append(False)

    def follow(graph: Any, below: Sequence[dict[int, Any]]) -> None:
        if len(below) != len(graph.inputs):
            below = [_union(below)] * len(graph.inputs)
        known = {id(x): each for x, each in zip(graph.inputs, below, strict=True)}
        for operation, inputs, output in calls_of(graph):
            under = [known[id(x)] for x in inputs]
            known[id(output)] = _union(under)
            if isinstance(operation, keras.layers.Layer):
                enter(operation, under)
                if operation.weights:
                    known[id(output)][id(operation)] = operation

    if has_graph(model):
        follow(model, [{} for _ in model.inputs])
    return list(found.values()) if places and all(places) else None


def _union(parts: Sequence[dict[int, Any]]) -> dict[int, Any]:
    return {key: layer for part in parts for key, layer in part.items()}
