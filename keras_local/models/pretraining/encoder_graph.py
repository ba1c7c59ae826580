"""Functions that find the plastic layers of an encoder, and the inputs of each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras

from keras_local import _validation as check
from keras_local.layers.graph_walks import calls_of, has_graph
from keras_local.layers.plain_form import learns_by_plasticity


def plastic_layers(encoder: Any, argument: str = "encoder") -> list[Any]:
    """Return the layers of an encoder that learn by plasticity, the lowest first.

    Layers of nested models are included.

    Raises:
        ValueError: If the encoder is not built or has no such layer, or if such a layer is called
            more than once or is inside a layer that is not a model (a wrapper, for instance).
    """
    check.require(
        isinstance(encoder, keras.Model) and has_graph(encoder),
        argument,
        "a built Sequential or functional keras.Model",
        encoder,
    )
    layers: list[Any] = []
    for layer in _walk(encoder, argument):
        once = all(layer is not each for each in layers)
        allowed = "a model that calls each plastic layer once"
        check.require(once, argument, allowed, f"several calls of {layer.name}")
        layers.append(layer)
    if not layers:
        kinds = ", ".join(
            type(layer).__name__ + ("" if layer.trainable else " (frozen)")
            for layer in encoder.layers
        )
        allowed = (
            "a model with at least one trainable layer with a plasticity rule, as HebbianDense"
        )
        raise ValueError(
            f"`{argument}` must be {allowed}. Received: a model of {kinds or 'no layers'}"
        )
    return layers


def received_by(model: Any, layer: Any) -> Any:
    """Return the symbolic tensor that a layer receives, in the graph of the model."""
    for operation, inputs, _ in calls_of(model):
        if operation is layer:
            return inputs[0]
        if has_graph(operation) and _is_inside(layer, operation):
            inner = received_by(operation, layer)
            places = [place for place, each in enumerate(operation.inputs) if each is inner]
            if places:
                return inputs[places[0]]
            return keras.Model(operation.inputs, inner)(inputs)
    raise ValueError(f"{layer.name} is not in the graph of {model.name}.")


def part_with(model: Any, layers: Sequence[Any]) -> keras.Model:
    """Return the part of a model that has to be computed so that some layers can learn."""
    ids = {id(layer) for layer in layers}
    outputs = [
        output
        for operation, _, output in calls_of(model)
        if isinstance(operation, keras.layers.Layer)
        and any(id(each) in ids for each in operation._flatten_layers())
    ]
    return keras.Model(model.inputs, outputs if len(outputs) > 1 else outputs[0])


def below(encoder: Any, layer: Any) -> keras.Model | None:
    """Return the model from the encoder's inputs to those of a layer; None if they are equal."""
    received = received_by(encoder, layer)
    if any(received is each for each in encoder.inputs):
        return None
    return keras.Model(encoder.inputs, received)


def mask_of(encoder: Any, layer: Any) -> Any:
    """Return the symbolic mask of what a layer receives, or None if all of it counts."""
    return getattr(received_by(encoder, layer), "_keras_mask", None)


def unsettled_below(encoder: Any, layer: Any, settled: set[int]) -> list[Any]:
    """Return the layers below that act differently in training while the layer learns.

    These are batch normalisations that have not measured their statistics yet, and layers that draw
    random numbers, such as image augmentation.
    """
    lower = below(encoder, layer)
    if lower is None:
        return []
    return [
        each
        for each in lower._flatten_layers()
        if (_measures(each) and id(each) not in settled) or each._seed_generators
    ]


def _measures(layer: Any) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization) and layer.trainable


def _walk(model: Any, argument: str) -> Iterator[Any]:
    for operation, _, _ in calls_of(model):
        if not isinstance(operation, keras.layers.Layer):
            continue
        if learns_by_plasticity(operation):
            if operation.trainable and operation.trainable_weights:
                yield operation
        elif has_graph(operation):
            yield from _walk(operation, argument)
        else:
            hidden = [
                each.name
                for each in operation._flatten_layers()
                if learns_by_plasticity(each) and each.trainable
            ]
            allowed = (
                "a model whose plastic layers stand in its graph, or in that of a nested model"
            )
            received = f"{hidden} inside of {operation.name}"
            check.require(not hidden, argument, allowed, received)


def _is_inside(layer: Any, model: Any) -> bool:
    return any(each is layer for each in model._flatten_layers())
