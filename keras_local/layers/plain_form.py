"""What a layer says about itself to whoever converts it, reports on it or watches it.

Converters, reports, metrics, callbacks and figures ask the functions of this module, and never
which class a layer is. Every method that they ask for may be left out: a layer that says nothing is
a stock layer, its own plain form, whose errors return through its kernels.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras

Before = Callable[[Any], Any]
"""From the inputs of the layer to those of its plain form: a function of symbolic tensors."""

Behind = Callable[[Any, Any], Any]
"""From the outputs of the plain form, and its inputs, to the outputs of the layer."""

_OF_EVERY_LAYER = {"name", "dtype", "trainable", "autocast", "activity_regularizer"}

_RULE_ARGUMENTS = {"feedback", "feedback_initializer", "connectivity"}


@dataclass(frozen=True)
class PlainForm:
    """Built-in layer and operations that compute the same as a layer of this package or a user's.

    Attributes:
        layer_class: The built-in class; None where `before` and `behind` compute all of it.
        config: What `layer_class.from_config` takes.
        weights: Values for `set_weights` of the new layer, in its order, as arrays.
        before: None, or a function from what the layer is called with first to what the plain layer
            is. With it, the layer's other arguments in a call (a third factor, `training`) are not
            handed on.
        behind: None, or a function from the outputs of the plain layer, and the inputs that it got,
            to the outputs of the layer. It must be made of built-in operations, and use NumPy
            arrays for constants: a tensor would become an input of an exported ONNX file.

    A layer of your own offers it as a method:

    >>> import keras, keras_local as kl
    >>> class Doubled(keras.layers.Dense):
    ...     def call(self, inputs, training=None):
    ...         return 2.0 * super().call(inputs)
    ...
    ...     def plain_form(self):
    ...         weights = [2.0 * keras.ops.convert_to_numpy(weight) for weight in self.weights]
    ...         return kl.layers.PlainForm(keras.layers.Dense, self.get_config(), weights)
    >>> model = keras.Sequential([keras.Input((3,)), Doubled(2)])
    >>> type(kl.models.to_plain(model).layers[-1]).__name__
    'Dense'
    """

    layer_class: type[keras.layers.Layer] | None
    config: dict[str, Any]
    weights: Sequence[Any]
    before: Before | None = None
    behind: Behind | None = None


class ErrorKernel(NamedTuple):
    """A kernel through which a layer would send errors, and the one through which it does.

    Attributes:
        name: Name of the part of a layer with several kernels; empty for the only one.
        kernel: The variable of forward weights.
        feedback_kernel: The tensor that carries errors back; None if it is the kernel itself, or
            no error is sent.
    """

    name: str
    kernel: Any
    feedback_kernel: Any


def plain_form(layer: keras.layers.Layer) -> PlainForm:
    """Return the plain form of a built layer: its own word, or else the layer as it is."""
    own = getattr(layer, "plain_form", None)
    if callable(own):
        form: PlainForm = own()
        return form
    weights = [keras.ops.convert_to_numpy(weight) for weight in layer.weights]
    config, behind = layer.get_config(), None
    # Inside of a recurrence the activation does not come last.
    if not isinstance(layer, keras.layers.RNN):
        config, behind = plain_activation(layer, config)
    return PlainForm(type(layer), config, weights, behind=behind)


def plain_activation(
    layer: keras.layers.Layer, config: dict[str, Any]
) -> tuple[dict[str, Any], Behind | None]:
    """Return a config without an activation that is not built in, and its operations instead.

    An activation says by a method `plain` how built-in operations compute it.
    """
    plain = getattr(getattr(layer, "activation", None), "plain", None)
    if plain is None:
        return config, None
    return {**config, "activation": "linear"}, lambda outputs, inputs: plain(outputs)


def twin_config(config: dict[str, Any], plain: type[keras.layers.Layer]) -> dict[str, Any]:
    """Return the arguments in a config that the plain layer takes as well.

    Left out are those of the rule, and all others of which the plain class does not know.
    """
    known = set(_OF_EVERY_LAYER)
    for kind in plain.__mro__:
        if kind is keras.layers.Layer:
            break
        if "__init__" in vars(kind):
            known |= set(inspect.signature(vars(kind)["__init__"]).parameters)
    return {
        name: value
        for name, value in config.items()
        if name in known and name not in _RULE_ARGUMENTS
    }


def plain_twin(kind: type[keras.layers.Layer]) -> type[keras.layers.Layer]:
    """Return the plain class of a class of layers: its attribute `plain`.

    Raises:
        NotImplementedError: For a class without one.
    """
    plain: type[keras.layers.Layer] | None = getattr(kind, "plain", None)
    if plain is None:
        raise NotImplementedError(
            f"{kind.__name__} has no plain form: set its attribute `plain` to the layer that "
            "computes the same, or implement `plain_form`"
        )
    return plain


def error_kernels(layer: keras.layers.Layer) -> list[ErrorKernel] | None:
    """Return the kernels of a layer that sends errors by a rule; None for a layer without a word.

    An empty list says that no error goes through the layer's kernels but by a rule of its own, so
    that nobody looks for a transport of weights in it.
    """
    own = getattr(layer, "error_kernels", None)
    return [ErrorKernel(*entry) for entry in own()] if callable(own) else None


def rule_names(layer: keras.layers.Layer) -> list[str]:
    """Return by which rules a layer with `error_kernels` sends errors: their names, each once."""
    rules = [getattr(part, "feedback", None) for part in with_error_path(layer)]
    names = [type(rule).__name__ for rule in rules if rule is not None]
    return list(dict.fromkeys(names)) or [type(layer).__name__]


def with_error_path(layer: keras.layers.Layer) -> list[Any]:
    """Return the layers whose rule can be exchanged, among a layer and all that is inside of it.

    Such a layer has one kernel, and a method `errors_by`.
    """
    return [part for part in all_layers(layer) if hasattr(part, "errors_by")]


def all_layers(layer: keras.layers.Layer) -> Iterator[Any]:
    """Return a layer and all layers inside of it, at every depth."""
    yield from layer._flatten_layers()
