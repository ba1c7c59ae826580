"""Conversion to a model of built-in layers, which does not need this package."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import keras

from keras_local import _validation as check
from keras_local._serialization import PACKAGE
from keras_local.layers.direct.layer import cuts_for_direct_layer
from keras_local.layers.plain_form import (
    PlainForm,
    forward_weights,
    plain_form,
    plain_model,
    serves,
    speaks,
)
from keras_local.models.conversion.cloning import Cloning, around, copy_of, is_graph
from keras_local.models.conversion.directions import around_both, directions


def to_plain(model: keras.Model) -> keras.Model:
    """Return a model of built-in layers and operations with the same predictions.

    Each layer is replaced by its `plain_form()`; a layer without this method is copied.

    * Feedback layers become the Keras layers of the same name.
    * Locally connected layers become slices of their inputs and a `keras.layers.EinsumDense`.
    * Hebbian layers become the Keras layers of their kind without bias; lateral weights become a
      part of the kernel.
    * Activations of this package become built-in operations.
    * The feature scale of a `Readout` becomes a part of its last kernel. The kernel of a
      `hebbian_readout` gets columns of unit norm.
    * The stored samples of `nearest_neighbours` become the kernel of a `keras.layers.Dense`, and
      their labels the kernel of an embedding.
    * Feedback weights, which only carry errors, are left out. So are `DirectFeedback` and
      `DirectRandomTarget` with the `stop_gradient` behind their hidden tensors.
    * A Keras wrapper such as `TimeDistributed` gets the plain form of its layer.

    The weights are copies: the two models do not share them.

    Args:
        model: A Sequential or functional model, nested or not, or a model that has a
            `plain_model()`, such as a `Readout` or a fitted `NearestNeighbours`.

    Returns:
        A functional model, not compiled, which can be saved, loaded and served where keras_local is
        not installed. Your own layers without a `plain_form` still need your code.

    Raises:
        ValueError: For a model that is not built or has its own `call`, for a layer of this package
            without a plain form, and for a layer without one that contains a layer of this package.

    >>> import keras, keras_local as kl
    >>> model = keras.Sequential([keras.Input((4,)), kl.layers.FeedbackDense(2)])
    >>> [type(layer).__name__ for layer in kl.models.to_plain(model).layers]
    ['InputLayer', 'Dense']
    """
    check.require(isinstance(model, keras.Model), "model", "a keras.Model", type(model).__name__)
    allowed = "a model with a graph of layers; `models.export` writes one that only serves"
    check.require(not serves(model), "model", allowed, f"{type(model).__name__} {model.name!r}")
    return _ToPlain().model(model)


class _ToPlain(Cloning):
    """The plain form of each layer, with the operations before and behind it."""

    keeps_sequential = False

    def __init__(self) -> None:
        super().__init__()
        self.forms: dict[int, PlainForm] = {}

    def model(self, model: keras.Model) -> keras.Model:
        # A clone is not compiled, even if the graph of the model is.
        return super().model(plain_model(model))

    def operation(self, operation: Any) -> Any:
        if cuts_for_direct_layer(operation):
            return _Pass()
        return super().operation(operation)

    def call(self, operation: Any, *arguments: Any, **keywords: Any) -> Any:
        form = self.forms.get(id(operation))
        if form is None:
            return operation(*arguments, **keywords)
        if form.before is not None:
            # A plastic layer is called without the third factor, which affects only learning.
            arguments, keywords = (form.before(arguments[0]),), {}
        if "mask" not in signature(operation.call).parameters:
            # A plain layer that takes no mask passes it on by itself.
            keywords = {name: value for name, value in keywords.items() if name != "mask"}
        outputs = operation(*arguments, **keywords)
        return outputs if form.behind is None else form.behind(outputs, arguments[0])

    def layer(self, layer: keras.layers.Layer) -> Any:
        both = directions(layer)
        if both and any(speaks(each) for each in both):
            new, weights = _both(layer, *both)
            form = PlainForm(type(new), {}, weights)
        elif isinstance(layer, keras.layers.Wrapper):
            new, weights = self._wrapper(layer)
            form = PlainForm(type(new), {}, weights)
        else:
            form = _form(layer)
            new = _made(layer, form)
        self.forms[id(new)] = form
        return new

    def carry(self, layer: keras.layers.Layer, new: Any) -> None:
        form = self.forms[id(new)]
        if form.layer_class is not None:
            new.set_weights(form.weights)

    def _wrapper(self, wrapper: keras.layers.Wrapper) -> tuple[keras.layers.Layer, list[Any]]:
        """Return the wrapper around the plain form of its layer, and the weights of both."""
        inner = wrapper.layer
        if is_graph(plain_model(inner)):
            new = self.model(inner)
            return around(wrapper, new), _values(wrapper, new.get_weights())
        if isinstance(inner, keras.layers.Wrapper):
            new, weights = self._wrapper(inner)
            return around(wrapper, new), _values(wrapper, weights)
        form = _form(inner, f" inside of {type(wrapper).__name__}")
        if form.layer_class is type(inner) and form.behind is None:
            # Nothing in it changes. A wrapper of several layers has more than this layer.
            return copy_of(wrapper), list(plain_or_refused(wrapper).weights)
        new = _made(inner, form)
        if form.before is not None or form.behind is not None:
            new = _with_operations(wrapper, form, new)
        return around(wrapper, new), _values(wrapper, form.weights)


def _both(layer: Any, *directed: Any) -> tuple[Any, list[Any]]:
    """Return a layer of two directions around the plain forms of both, and their weights."""
    forms = [_form(each, f" inside of {type(layer).__name__}") for each in directed]
    allowed = "a model in which no operations stand around a layer inside of Bidirectional"
    bare = all(form.before is None and form.behind is None for form in forms)
    check.require(bare, "model", allowed, layer.name)
    made = [_made(each, form) for each, form in zip(directed, forms, strict=True)]
    return around_both(layer, *made), [weight for form in forms for weight in form.weights]


def _values(wrapper: keras.layers.Wrapper, inner: Sequence[Any]) -> list[Any]:
    """Return the weights of a new wrapper, some of which are those of the layer inside."""
    mine = forward_weights(wrapper.layer)
    known = {id(weight): value for weight, value in zip(mine, inner, strict=False)}
    weights = forward_weights(wrapper)
    if len(mine) != len(inner):
        own = [weight for weight in weights if id(weight) not in known]
        return [*map(keras.ops.convert_to_numpy, own), *inner]
    # A wrapper may list a weight of its layer among its own weights.
    return [known.get(id(w), keras.ops.convert_to_numpy(w)) for w in weights]


def plain_or_refused(layer: keras.layers.Layer, where: str = "") -> PlainForm:
    """Return the plain form of a layer, or refuse the model that contains it."""
    allowed = "a model in which every layer of keras_local has a plain form"
    try:
        return plain_form(layer)
    except NotImplementedError as error:
        raise ValueError(check.refusal("model", allowed, f"{error}{where}")) from error


def _form(layer: keras.layers.Layer, where: str = "") -> PlainForm:
    form = plain_or_refused(layer, where)
    kind = form.layer_class
    left = kind is not None and (
        keras.saving.get_registered_name(kind).startswith(f"{PACKAGE}>")
        or f"'{PACKAGE}" in str(form.config)
    )
    check.require(
        not left,
        "model",
        "a model in which every layer of keras_local has a plain form",
        f"{type(layer).__name__} {layer.name!r}{where}",
    )
    return form


def _made(layer: keras.layers.Layer, form: PlainForm) -> Any:
    if form.layer_class is None:
        return _Pass()
    if form.layer_class is type(layer) and form.config == layer.get_config():
        return copy_of(layer)
    return form.layer_class.from_config(form.config)


def _with_operations(wrapper: Any, form: PlainForm, new: Any) -> keras.Model:
    """Return a layer and the operations around it as one model, for a wrapper."""
    timed = isinstance(wrapper, keras.layers.TimeDistributed)
    described = f"{type(wrapper.layer).__name__} inside of {type(wrapper).__name__}"
    allowed = "a model whose layers with operations around them stand alone or in TimeDistributed"
    check.require(timed, "model", allowed, described)
    batch, _, *shape = wrapper.input.shape
    inputs = keras.Input(batch_shape=(batch, *shape), dtype=wrapper.input.dtype)
    before = inputs if form.before is None else form.before(inputs)
    outputs = new(before)
    if form.behind is not None:
        outputs = form.behind(outputs, before)
    return keras.Model(inputs, outputs, name=wrapper.layer.name)


class _Pass:
    """A layer that replaces a removed layer, at its own place in the graph."""

    def call(self, inputs: Any, **_: Any) -> Any:
        return inputs

    __call__ = call
