"""Functions that ask layers for their plain form, error kernels and rules.

Converters, reports, metrics, callbacks and figures ask the functions of this module, and never
which class a layer is. Every method that they ask for may be left out: a layer that says nothing is
a stock layer, its own plain form, whose errors return through its kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras

from keras_local.layers.conversions import named_arguments, plain_class_of

Before = Callable[[Any], Any]
"""From the inputs of the layer to those of its plain form: a function of symbolic tensors."""

Behind = Callable[[Any, Any], Any]
"""From the outputs of the plain form, and its inputs, to the outputs of the layer."""

_OF_EVERY_LAYER = {"name", "dtype", "trainable", "autocast", "activity_regularizer"}

_RULE_ARGUMENTS = {"feedback", "feedback_initializer", "connectivity"}


@dataclass(frozen=True)
class PlainForm:
    """A built-in layer and operations that compute the same as another layer.

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
    """A kernel of a layer, and the feedback kernel that carries errors in its place.

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
    """Return the plain form of a built layer: its own word, or else the layer as it is.

    Raises:
        NotImplementedError: For a layer without one, and for one that says nothing and has a layer
            inside that does.
    """
    if speaks(layer):
        form: PlainForm = layer.plain_form()
        return form
    for part in all_layers(layer):
        if part is not layer and (speaks(part) or plain_activation(part, {})[1] is not None):
            raise NotImplementedError(f"{type(part).__name__} inside of {type(layer).__name__}")
    weights = [keras.ops.convert_to_numpy(weight) for weight in layer.weights]
    config, behind = layer.get_config(), None
    # Inside of a recurrence the activation does not come last.
    if not isinstance(layer, keras.layers.RNN):
        config, behind = plain_activation(layer, config)
    return PlainForm(type(layer), config, weights, behind=behind)


def plain_model(model: Any) -> Any:
    """Return the graph that computes what a model does: its `plain_model()`, or the model itself.

    A model with a `call` of its own offers the method: a functional model of any layers, made
    anew or not, whose layers have plain forms.
    """
    own = getattr(model, "plain_model", None)
    return own() if callable(own) else model


def speaks(layer: keras.layers.Layer) -> bool:
    """Tell whether a layer says its plain form."""
    return callable(getattr(layer, "plain_form", None))


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
    known = (named_arguments(plain) | _OF_EVERY_LAYER) - _RULE_ARGUMENTS
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
    """Return the weights of a layer that its plain form has too, in the same order.

    Those of a rule (`rule_weights` of a layer or of one inside of it) are left out.
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
    """Return the kernels of a layer that sends errors by a rule; None for a layer without a word.

    An empty list says that no error goes through the layer's kernels but by a rule of its own, so
    that reports do not list it as a layer with weight transport.
    """
    own = getattr(layer, "error_kernels", None)
    return [ErrorKernel(*entry) for entry in own()] if callable(own) else None


def taught_loss(layer: Any) -> Callable[..., Any] | None:
    """Return a layer's own loss of inputs, labels and weights, from which it learns; or None."""
    loss: Callable[..., Any] | None = getattr(layer, "taught_loss", None)
    return loss


def learns_by_plasticity(layer: Any) -> bool:
    """Tell whether a layer has a plasticity rule."""
    return getattr(layer, "plasticity", None) is not None


def norm_exponent(layer: Any) -> float | None:
    """Return the exponent of the sphere to which a layer's plasticity rule draws its units."""
    exponent: float | None = getattr(getattr(layer, "plasticity", None), "norm_exponent", None)
    return exponent


def rule_weights(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Return the weights of a layer that its plain form has not."""
    return list(getattr(layer, "rule_weights", ()))


def learns_from_activity(layer: keras.layers.Layer) -> bool:
    """Tell whether a layer has a kernel and a rule whose weights learn from activity alone."""
    rule = getattr(layer, "feedback", None) if has_one_kernel(type(layer)) else None
    return bool(getattr(rule, "learns_from_activity", False))


def serves(model: Any) -> bool:
    """Tell whether a model has no graph of layers, but something to serve."""
    return callable(getattr(model, "serving_form", None))


def serving_form(model: Any) -> tuple[Callable[[Any], Any], list[Any]] | None:
    """Return what a model without a graph serves, with the specifications of its inputs; or None.

    A model with a `call` of its own offers a method `serving_form`: the function in inference, and
    one `keras.layers.InputSpec` for each input.
    """
    own = getattr(model, "serving_form", None)
    form: tuple[Callable[[Any], Any], list[Any]] | None = own() if callable(own) else None
    return form


def exact_errors(layer: keras.layers.Layer) -> Callable[[], AbstractContextManager[None]] | None:
    """Return the context in which a layer sends errors by the chain rule, if it offers one."""
    return getattr(layer, "exact_errors", None)


def measured(layer: keras.layers.Layer) -> Callable[[], AbstractContextManager[None]] | None:
    """Return the context in which a layer is called outside of a trainer, if it needs one."""
    return getattr(layer, "measured", None)


def rule_names(layer: keras.layers.Layer) -> list[str]:
    """Return by which rules a layer with `error_kernels` sends errors: their names, each once."""
    rules = [getattr(part, "feedback", None) for part in with_error_path(layer)]
    names = [type(rule).__name__ for rule in rules if rule is not None]
    return list(dict.fromkeys(names)) or [type(layer).__name__]


def takes_rule(kind: type[keras.layers.Layer]) -> bool:
    """Tell whether a class of layers takes an argument `feedback` and says its error kernels."""
    return hasattr(kind, "error_kernels") and "feedback" in named_arguments(kind)


def has_one_kernel(kind: type[keras.layers.Layer]) -> bool:
    """Tell whether layers of a class have a single kernel, with a rule that can be exchanged."""
    return hasattr(kind, "errors_by")


def with_error_path(layer: keras.layers.Layer) -> list[Any]:
    """Return the layers whose rule can be exchanged, among a layer and all that is inside of it.

    Such a layer has one kernel, and a method `errors_by`.
    """
    return [part for part in all_layers(layer) if has_one_kernel(type(part))]


def all_layers(layer: keras.layers.Layer) -> Iterator[Any]:
    """Return a layer and all layers inside of it, at every depth."""
    yield from layer._flatten_layers()
