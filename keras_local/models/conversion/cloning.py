"""A walk over the graph of a model, layer by layer, which all conversions use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import keras

from keras_local import _validation as check
from keras_local.layers.plain_form import all_layers, known_arguments


class Cloning(ABC):
    """Interface of one pass over a model, which keeps shared layers shared."""

    keeps_sequential: ClassVar[bool]
    """Whether a Sequential model stays Sequential, or becomes a functional model."""

    def __init__(self) -> None:
        self.made: dict[int, Any] = {}

    @abstractmethod
    def layer(self, layer: keras.layers.Layer) -> Any:
        """Return the new form of a layer, without weights: a layer, or a function of tensors."""

    @abstractmethod
    def carry(self, layer: keras.layers.Layer, new: Any) -> None:
        """Give the new form of a layer, which is built, the weights of the old layer."""

    def call(self, operation: Any, *arguments: Any, **keywords: Any) -> Any:
        """Call the new form of a layer in the new graph."""
        return operation(*arguments, **keywords)

    def opens(self, layer: Any) -> bool:
        """Return whether to convert a model layer by layer, and not as one layer."""
        return isinstance(layer, keras.Model)

    def model(self, model: keras.Model) -> keras.Model:
        """Return the new form of a model, not compiled.

        Raises:
            ValueError: For a model that is not built or has a `call` of its own.
        """
        require_graph(model)
        if isinstance(model, keras.Sequential) and self.keeps_sequential:
            clone = self._sequential(model)
        else:
            bare = _bare(model)
            clone = keras.models.clone_model(
                bare,
                input_tensors=keras.tree.map_structure(_input_like, bare.input),
                clone_function=self.operation,
                call_function=self.call,
            )
        if not model.trainable:
            clone.trainable = False
        for layer in model.layers:
            if id(layer) in self.made and not self.opens(layer):
                self.carry(layer, self.made[id(layer)])
        return clone

    def operation(self, operation: Any) -> Any:
        """Return the new form of a layer; an operation is its own new form."""
        if not isinstance(operation, keras.layers.Layer):
            return operation
        if id(operation) not in self.made:
            make = self.model if self.opens(operation) else self.layer
            self.made[id(operation)] = make(operation)
        return self.made[id(operation)]

    def _sequential(self, model: keras.Sequential) -> keras.Sequential:
        inputs = _input_like(model.inputs[0])
        return keras.Sequential([inputs, *map(self.operation, model.layers)], name=model.name)


def require_graph(model: keras.Model) -> None:
    """Refuse a model that does more than its graph of layers."""
    # A built Sequential may have no graph, if a layer does not know the shape of its outputs.
    graph = hasattr(model, "inputs")
    if not isinstance(model, keras.Sequential):
        graph = graph and hasattr(model, "operations")
    described = f"{type(model).__name__} {model.name!r}"
    allowed = "a built Sequential or functional model, or a Readout"
    check.require(graph and bool(model.inputs), "model", allowed, described)
    sequential = isinstance(model, keras.Sequential)
    call = keras.Sequential.call if sequential else type(_bare(model)).call
    allowed = "a model without a `call` of its own"
    check.require(type(model).call is call, "model", allowed, described)


def is_graph(layer: Any) -> bool:
    """Return whether a layer is a model that can be converted layer by layer."""
    if not isinstance(layer, keras.Model):
        return False
    try:
        require_graph(layer)
    except ValueError:
        return False
    return True


def _bare(model: keras.Model) -> keras.Model:
    """Return a model of the same graph that is not compiled, because the clone must not be."""
    # `input` of a Sequential inside another model belongs to the call in that model.
    sequential = isinstance(model, keras.Sequential)
    ends = (model.inputs[0], model.outputs[0]) if sequential else (model.input, model.output)
    return keras.Model(*ends, name=model.name)


def _input_like(tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Return a new input of the same name, shape and kind."""
    layer = tensor._keras_history.operation
    return keras.Input(
        batch_shape=tensor.shape,
        dtype=tensor.dtype,
        sparse=tensor.sparse,
        optional=layer.optional,
        name=layer.name,
    )


def from_config(
    kind: type[keras.layers.Layer], config: dict[str, Any], *around: keras.layers.Layer
) -> Any:
    """Return a layer from its config; the classes of layers inside `around` are known."""
    known = {type(part).__name__: type(part) for layer in around for part in all_layers(layer)}
    with keras.saving.custom_object_scope(known):
        return kind.from_config(config)


def around(wrapper: keras.layers.Wrapper, inner: keras.layers.Layer) -> Any:
    """Return a wrapper of the same class and arguments around another layer, without weights."""
    config = {**wrapper.get_config(), "layer": keras.saving.serialize_keras_object(inner)}
    return from_config(type(wrapper), config, inner)


def copy_of(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Return a layer of the same class and arguments, without weights.

    Raises:
        ValueError: For a layer that cannot be copied because its config lacks arguments.
    """
    if type(layer) is keras.layers.Lambda:
        # Restored from a config, a Python function would lose the names that it refers to.
        config = {key: layer.get_config()[key] for key in ("name", "trainable", "dtype")}
        return keras.layers.Lambda(
            layer.function, layer._output_shape, layer.mask, layer.arguments, **config
        )
    try:
        try:
            return from_config(type(layer), layer.get_config(), layer)
        except TypeError:
            # Some layers write down more than their constructor takes.
            return from_config(type(layer), known_arguments(layer.get_config(), type(layer)), layer)
    except (NotImplementedError, TypeError) as error:
        described = f"{type(layer).__name__} {layer.name!r}"
        allowed = "a model of layers that can be copied by `get_config` and `from_config`"
        raise ValueError(f"`model` must be {allowed}. Received: {described}") from error
