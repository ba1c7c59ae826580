"""Which classes of layers stand for each other: a plain one, and one with a feedback rule."""

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

    `convert` calls `our_class.from_config` with the config of the plain layer and the arguments
    `feedback` and, where the class names them, `feedback_initializer` and `connectivity`. The
    forward weights of both, in their order, have to be the same. A subclass of `FeedbackLayer`
    needs nothing else; another class says its `plain_form()` and `error_kernels()`. Arguments that
    only `our_class` has are left out on the way back.

    Args:
        plain_class: A class of layers without a rule.
        our_class: The class of layers with a rule that computes the same; it takes an argument
            `feedback`.
        overwrite: Whether to replace a pair in which `plain_class` already stands, such as those
            of the built-in layers.

    Raises:
        ValueError: If one of the two is no class of layers, `our_class` takes no `feedback`, the
            two are the same, or `plain_class` stands in another pair and `overwrite` is False.

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
    check.require(plain_class is not our_class, "our_class", "another than plain_class", our_class)
    overwrite = check.flag("overwrite", overwrite)
    present = _OURS.get(plain_class, our_class)
    check.require(
        overwrite or present is our_class,
        "plain_class",
        f"a class that is not registered, or overwrite=True: {present.__name__} stands for it",
        plain_class,
    )
    _OURS[plain_class] = our_class
    _PLAIN[our_class] = plain_class


def our_class_of(kind: type) -> type[keras.layers.Layer] | None:
    """Return the class with a rule that stands for a plain class, or None."""
    return _OURS.get(kind)


def plain_class_of(kind: type) -> type[keras.layers.Layer] | None:
    """Return the plain class of a class of layers: its attribute `plain`, or the registered one."""
    plain: type[keras.layers.Layer] | None = getattr(kind, "plain", None)
    return _PLAIN.get(kind) if plain is None else plain


def named_arguments(kind: type) -> set[str]:
    """Return the names of all arguments that a class of layers, or a class below it, writes down.

    Those of `keras.layers.Layer` itself are left out.
    """
    found: set[str] = set()
    for base in kind.__mro__:
        if base is keras.layers.Layer:
            break
        if "__init__" in vars(base):
            found |= set(inspect.signature(vars(base)["__init__"]).parameters)
    return found
