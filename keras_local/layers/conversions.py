"""Pairs of layer classes: a plain class, and a class with a feedback rule."""

from __future__ import annotations

import inspect

import keras

from keras_local import _validation as check

_OURS: dict[type, type[keras.layers.Layer]] = {}
_PLAIN: dict[type, type[keras.layers.Layer]] = {}


def register_conversion(
    plain_class: type[keras.layers.Layer],
    our_class: type[keras.layers.Layer],
    overwrite: bool = False,
) -> None:
    """Register a plain class of layers and the class with a rule that `convert` puts in its place.

    `convert` calls `our_class.from_config` with the config of the plain layer and the argument
    `feedback`, and with `feedback_initializer` and `connectivity` if the class takes them. Both
    classes must have the same forward weights in the same order. A subclass of `FeedbackLayer`
    needs nothing else; another class defines `plain_form()` and `error_kernels()`. `to_plain`
    leaves out arguments that only `our_class` has.

    Args:
        plain_class: A class of layers without a rule.
        our_class: The class of layers with a rule that computes the same; it takes an argument
            `feedback`.
        overwrite: Whether to replace a pair in which `plain_class` is already registered, such as
            the pairs of the built-in layers.

    Raises:
        ValueError: If one of the two is not a class of layers, `our_class` takes no `feedback`, the
            two are the same, or `plain_class` is already registered and `overwrite` is False.

    >>> import keras, keras_local as kl
    >>> class Rows(keras.layers.Dense):
    ...     pass
    >>> class FeedbackRows(kl.layers.FeedbackDense):
    ...     plain = Rows
    >>> kl.models.register_conversion(Rows, FeedbackRows)
    >>> model = keras.Sequential([keras.Input((4,)), Rows(3)])
    >>> converted = kl.models.convert(model, "feedback_alignment", verbose=False)
    >>> [type(m.layers[-1]).__name__ for m in (converted, kl.models.to_plain(converted))]
    ['FeedbackRows', 'Rows']
    """
    for argument, kind in (("plain_class", plain_class), ("our_class", our_class)):
        layers = isinstance(kind, type) and issubclass(kind, keras.layers.Layer)
        check.require(layers, argument, "a class of Keras layers", kind)
    allowed = "a class of layers that takes an argument `feedback`"
    check.require("feedback" in named_arguments(our_class), "our_class", allowed, our_class)
    check.require(
        plain_class is not our_class, "our_class", "another class than plain_class", our_class
    )
    overwrite = check.flag("overwrite", overwrite)
    present = _OURS.get(plain_class, our_class)
    check.require(
        overwrite or present is our_class,
        "plain_class",
        f"a class that is not registered, or overwrite=True: it is paired with {present.__name__}",
        plain_class,
    )
    _OURS[plain_class] = our_class
    _PLAIN[our_class] = plain_class


def our_class_of(kind: type) -> type[keras.layers.Layer] | None:
    """Return the class with a rule that is registered for a plain class, or None."""
    return _OURS.get(kind)


def plain_class_of(kind: type) -> type[keras.layers.Layer] | None:
    """Return the plain class for a class of layers: its `plain`, or the registered class."""
    plain: type[keras.layers.Layer] | None = getattr(kind, "plain", None)
    return _PLAIN.get(kind) if plain is None else plain


def named_arguments(kind: type) -> set[str]:
    """Return the names of all arguments that a class of layers, or a base class, lists.

    The arguments of `keras.layers.Layer` are left out.
    """
    found: set[str] = set()
    for base in kind.__mro__:
        if base is keras.layers.Layer:
            break
        if "__init__" in vars(base):
            found |= set(inspect.signature(vars(base)["__init__"]).parameters)
    return found
