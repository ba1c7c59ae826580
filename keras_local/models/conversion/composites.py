"""Conversion of layers that hold layers, and that are no graph of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras

from keras_local.layers import Converted
from keras_local.layers.inner_layers import directly_inside
from keras_local.layers.plain_form import all_layers, around_inner_layers
from keras_local.models.conversion.cloning import copy_of, is_graph
from keras_local.models.conversion.conversion_report import kernels
from keras_local.models.conversion.inner_parts import (
    Examination,
    Inner,
    calls_in_graph,
    changes_a_built_in_call,
    inner_parts,
    same_outputs,
    transports,
)


@dataclass
class Composite:
    """A layer that holds layers, and what of them is converted.

    Attributes:
        layer: The layer as it stands in the model.
        converted: The layers inside that are exchanged.
        new: What is put in their places.
        left: Layers inside that are to keep backpropagation.
    """

    layer: keras.layers.Layer
    converted: list[Inner]
    new: list[keras.layers.Layer]
    left: list[keras.layers.Layer]

    def __post_init__(self) -> None:
        around, fresh = around_inner_layers(self.layer)
        # What has been converted once has been looked at.
        examined = fresh is None and bool(self.converted)
        self.examination = Examination(around, self.converted) if examined else None

    def refusals(self) -> Iterator[str]:
        """Say what stands against the conversion: errors that would go another way."""
        yield from (
            f"{type(holder).__name__}, a built-in layer but for its `call`"
            for holder in self._holders()
            if changes_a_built_in_call(type(holder)) and kernels(holder)
        )
        yield from self._not_found()
        if self.examination is not None:
            yield from self.examination.refusals(self.left)

    def _holders(self) -> Iterator[keras.layers.Layer]:
        """Return the layers that are neither converted nor left, nor inside of such."""
        done = [*(inner.layer for inner in self.converted), *self.left]
        known = {id(part) for layer in done for part in all_layers(layer)}
        around, _ = around_inner_layers(self.layer)
        # What is inside of an exchanged one is not the holder's.
        yield from (part for part in all_layers(around) if id(part) not in known)

    def _not_found(self) -> Iterator[str]:
        for holder in self._holders():
            if is_built_in(holder) or is_graph(holder):
                continue
            found = {id(part) for part in directly_inside(holder).values()}
            for part in holder._flatten_layers(include_self=False, recursive=False):
                if id(part) not in found and kernels(part):
                    yield f"{type(part).__name__} {part.name!r}, which no attribute holds"

    def wrapped(self) -> Converted:
        """Return the layer with others in it, not built."""
        around, fresh = around_inner_layers(self.layer)
        classes = {type(part).__name__: type(part) for part in all_layers(around)}
        with keras.saving.custom_object_scope(classes):
            copy = copy_of(around) if fresh is None else fresh()
        places = [inner.paths for inner in self.converted]
        return Converted(copy, list(zip(places, self.new, strict=True)), name=self.layer.name)

    def agrees(self, new: keras.layers.Layer) -> bool:
        """Tell whether the converted layer computes what the old one does, on random inputs."""
        if self.examination is None:
            return True
        calls = self.examination.calls
        found = [new(*args, **kwargs) for args, kwargs in calls]
        return same_outputs(self.examination.outputs, found)


def is_built_in(layer: keras.layers.Layer) -> bool:
    """Tell whether a layer is one of Keras', of which each does with its parts what it likes."""
    return type(layer).__module__.startswith("keras.src.")


def holds_layers(layer: keras.layers.Layer) -> bool:
    """Tell whether a layer can be looked into: not a built-in one, and it holds others."""
    around, _ = around_inner_layers(layer)
    return not is_built_in(around) and bool(directly_inside(around))


def inside(layer: keras.layers.Layer, stops: Callable[[Any], bool]) -> list[Inner]:
    """Return the layers inside of one that holds layers; built-in ones are not opened."""
    around, _ = around_inner_layers(layer)
    return inner_parts(around, lambda part: stops(part) or is_built_in(part))


def passes_no_error(layer: keras.layers.Layer) -> bool:
    """Tell whether the weights of a layer act on no error: an embedding of whole numbers."""
    if any(True for part in layer._flatten_layers(include_self=False) if kernels(part)):
        calls = calls_in_graph(layer)
        flat = keras.tree.flatten(calls)
        return not any("float" in str(getattr(value, "dtype", "")) for value in flat)
    return not transports(layer, kernels(layer), calls_in_graph(layer))
