"""Functions that ask layers for their plain form, error kernels and rules.

Converters, reports, metrics, callbacks and figures call the functions of this module, and never
check the class of a layer. All methods of a layer are optional: a layer without them is treated as
a stock layer, which is its own plain form and whose errors return through its kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras

from keras_local.layers.conversions import named_arguments, plain_class_of

Before = Callable[[Any], Any]
"""A function from the layer's inputs to the inputs of its plain form, of symbolic tensors."""

Behind = Callable[[Any, Any], Any]
"""A function from the outputs and inputs of the plain form to the outputs of the layer."""

_OF_EVERY_LAYER = {"name", "dtype", "trainable", "autocast", "activity_regularizer"}

_RULE_ARGUMENTS = {"feedback", "feedback_initializer", "connectivity"}


@dataclass(frozen=True)
class PlainForm:
    """A built-in layer and operations that compute the same as another layer.

    Attributes:
        layer_class: The built-in class; None if `before` and `behind` compute everything.
        config: The config for `layer_class.from_config`.
        weights: Arrays for `set_weights` of the new layer, in its order.
        before: None, or a function from the layer's first argument to the inputs of the plain
            layer. With it, the other arguments of a call (a third factor, `training`) are not
            passed on.
        behind: None, or a function from the outputs and inputs of the plain layer to the outputs of
            the layer. It must consist of built-in operations, and use NumPy arrays for constants: a
            tensor would become an input of an exported ONNX file.

    Your own layer returns it from a method:

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
    """A kernel of a layer, and the feedback kernel that carries errors in its place.

    Attributes:
        name: Name of the part, if a layer has several kernels; empty for a single kernel.
        kernel: The variable of forward weights.
        feedback_kernel: The tensor that carries errors back; None if it is the kernel itself, or
            no error is sent.
    """

    name: str
    kernel: Any
    feedback_kernel: Any


def plain_form(layer: keras.layers.Layer) -> PlainForm:
    """Return the plain form of a built layer, which by default is the layer itself.

    Raises:
        NotImplementedError: If the layer has no plain form, or if only a layer inside it defines
            one.
    """
    if speaks(layer):
        form: PlainForm = layer.plain_form()
        return form
    for part in all_layers(layer):
        if part is not layer and (speaks(part) or plain_activation(part, {})[1] is not None):
            raise NotImplementedError(f"{type(part).__name__} inside of {type(layer).__name__}")
    weights = [keras.ops.convert_to_numpy(weight) for weight in layer.weights]
    config, behind = layer.get_config(), None
    # Inside a recurrence the activation is not the last operation.
    if not isinstance(layer, keras.layers.RNN):
        config, behind = plain_activation(layer, config)
    return PlainForm(type(layer), config, weights, behind=behind)


def plain_model(model: Any) -> Any:
    """Return the graph of a model with built-in layers: its `plain_model()`, or the model itself.

    A model with its own `call` may define the method. It returns a functional model, new or not,
    whose layers have plain forms.
    """
    own = getattr(model, "plain_model", None)
    return own() if callable(own) else model


def speaks(layer: keras.layers.Layer) -> bool:
    """Return whether a layer has a method for its plain form."""
    return callable(getattr(layer, "plain_form", None))


def plain_activation(
    layer: keras.layers.Layer, config: dict[str, Any]
) -> tuple[dict[str, Any], Behind | None]:
    """Return a config with built-in activations only, and the operations of the others.

    A method `plain` of an activation says how built-in operations compute it.
    """
    plain = getattr(getattr(layer, "activation", None), "plain", None)
    if plain is None:
        return config, None
    return {**config, "activation": "linear"}, lambda outputs, inputs: plain(outputs)


def twin_config(config: dict[str, Any], plain: type[keras.layers.Layer]) -> dict[str, Any]:
    """Return the arguments of a config that the plain layer takes as well.

    The rule's arguments are left out, and all others that the plain class does not have.
    """
    kept = known_arguments(config, plain)
    return {name: value for name, value in kept.items() if name not in _RULE_ARGUMENTS}


def known_arguments(config: dict[str, Any], kind: type[keras.layers.Layer]) -> dict[str, Any]:
    """Return what a class, or `keras.layers.Layer`, names among its arguments."""
    known = named_arguments(kind) | _OF_EVERY_LAYER
    return {name: value for name, value in config.items() if name in known}


def plain_twin(kind: type[keras.layers.Layer]) -> type[keras.layers.Layer]:
    """Return the plain class of a class of layers.

    Raises:
        NotImplementedError: For a class without one.
    """
    plain = plain_class_of(kind)
    if plain is None:
        raise NotImplementedError(
            f"{kind.__name__} has no plain form: set its attribute `plain` to the class that "
            "computes the same, or implement `plain_form`"
        )
    return plain


def forward_weights(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Return the weights that a layer and its plain form have in common, in the same order.

    The weights of a rule (`rule_weights` of a layer or of a layer inside it) are left out.
    """
    parts = all_layers(layer)
    ours = {id(weight) for part in parts for weight in getattr(part, "rule_weights", ())}
    return [weight for weight in layer.weights if id(weight) not in ours]


def forward_values(layer: keras.layers.Layer) -> list[Any]:
    """Return the values of `forward_weights` as arrays: kernels as the layer uses them."""
    used = {id(part.kernel): part.used_kernel for part in with_error_path(layer)}
    weights = forward_weights(layer)
    return [keras.ops.convert_to_numpy(used.get(id(weight), weight)) for weight in weights]


def error_kernels(layer: keras.layers.Layer) -> list[ErrorKernel] | None:
    """Return the kernels of a layer that sends errors by a rule; None for any other layer.

    An empty list says that no error goes through the layer's kernels except by the layer's own
    rule, so that reports do not list it as a layer with weight transport.
    """
    own = getattr(layer, "error_kernels", None)
    return [ErrorKernel(*entry) for entry in own()] if callable(own) else None


def taught_loss(layer: Any) -> Callable[..., Any] | None:
    """Return the loss by which a layer learns from inputs, labels and weights, or None."""
    loss: Callable[..., Any] | None = getattr(layer, "taught_loss", None)
    return loss


def learns_by_plasticity(layer: Any) -> bool:
    """Return whether a layer has a plasticity rule."""
    return getattr(layer, "plasticity", None) is not None


def norm_exponent(layer: Any) -> float | None:
    """Return the exponent of the sphere to which the units of a layer converge, or None."""
    exponent: float | None = getattr(getattr(layer, "plasticity", None), "norm_exponent", None)
    return exponent


def rule_weights(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Return the weights of a layer that its plain form does not have."""
    return list(getattr(layer, "rule_weights", ()))


def idle_weights(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Return the weights of a layer's rule that do not learn since no error uses them."""
    return list(getattr(layer, "idle_weights", ()))


def inner_layers(layer: keras.layers.Layer) -> list[tuple[str, keras.layers.Layer]]:
    """Return paths and layers of what a layer says that it has exchanged inside of another."""
    own = getattr(layer, "inner_layers", None)
    return list(own()) if callable(own) else []


def around_inner_layers(
    layer: keras.layers.Layer,
) -> tuple[keras.layers.Layer, Callable[[], keras.layers.Layer] | None]:
    """Return the layer in which others have been exchanged, and what makes a fresh copy of it.

    That is the layer itself, and None, unless it says its `inner_layers`.
    """
    original = getattr(layer, "original", None)
    return (layer.layer, original) if inner_layers(layer) and original else (layer, None)


def learns_from_activity(layer: keras.layers.Layer) -> bool:
    """Return whether a layer has a kernel and a rule whose weights learn from activity alone."""
    rule = getattr(layer, "feedback", None) if has_one_kernel(type(layer)) else None
    return bool(getattr(rule, "learns_from_activity", False))


def serves(model: Any) -> bool:
    """Return whether a model without a graph of layers has a form to serve."""
    return callable(getattr(model, "serving_form", None))


def serving_form(model: Any) -> tuple[Callable[[Any], Any], list[Any]] | None:
    """Return the serving function of a model without a graph, and its inputs; or None.

    A model with its own `call` may define a method `serving_form`. It returns the function in
    inference, and one `keras.layers.InputSpec` for each input.
    """
    own = getattr(model, "serving_form", None)
    form: tuple[Callable[[Any], Any], list[Any]] | None = own() if callable(own) else None
    return form


def exact_errors(layer: keras.layers.Layer) -> Callable[[], AbstractContextManager[None]] | None:
    """Return the context in which a layer sends errors by the chain rule, if it has one."""
    return getattr(layer, "exact_errors", None)


def measured(layer: keras.layers.Layer) -> Callable[[], AbstractContextManager[None]] | None:
    """Return the context for calls of a layer outside a trainer, if it needs one."""
    return getattr(layer, "measured", None)


def rule_names(layer: keras.layers.Layer) -> list[str]:
    """Return the names of the rules by which a layer sends errors, each once."""
    rules = [getattr(part, "feedback", None) for part in with_error_path(layer)]
    names = [type(rule).__name__ for rule in rules if rule is not None]
    return list(dict.fromkeys(names)) or [type(layer).__name__]


def takes_rule(kind: type[keras.layers.Layer]) -> bool:
    """Return whether a class of layers has an argument `feedback` and error kernels."""
    return hasattr(kind, "error_kernels") and "feedback" in named_arguments(kind)


def has_one_kernel(kind: type[keras.layers.Layer]) -> bool:
    """Return whether layers of a class have one kernel, with a rule that can be exchanged."""
    return hasattr(kind, "errors_by")


def with_error_path(layer: keras.layers.Layer) -> list[Any]:
    """Return the layers, at every depth of a layer, whose rule can be exchanged.

    Such layers have one kernel and a method `errors_by`.
    """
    return [part for part in all_layers(layer) if has_one_kernel(type(part))]


def all_layers(layer: keras.layers.Layer) -> Iterator[Any]:
    """Return a layer and all layers inside it, at every depth."""
    yield from layer._flatten_layers()
