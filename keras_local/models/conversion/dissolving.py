"""A pass that copies a model and the models inside it into one graph of layers."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import keras

from keras_local.models.conversion.cloning import Cloning, copy_of, require_graph


class Dissolving(Cloning):
    """Interface of a pass after which nested models are parts of one graph.

    Without overridden methods it makes a copy of the model.

    Args:
        keep_weights: Whether the result starts with the weights of the model, or with new ones.
    """

    keeps_sequential = False

    def __init__(self, keep_weights: bool) -> None:
        super().__init__()
        self.keep_weights = keep_weights
        self.old: dict[int, Any] = {}

    def opens(self, layer: Any) -> bool:
        """Return False: nested models are dissolved instead."""
        return False

    def operation(self, operation: Any) -> Any:
        """Return the new form of a layer, or a function that calls the parts of a model."""
        if isinstance(operation, keras.Model):
            return partial(self._dissolve, operation)
        new = super().operation(operation)
        self.old[id(new)] = operation
        return new

    def _dissolve(self, model: keras.Model, inputs: Any, training: Any = None, **_: Any) -> Any:
        """Call the parts of a model one by one, with the `training` that it is called with."""
        require_graph(model)

        def call(operation: Any, *arguments: Any, **keywords: Any) -> Any:
            if training is not None and _takes_training(operation):
                keywords["training"] = training
            return self.call(operation, *arguments, **keywords)

        # This is what `keras.models.clone_model` does, but into the graph that is being made.
        graph = keras.Function(model.inputs, model.outputs)
        return graph._run_through_graph(inputs, operation_fn=self.operation, call_fn=call)

    def model(self, model: keras.Model) -> keras.Model:
        """Return the new form of a model, with the weights of all layers."""
        clone = super().model(model)
        for new in clone.layers:
            old = self.old.get(id(new))
            if old is not None and self.keep_weights:
                for source, target in zip(old.variables, new.variables, strict=True):
                    target.assign(keras.ops.convert_to_numpy(source))
        return clone

    def layer(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        """Return a copy of the layer."""
        return copy_of(layer)

    def carry(self, layer: keras.layers.Layer, new: keras.layers.Layer) -> None:
        """Do nothing: `model` also sees the layers of nested models."""


def _takes_training(operation: Any) -> bool:
    if isinstance(operation, partial):
        return True
    layer = isinstance(operation, keras.layers.Layer)
    return layer and "training" in inspect.signature(operation.call).parameters
